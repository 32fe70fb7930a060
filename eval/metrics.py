"""From samples and grades to the figures of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple, TypeVar

import numpy as np

from mifo_ext.eval.estimates import average_of, mean_interval, mean_of, pass_at
from mifo_ext.eval.record import GradeLine, Place, Problem, Sample
from mifo_ext.eval.results import BenchmarkResult, Estimate, Lengths, RunResult
from mifo_ext.eval.voting import SAMPLES_AT_MOST, clusters, majority_curve
from mifo_ext.grading.record import VERDICTS

TRUNCATED = "truncated"
_Record = TypeVar("_Record", Sample, GradeLine)
_RATED = tuple(verdict for verdict in VERDICTS if verdict not in ("correct", "wrong"))


class MissingSamples(ValueError):  # noqa: N818  (a condition, as StopIteration is)
    """Planned samples or their grades are not there, and nobody allowed that.

    A missing sample is neither right nor wrong. Counted as wrong it halves a score for each
    doubling of k (lighteval issue 771).
    """


class _Graded(NamedTuple):
    """A sample with what the grader said of it."""

    sample: Sample
    line: GradeLine

    @property
    def correct(self) -> bool:
        return self.line.verdict == "correct"


def run_result(
    name: str,
    *,
    grader: str,
    problems: Sequence[Problem],
    samples: Iterable[Sample],
    grades: Iterable[GradeLine],
    planned: Mapping[str, int],
    allow_missing: bool = False,
) -> RunResult:
    """Compute every figure of a run under one grader.

    Args:
        name: what the run is called.
        grader: whose verdicts `grades` are.
        problems: of all benchmarks.
        samples: one for each planned place, in any order.
        grades: one for each sample, in any order.
        planned: samples for each problem, by benchmark in the suite's order.
        allow_missing: go on without the samples that are not there. Problems without any are left
            out, the others use what they have, and pass@j and maj@j end at the smallest count.

    Returns:
        The figures, benchmarks in the order of `planned`.

    Raises:
        MissingSamples: a planned sample or its grade is not there, without `allow_missing`.
        ValueError: doubles, samples outside the plan, grades without a sample, a plan that does
            not fit the problems, or a benchmark with nothing at all.
    """
    places = _planned_places(problems, planned)
    by_place = _by_place(samples, what="sample")
    line_by_place = _by_place(grades, what="grade")
    _refuse_strangers(by_place, places, why="are not planned. Leave them out, or plan for them.")
    _refuse_strangers(line_by_place, by_place, why="have a grade but no sample. Grade again.")
    if not allow_missing:
        _refuse_missing(places, by_place, line_by_place)
    graded: dict[str, dict[Problem, list[_Graded]]] = {benchmark: {} for benchmark in planned}
    for problem in problems:
        names = (Place(problem.benchmark, problem.id, n) for n in range(planned[problem.benchmark]))
        drawn = [
            _Graded(by_place[name], line_by_place[name]) for name in names if name in line_by_place
        ]
        graded[problem.benchmark][problem] = drawn
    results = [_benchmark_result(name, graded[name], count=planned[name]) for name in planned]
    average = average_of([one.accuracy for one in results]) if len(results) > 1 else None
    return RunResult(name=name, grader=grader, benchmarks=results, average=average)


def to_json(result: RunResult) -> dict[str, Any]:
    """Write a result as plain JSON values: intervals by name, whole-number keys as text."""
    written = asdict(result)
    written["average"] = result.average and result.average._asdict()
    for one, line in zip(result.benchmarks, written["benchmarks"], strict=True):
        line["accuracy"] = one.accuracy._asdict()
        line["groups"] = {group: estimate._asdict() for group, estimate in one.groups.items()}
        line["lengths"] = {kind: asdict(lengths) for kind, lengths in one.lengths.items()}
        for curve in ("passes", "majorities"):
            line[curve] = {str(j): share for j, share in line[curve].items()}
    return written


def from_json(written: Mapping[str, Any]) -> RunResult:
    """Read what `to_json` wrote.

    Raises:
        ValueError: a field is missing, or there is one too many.
    """
    try:
        benchmarks = [_read_benchmark(line) for line in written["benchmarks"]]
        average = written["average"] and Estimate(**written["average"])
        return RunResult(**{**written, "benchmarks": benchmarks, "average": average})
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"`written` must be a result as `to_json` writes it, but is not: {error}. "
            "Compute the metrics again."
        ) from error


def _read_benchmark(line: Mapping[str, Any]) -> BenchmarkResult:
    return BenchmarkResult(
        **{
            **line,
            "accuracy": Estimate(**line["accuracy"]),
            "passes": {int(j): share for j, share in line["passes"].items()},
            "majorities": {int(j): share for j, share in line["majorities"].items()},
            "lengths": {kind: Lengths(**own) for kind, own in line["lengths"].items()},
            "groups": {group: Estimate(**own) for group, own in line["groups"].items()},
        }
    )


def _benchmark_result(
    benchmark: str, graded: Mapping[Problem, Sequence[_Graded]], *, count: int
) -> BenchmarkResult:
    answered = {problem: drawn for problem, drawn in graded.items() if drawn}
    if not answered:
        raise MissingSamples(f"`samples` must hold some of {benchmark}, but hold none.")
    everything = [one for drawn in answered.values() for one in drawn]
    shares = {problem: _share(drawn) for problem, drawn in answered.items()}
    series = _series(min(len(drawn) for drawn in answered.values()))
    return BenchmarkResult(
        benchmark=benchmark,
        problems=len(answered),
        samples=count,
        coverage=len(everything) / (count * len(graded)),
        accuracy=mean_interval(list(shares.values())),
        passes={j: mean_of([_pass(j, drawn) for drawn in answered.values()]) for j in series},
        majorities=_majorities(answered, series),
        lengths=_lengths(everything),
        rates=_rates(everything),
        groups=_groups(shares),
        per_problem={problem.id: share for problem, share in shares.items()},
    )


def _series(count: int) -> list[int]:
    """1, 2, 4, … below `count`, and `count` itself."""
    return [*(2**power for power in range((count - 1).bit_length())), count]


def _share(drawn: Sequence[_Graded]) -> float:
    return sum(one.correct for one in drawn) / len(drawn)


def _pass(j: int, drawn: Sequence[_Graded]) -> float:
    return pass_at(j, right=sum(one.correct for one in drawn), drawn=len(drawn))


def _majorities(
    answered: Mapping[Problem, Sequence[_Graded]], series: Sequence[int]
) -> dict[int, float]:
    """maj@j over problems.

    Empty for a grader that judges without naming answers, and beyond what `voting` can count.
    """
    if max(len(drawn) for drawn in answered.values()) > SAMPLES_AT_MOST:
        return {}
    lines = [one.line for drawn in answered.values() for one in drawn]
    judged = [line for line in lines if line.verdict in ("correct", "wrong")]
    if judged and all(line.extracted is None for line in judged):
        return {}
    curves = [
        majority_curve(
            series,
            clusters([_answer(one, problem) for one in drawn]),
            [one.correct for one in drawn],
        )
        for problem, drawn in answered.items()
    ]
    return {j: mean_of([curve[j] for curve in curves]) for j in series}


def _answer(one: _Graded, problem: Problem) -> str | None:
    """What a sample votes for; one that is correct without a named answer said the gold."""
    if one.line.verdict == "no_answer":
        return None
    if one.correct and one.line.extracted is None:
        return problem.gold
    return one.line.extracted


def _lengths(everything: Sequence[_Graded]) -> dict[str, Lengths]:
    return {
        "all": _lengths_of([one.sample.tokens for one in everything]),
        "correct": _lengths_of([one.sample.tokens for one in everything if one.correct]),
        "wrong": _lengths_of([one.sample.tokens for one in everything if not one.correct]),
    }


def _lengths_of(tokens: Sequence[int]) -> Lengths:
    if not tokens:
        return Lengths(0, None, None, None)
    median, p95 = np.percentile(tokens, [50, 95])
    return Lengths(len(tokens), sum(tokens) / len(tokens), float(median), float(p95))


def _rates(everything: Sequence[_Graded]) -> dict[str, float]:
    verdicts = Counter(one.line.verdict for one in everything)
    truncated = sum(one.sample.finish == "length" for one in everything)
    counts = [(TRUNCATED, truncated), *((verdict, verdicts[verdict]) for verdict in _RATED)]
    return {kind: number / len(everything) for kind, number in counts}


def _groups(shares: Mapping[Problem, float]) -> dict[str, Estimate]:
    """Accuracy by group, in the order of the groups' names; without a group none."""
    members: dict[str, list[float]] = {}
    for problem, share in shares.items():
        if problem.group:
            members.setdefault(problem.group, []).append(share)
    return {group: mean_interval(members[group]) for group in sorted(members)}


