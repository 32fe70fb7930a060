"""What is to be drawn: every problem, in its template, so many times."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

from mifo_ext.eval.loading import Loaded
from mifo_ext.eval.record import Place, Problem, Request, Sampling, request_key
from mifo_ext.eval.templates import Template, render


class Asking(NamedTuple):
    """How one benchmark is asked.

    Attributes:
        loaded: its problems and where they came from.
        template: how a question becomes a prompt.
        sampling: how responses are drawn.
        samples: for each problem.
    """

    loaded: Loaded
    template: Template
    sampling: Sampling
    samples: int


@dataclass(frozen=True)
class Plan:
    """Everything that one checkpoint is to be asked, in order.

    Attributes:
        askings: by benchmark.
    """

    askings: Mapping[str, Asking]

    @property
    def problems(self) -> list[Problem]:
        """Every problem of every benchmark."""
        return [problem for asking in self.askings.values() for problem in asking.loaded.problems]

    @property
    def samples(self) -> dict[str, int]:
        """Samples for each problem, by benchmark."""
        return {name: asking.samples for name, asking in self.askings.items()}

    def thinks(self, benchmark: str) -> bool:
        """Whether a response of this benchmark starts inside a thinking part."""
        return self.askings[benchmark].template.thinking

    def places(self) -> list[Place]:
        """Every planned sample, in order."""
        return [
            Place(name, problem.id, number)
            for name, asking in self.askings.items()
            for problem in asking.loaded.problems
            for number in range(asking.samples)
        ]

    def requests(self) -> Iterator[Request]:
        """Every planned sample with its prompt; those of a problem follow each other."""
        for name, asking in self.askings.items():
            sampling = replace(asking.sampling, stop=(*asking.sampling.stop, *asking.template.stop))
            for problem in asking.loaded.problems:
                prompt = render(asking.template, problem.question)
                key = request_key(prompt, sampling)
                for number in range(asking.samples):
                    yield Request(Place(name, problem.id, number), prompt, sampling, key)

    def prompts(self) -> list[str]:
        """One prompt a problem."""
        return [
            render(asking.template, problem.question)
            for asking in self.askings.values()
            for problem in asking.loaded.problems
        ]

    def record(self) -> dict[str, Any]:
        """What `run.json` says about it."""
        return {
            name: {
                "problems": len(asking.loaded.problems),
                "samples": asking.samples,
                "content": asking.loaded.content,
                "copy": asking.loaded.copy,
                "source": asking.loaded.source,
                "notes": list(asking.loaded.notes),
                "private": asking.loaded.benchmark.private,
                "sampling": asdict(asking.sampling),
                "template": {**asdict(asking.template), "thinking": asking.template.thinking},
            }
            for name, asking in self.askings.items()
        }


def check_context(plan: Plan, *, prompt_tokens: Sequence[int], model_context: int | None) -> int:
    """Return the longest a prompt and its response can get together.

    Args:
        plan: what is to be drawn.
        prompt_tokens: length of each problem's prompt, in the plan's order.
        model_context: tokens that the model was made for; None if it does not say.

    Raises:
        ValueError: when a response could outgrow the model.
    """
    caps = [
        (asking.sampling.max_tokens, name)
        for name, asking in plan.askings.items()
        for _ in asking.loaded.problems
    ]
    totals = [
        (length + cap, length, name)
        for length, (cap, name) in zip(prompt_tokens, caps, strict=True)
    ]
    longest, prompt, name = max(totals)
    if model_context is not None and longest > model_context:
        raise ValueError(
            f"`--max-tokens` must leave room for the prompt, but a prompt of {name} has {prompt} "
            f"tokens, its response may have {longest - prompt}, and the model's context is "
            f"{model_context}. Give --max-tokens {max(model_context - max(prompt_tokens), 1)}, or "
            "stretch the model with `mifo prepare model --max-position`."
        )
    return longest
