"""A sampler without a model: what it answers follows from a request's seed alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mifo_ext.eval.catalogue import Benchmark
from mifo_ext.eval.checkpoint import Checkpoint
from mifo_ext.eval.loading import Loaded
from mifo_ext.eval.plan import Asking, Plan
from mifo_ext.eval.record import Problem, Request, Sample, Sampling
from mifo_ext.eval.sampler import SamplerError, finished
from mifo_ext.eval.templates import template_named


@dataclass
class ScriptedSampler:
    """Answers out of order, right about every third time, and dies when told to.

    Attributes:
        dies_after: samples, or never.
        drawn: how many were.
        closed: `close` was called.
    """

    dies_after: int | None = None
    drawn: list[Request] = field(default_factory=list)
    closed: bool = False

    def draw(self, requests: Iterable[Request]) -> Iterator[list[Sample]]:
        """Answer three requests at a time, the last of them first."""
        waiting = list(requests)
        while waiting:
            taken, waiting = waiting[:3], waiting[3:]
            if self.dies_after is not None and len(self.drawn) + len(taken) > self.dies_after:
                raise SamplerError("The engine died: told to.")
            self.drawn += taken
            yield [self.answer(request) for request in reversed(taken)]

    def answer(self, request: Request) -> Sample:
        """A response that names the seed, and is right when three divides it."""
        right = request.seed % 3 == 0
        text = f"seed {request.seed}\u2028 \\boxed{{{7 if right else 8}}}"
        return finished(request, response=text, tokens=5 + request.seed % 9, finish="stop")

    def close(self) -> None:
        """Remember that it was asked."""
        self.closed = True


def make_plan(*, problems: int = 6, samples: int = 4, sampling: Sampling | None = None) -> Plan:
    """Two benchmarks whose every gold is 7."""
    askings = {}
    for name in ("first", "second"):
        benchmark = Benchmark(
            name=name, title=name, about="", hub=None, file="", rows=problems, samples=samples
        )
        questions = [
            Problem(name, f"p{number}", f"Which of {name}, number {number}?", "7")
            for number in range(problems)
        ]
        loaded = Loaded(benchmark, questions, "c" * 64, None, {}, [])
        askings[name] = Asking(
            loaded, template_named("no"), sampling or Sampling(max_tokens=64), samples
        )
    return Plan(askings)


def checkpoint(identity: str = "weights") -> Checkpoint:
    """A checkpoint that is only a name."""
    return Checkpoint("model", "some/model", Path("nowhere"), identity, "folder")
