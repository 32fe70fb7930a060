"""What the tables of an evaluation are made of: runs side by side, figures as cells."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from mifo_ext.eval.results import BenchmarkResult, Estimate, RunResult

NONE = "\N{EM DASH}"


class Named(NamedTuple):
    """A figure and its full name, such as `avg@32`."""

    name: str
    text: str


def named_column(cells: Sequence[Named | None]) -> tuple[str, list[str]]:
    """A heading and its cells: the name is in the heading if all cells share it."""
    names = list(dict.fromkeys(cell.name for cell in cells if cell))
    if len(names) == 1:
        return names[0], [cell.text if cell else "" for cell in cells]
    kind = names[0].partition("@")[0] if names else ""
    return f"{kind}@k", [f"{cell.name}  {cell.text}" if cell else "" for cell in cells]


def row_of_named(cells: Sequence[Named | None]) -> list[str]:
    """A row's shared figure name, then its cells: with a name each where those differ."""
    names = list(dict.fromkeys(cell.name for cell in cells if cell))
    if len(names) == 1:
        return [names[0], *(cell.text if cell else NONE for cell in cells)]
    return ["", *(f"{cell.name}  {cell.text}" if cell else NONE for cell in cells)]


def at_k(kind: str, values: Mapping[int, float], k: int) -> Named | None:
    """One of several samples: nothing for k = 1."""
    # Of one sample, pass@1 and maj@1 are avg@1 once more.
    return Named(f"{kind}@{k}", percent(values.get(k))) if k > 1 else None


def interval(estimate: Estimate) -> str:
    """A share in per cent with its 95 % interval."""
    value, low, high = (f"{100 * part:.1f}" for part in estimate)
    return f"{value} [{low}, {high}]"


def points(difference: Estimate) -> str:
    """A difference of shares in points, signed, with its 95 % interval."""
    value, low, high = (f"{100 * part:+.1f}" for part in difference)
    return f"{value} [{low}, {high}]"


def percent(share: float | None) -> str:
    """A share in per cent."""
    return NONE if share is None else f"{100 * share:.1f}"


def rate(share: float | None) -> str:
    """A rate in per cent: a lone 0 only where there was not a single one."""
    if share is None:
        return NONE
    if share == 0:
        return "0"
    return f"{100 * share:.1f}" if share >= 0.001 else "< 0.1"


def tokens(count: float | None) -> str:
    """A number of tokens."""
    return NONE if count is None else f"{count:,.0f}"


def probability(p: float) -> str:
    """A p value; below a thousandth, only that."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def run_names(results: Sequence[RunResult]) -> list[str]:
    """What each run is called beside the others: with its grader where graders differ.

    Args:
        results: one run or several.

    Raises:
        ValueError: no run, or two of the same name and grader.
    """
    if not results:
        raise ValueError("`results` must be one run or more, but is empty. Evaluate one first.")
    same_grader = len({run.grader for run in results}) == 1
    names = [run.name if same_grader else f"{run.name} ({run.grader})" for run in results]
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if twice:
        raise ValueError(
            f"`results` must have names of their own, but {', '.join(map(repr, twice))} stands "
            "for several. Rename all but one."
        )
    return names


class NamedResult(NamedTuple):
    """A run's name in this report, and its figures on one benchmark."""

    name: str
    result: BenchmarkResult


def by_benchmark(results: Sequence[RunResult], names: Sequence[str]) -> list[NamedResult]:
    """All results, those of one benchmark after each other."""
    return [
        NamedResult(name, found)
        for benchmark in benchmarks_of(results)
        for name, run in zip(names, results, strict=True)
        if (found := find(run, benchmark)) is not None
    ]


def benchmarks_of(results: Iterable[RunResult]) -> list[str]:
    """Every benchmark that a run was asked, in the order of the first that was."""
    return list(dict.fromkeys(one.benchmark for run in results for one in run.benchmarks))


def find(run: RunResult, benchmark: str) -> BenchmarkResult | None:
    """A run's figures on a benchmark, or None where it was not asked."""
    return next((one for one in run.benchmarks if one.benchmark == benchmark), None)
