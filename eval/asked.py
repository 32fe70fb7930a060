"""From what a command line asks for to a plan; everything wrong with it is said before a start."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mifo_ext.eval.catalogue import Benchmark, Suite, benchmarks, chosen, suites
from mifo_ext.eval.loading import load
from mifo_ext.eval.plan import Asking, Plan
from mifo_ext.eval.record import Sampling
from mifo_ext.eval.templates import TOKENIZER, Template, from_tokenizer, template_named
from mifo_ext.grading import GRADERS


@dataclass(frozen=True)
class Asked:
    """What to evaluate, in the words of the command line; None leaves it to the suite.

    Attributes:
        suites: names of suites and benchmarks.
        template: name of a template, for every benchmark.
        samples: for each problem.
        limit: problems of each benchmark, a fixed choice by `seed`.
        temperature: of sampling.
        top_p: of sampling.
        max_tokens: most new tokens of a response.
        seed: of the whole evaluation.
        data: a file for a benchmark by name; under "" one that holds several.
        graders: whose verdicts are asked for.
    """

    suites: tuple[str, ...]
    template: str | None = None
    samples: int | None = None
    limit: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    seed: int = 0
    data: Mapping[str, Path] | None = None
    graders: tuple[str, ...] = ("strict",)

    def check(self) -> None:
        """Check everything that needs neither data nor a model.

        Raises:
            ValueError: with every problem in it.
        """
        problems = [text for text in self._problems() if text]
        if problems:
            raise ValueError("\n  ".join(["The evaluation cannot start:", *problems]))

    def _problems(self) -> list[str | None]:
        names = [name for name in (self.data or {}) if name]
        return [
            _said(lambda: chosen(self.suites)),
            _said(lambda: self.template in (None, TOKENIZER) or template_named(str(self.template))),
            *(_said(partial(chosen, [name])) for name in names),
            *(
                f"Unknown grader {name!r}. Graders: {', '.join(GRADERS)}."
                for name in self.graders
                if name not in GRADERS
            ),
            _below("--samples", self.samples, 1),
            _below("--limit", self.limit, 1),
            _below("--max-tokens", self.max_tokens, 1),
            _below("--temperature", self.temperature, 0),
            None
            if self.top_p is None or 0 < self.top_p <= 1
            else f"`--top-p` must be in (0, 1], but is {self.top_p}.",
            "`--samples` must be 1 at temperature 0, where all samples are the same, but is "
            f"{self.samples}."
            if self.temperature == 0 and (self.samples or 1) > 1
            else None,
        ]


def make_plan(asked: Asked, *, tokenizer: Callable[[], Any]) -> Plan:
    """Load every benchmark asked for.

    Args:
        asked: checked already.
        tokenizer: reads the checkpoint's; called only for the template of that name.

    Raises:
        ValueError: when a benchmark is not what it should be, or the tokenizer has no template.
        FileNotFoundError: when data is not there.
    """
    askings = {}
    for benchmark in chosen(asked.suites):
        suite = suite_of(benchmark, asked.suites)
        name = asked.template or suite.template
        template = from_tokenizer(tokenizer()) if name == TOKENIZER else template_named(name)
        askings[benchmark.name] = _asking(benchmark, suite, template, asked)
    return Plan(askings)


def suite_of(benchmark: Benchmark, asked: Sequence[str]) -> Suite:
    """The suite whose settings a benchmark is asked with.

    Args:
        benchmark: any.
        asked: what the command line named; a suite of these counts first.
    """
    ordered = [suites()[name] for name in asked if name in suites()] + list(suites().values())
    of_it = (suite for suite in ordered if benchmark.name in suite.benchmarks)
    return next(of_it, suites()["math"])


def _asking(benchmark: Benchmark, suite: Suite, template: Template, asked: Asked) -> Asking:
    data = asked.data or {}
    loaded = load(
        benchmark,
        path=data.get(benchmark.name, data.get("")),
        limit=asked.limit,
        seed=asked.seed,
    )
    temperature = suite.temperature if asked.temperature is None else asked.temperature
    sampling = Sampling(
        temperature=temperature,
        top_p=suite.top_p if asked.top_p is None else asked.top_p,
        max_tokens=asked.max_tokens or suite.max_tokens,
        seed=asked.seed,
    )
    greedy = 1 if temperature == 0 else benchmark.samples
    return Asking(loaded, template, sampling, asked.samples or greedy)


def read_data(words: Sequence[str]) -> dict[str, Path]:
    """Read `NAME=FILE` or `FILE` words.

    Raises:
        ValueError: when a name is given twice.
        FileNotFoundError: when a file is not there.
    """
    found: dict[str, Path] = {}
    for word in words:
        name, equals, path = word.partition("=")
        if not equals or name not in benchmarks():
            name, path = ("", word) if not equals or Path(word).exists() else (name, path)
        if name in found:
            raise ValueError(f"`--data` must name {name or 'a common file'} once, but does twice.")
        if not Path(path).expanduser().exists():
            raise FileNotFoundError(f"`--data` must name a file or folder, but {path} is none.")
        found[name] = Path(path).expanduser()
    return found


def _said(check: Callable[[], object]) -> str | None:
    try:
        check()
    except ValueError as error:
        return str(error)
    return None


def _below(option: str, value: float | None, least: float) -> str | None:
    if value is None or value >= least:
        return None
    return f"`{option}` must be at least {least}, but is {value}."