def _planned_places(problems: Sequence[Problem], planned: Mapping[str, int]) -> set[Place]:
    """Every place that the plan names."""
    asked = {problem.benchmark for problem in problems}
    if set(planned) != asked or not planned:
        raise ValueError(
            f"`planned` must name the benchmarks of `problems`, {', '.join(sorted(asked))}, "
            f"but names {', '.join(sorted(planned)) or 'none'}."
        )
    for benchmark, count in planned.items():
        if count < 1:
            raise ValueError(f"`planned` must be at least 1, but is {count} for {benchmark}.")
    doubles = Counter((problem.benchmark, problem.id) for problem in problems)
    if doubled := [key for key, number in doubles.items() if number > 1]:
        raise ValueError(f"`problems` must have ids of their own, but share {doubled[0]}.")
    return {
        Place(problem.benchmark, problem.id, number)
        for problem in problems
        for number in range(planned[problem.benchmark])
    }


def _by_place(records: Iterable[_Record], *, what: str) -> dict[Place, _Record]:
    found: dict[Place, _Record] = {}
    for record in records:
        if record.place in found:
            raise ValueError(
                f"`{what}s` must be one for each place, but {tuple(record.place)} has two. "
                "Keep the one that belongs to this run."
            )
        found[record.place] = record
    return found


def _refuse_strangers(places: Iterable[Place], known: Collection[Place], *, why: str) -> None:
    strangers = [place for place in places if place not in known]
    if strangers:
        raise ValueError(f"{len(strangers)} samples, first {tuple(min(strangers))}, {why}")


def _refuse_missing(
    places: Iterable[Place], samples: Collection[Place], grades: Collection[Place]
) -> None:
    """Name how much of which benchmark is not there."""
    planned: Counter[str] = Counter()
    undrawn: Counter[str] = Counter()
    ungraded: Counter[str] = Counter()
    for place in places:
        planned[place.benchmark] += 1
        undrawn[place.benchmark] += place not in samples
        ungraded[place.benchmark] += place in samples and place not in grades
    gaps = [
        f"{gap[benchmark]} of {planned[benchmark]} in {benchmark} {state}"
        for benchmark in sorted(planned)
        for gap, state in ((undrawn, "are missing"), (ungraded, "have no grade"))
        if gap[benchmark]
    ]
    if gaps:
        raise MissingSamples(
            f"Every planned sample must be there and graded, but {'; '.join(gaps)}. "
            "Continue the evaluation, or set `allow_missing` to go on without them."
        )
