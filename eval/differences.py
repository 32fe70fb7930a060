"""Comparing runs: paired by problem, so that what makes problems hard cancels out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from mifo_ext.eval.estimates import average_of, holm, paired_interval, permutation_p
from mifo_ext.eval.results import BenchmarkResult, Difference, RunResult

AVERAGE = "average"


class _Paired(NamedTuple):
    """One benchmark that two runs share: differences by problem, those of shared ids only."""

    benchmark: str
    values: list[float]


def differences(results: Sequence[RunResult], *, seed: int = 0) -> list[Difference]:
    """Compare every run with the last one.

    Runs may have different numbers of samples for a problem: the accuracies remain without bias,
    and the interval sees what noise fewer samples add. Pass@k is not compared.

    Args:
        results: the runs, the reference last, all under one grader.
        seed: of the permutation tests.

    Returns:
        For each run the benchmarks that it shares with the reference, in the reference's order,
        then their unweighted average where there are several. Holm's correction is over the
        benchmarks of one run; the average is one test of its own.

    Raises:
        ValueError: fewer than two runs, runs of one name or of different graders, runs without a
            benchmark in common, or a common benchmark without a common problem.
    """
    _require_comparable(results)
    *runs, reference = results
    return [row for run in runs for row in _against(run, reference, seed=seed)]


def _against(run: RunResult, reference: RunResult, *, seed: int) -> list[Difference]:
    pairs = _shared(run, reference)
    intervals = [paired_interval(pair.values) for pair in pairs]
    ps = [permutation_p(pair.values, seed=seed) for pair in pairs]
    rows = [
        Difference(
            run=run.name,
            reference=reference.name,
            benchmark=pair.benchmark,
            problems=len(pair.values),
            difference=interval,
            p=p,
            p_holm=p_holm,
        )
        for pair, interval, p, p_holm in zip(pairs, intervals, ps, holm(ps), strict=True)
    ]
    if len(rows) > 1:
        # The average's sum over problems, in which those of a small benchmark weigh more.
        weighted = [value / len(pair.values) for pair in pairs for value in pair.values]
        average = Difference(
            run=run.name,
            reference=reference.name,
            benchmark=AVERAGE,
            problems=len(weighted),
            difference=average_of(intervals),
            p=permutation_p(weighted, seed=seed),
            p_holm=None,
        )
        rows.append(average)
    return rows


def _shared(run: RunResult, reference: RunResult) -> list[_Paired]:
    theirs = {result.benchmark: result for result in run.benchmarks}
    pairs = [
        _paired(theirs[own.benchmark], own, run=run.name, reference=reference.name)
        for own in reference.benchmarks
        if own.benchmark in theirs
    ]
    if not pairs:
        raise ValueError(
            f"{run.name!r} and {reference.name!r} must share a benchmark, but have "
            f"{_listed(run)} and {_listed(reference)}. Evaluate both on the same suite."
        )
    return pairs


def _paired(
    result: BenchmarkResult, other: BenchmarkResult, *, run: str, reference: str
) -> _Paired:
    shared = [problem for problem in other.per_problem if problem in result.per_problem]
    if not shared:
        raise ValueError(
            f"{run!r} and {reference!r} must share problems of {other.benchmark}, but share none. "
            "Evaluate both on the same data."
        )
    values = [result.per_problem[problem] - other.per_problem[problem] for problem in shared]
    return _Paired(other.benchmark, values)


def _require_comparable(results: Sequence[RunResult]) -> None:
    if len(results) < 2:
        raise ValueError(f"`results` must be at least two runs, but are {len(results)}.")
    names = [result.name for result in results]
    if len(set(names)) < len(names):
        raise ValueError(f"`results` must have names of their own, but are {', '.join(names)}.")
    graders = {result.name: result.grader for result in results}
    if len(set(graders.values())) > 1:
        told = ", ".join(f"{name} by {grader}" for name, grader in graders.items())
        raise ValueError(
            f"`results` must be of one grader, but are {told}. Grade the stored samples again."
        )


def _listed(run: RunResult) -> str:
    return ", ".join(result.benchmark for result in run.benchmarks) or "none"
