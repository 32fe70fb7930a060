"""The benchmarks and suites by name, from `configs/eval`."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

import yaml

from mifo_ext.eval.record import AnswerKind

CONFIG_PACKAGE = "mifo_ext.configs"


@dataclass(frozen=True)
class Benchmark:
    """A set of questions that is evaluated as a whole.

    Attributes:
        name: what the command line and every result call it.
        title: what a table's head says.
        about: what it is, in a sentence.
        hub: id of the data set on the hub; None for the embedded world.
        revision: commit on the hub; None for the newest.
        file: path inside the data set, or inside the world's folder.
        config: what the hub calls this part of the data set; None for the only one.
        split: the hub's split, also that of a local folder.
        rows: different questions of a whole copy.
        repeats: the published rows themselves hold some questions twice, so rows are counted.
        contents: hash of the content of each known copy, by the copy's name.
        samples: for each question, unless the command line says otherwise.
        kind: how its answers read.
        private: its authors ask not to show the questions in plain text.
        gated: the hub asks to accept terms before it can be downloaded.
        labels: what a file of several benchmarks may call this one, besides its name and hub id.
        groups: columns for the breakdown by subject or level; the first that a file has counts.
    """

    name: str
    title: str
    about: str
    hub: str | None
    file: str
    rows: int
    samples: int
    revision: str | None = None
    config: str | None = None
    split: str = "test"
    repeats: bool = False
    contents: Mapping[str, str] = field(default_factory=dict)
    kind: AnswerKind = "math"
    private: bool = False
    gated: bool = False
    labels: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()

    def is_called(self, label: str) -> bool:
        """Whether a row with this label is one of ours; `world/sum/3` is called `world`."""
        names = {name.casefold() for name in (self.name, self.hub or self.name, *self.labels)}
        label = label.casefold()
        return label in names or label.split("/")[0] == self.name


@dataclass(frozen=True)
class Suite:
    """Benchmarks that belong together, and how they are asked.

    Attributes:
        name: what the command line calls it.
        title: what a report's head says.
        benchmarks: names, in the order of the tables.
        template: name of the prompt template, unless the command line says otherwise.
        temperature: of sampling; likewise.
        top_p: of sampling; likewise.
        max_tokens: most new tokens of a response; likewise.
    """

    name: str
    title: str
    benchmarks: tuple[str, ...]
    template: str
    temperature: float
    top_p: float
    max_tokens: int


@cache
def benchmarks() -> dict[str, Benchmark]:
    """The benchmarks of `benchmarks.yaml`, by name."""
    return {
        name: Benchmark(name=name, **{key: _frozen(value) for key, value in entry.items()})
        for name, entry in entries("benchmarks.yaml").items()
    }


@cache
def suites() -> dict[str, Suite]:
    """The suites of `suites.yaml`, by name."""
    return {
        name: Suite(name=name, **{key: _frozen(value) for key, value in entry.items()})
        for name, entry in entries("suites.yaml").items()
    }


def chosen(names: Iterable[str]) -> list[Benchmark]:
    """Return the benchmarks that a command line asks for, each once.

    Args:
        names: of suites and benchmarks, in any order and mixture.

    Returns:
        The benchmarks in the order asked for.

    Raises:
        ValueError: when no name is given, or for unknown names; the known ones are listed.
    """
    asked = list(names)
    unknown = [name for name in asked if name not in suites() and name not in benchmarks()]
    if unknown:
        raise ValueError(" ".join(map(_unknown, dict.fromkeys(unknown))) + " " + _known())
    if not asked:
        raise ValueError(f"At least one suite or benchmark must be named, but none is. {_known()}")
    wanted = [
        member
        for name in asked
        for member in (suites()[name].benchmarks if name in suites() else [name])
    ]
    return [benchmarks()[name] for name in dict.fromkeys(wanted)]


def entries(file: str) -> dict[str, dict[str, Any]]:
    """Read a file of `configs/eval`: entries by name."""
    text = (resources.files(CONFIG_PACKAGE) / "eval" / file).read_text(encoding="utf-8")
    parsed: dict[str, dict[str, Any]] = yaml.safe_load(text)
    return parsed


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ` Did you mean …?`, or nothing when no known name is near."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f" Did you mean {near[0]}?" if near else ""


def _unknown(name: str) -> str:
    return f"Unknown benchmark {name!r}." + did_you_mean(name, [*suites(), *benchmarks()])


def _known() -> str:
    return f"Suites: {', '.join(suites())}. Benchmarks: {', '.join(benchmarks())}."


def _frozen(value: object) -> Any:
    """A list of YAML as a tuple, so that a frozen class holds nothing that can change."""
    return tuple(value) if isinstance(value, list) else value
