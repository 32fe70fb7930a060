"""The figures of an evaluation, as the terminal, the files and the page show them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple


class Estimate(NamedTuple):
    """A figure with its 95 % interval.

    Attributes:
        value: the figure, a share in [0, 1] or a difference of shares in [-1, 1].
        low: lower end; equal to `high` only where nothing is uncertain.
        high: upper end.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Lengths:
    """Response lengths in tokens over one kind of response.

    Attributes:
        count: responses of this kind.
        mean: their mean; None when there are none, as for the others.
        median: their median.
        p95: their 95th percentile.
    """

    count: int
    mean: float | None
    median: float | None
    p95: float | None


@dataclass(frozen=True)
class BenchmarkResult:
    """One benchmark under one grader.

    Attributes:
        benchmark: its name.
        problems: how many were asked.
        samples: planned for each problem; the k of avg@k.
        coverage: share of the planned samples that are there.
        accuracy: avg@k, its interval clustered by problem.
        passes: unbiased pass@j by j = 1, 2, 4, … k.
        majorities: maj@j by j = 1, 2, 4, … k, votes counted by equivalence of answers.
        lengths: in tokens, of `all`, `correct` and `wrong` responses (wrong: all others).
        rates: share of responses that were `truncated`, and of each verdict but `correct` and
            `wrong`.
        groups: accuracy by subject or level; empty if the benchmark has none.
        per_problem: share of right samples of each problem, by its id.
    """

    benchmark: str
    problems: int
    samples: int
    coverage: float
    accuracy: Estimate
    passes: dict[int, float]
    majorities: dict[int, float]
    lengths: dict[str, Lengths]
    rates: dict[str, float]
    groups: dict[str, Estimate] = field(default_factory=dict)
    per_problem: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class RunResult:
    """A checkpoint on every benchmark that it was asked.

    Attributes:
        name: what the run is called.
        grader: whose verdicts these are.
        benchmarks: in the suite's order.
        average: unweighted mean of the accuracies; None for a single benchmark.
    """

    name: str
    grader: str
    benchmarks: list[BenchmarkResult]
    average: Estimate | None


@dataclass(frozen=True)
class Difference:
    """One run against the reference on one benchmark, paired by problem.

    Attributes:
        run: name of the run.
        reference: name of the run that it is compared with.
        benchmark: name of the benchmark, or `average`.
        problems: that both answered.
        difference: accuracy of `run` minus that of `reference`.
        p: of a permutation test that swaps the runs within problems.
        p_holm: the same, corrected for the number of benchmarks; None for the average.
    """

    run: str
    reference: str
    benchmark: str
    problems: int
    difference: Estimate
    p: float
    p_holm: float | None
