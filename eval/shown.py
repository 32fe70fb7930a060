"""The samples that a page shows: chosen evenly, the same ones every time, clipped in the middle."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import NamedTuple, TypeVar

from mifo_ext.eval.record import Finish, GradeLine, Place, Problem, Sample
from mifo_ext.grading.record import Verdict

Key = TypeVar("Key", bound=Hashable)

SAMPLES_AT_MOST = 2_000
LONGEST_TEXT = 20_000
TEXT_AT_MOST = 16_000_000
_SHORTEST_CLIP = 1_000


class Shown(NamedTuple):
    """One sample as the page shows it.

    Attributes:
        run: name of the run.
        benchmark: name of the benchmark.
        problem: the problem's id.
        sample: number of the sample, from 0.
        question: what was asked.
        gold: the answer that was graded against.
        response: what the model answered, perhaps clipped.
        verdict: the grader's word.
        reason: its reason.
        extracted: the answer as it stood in the response, or None.
        tokens: of the whole response.
        finish: `length` when it was cut off at the cap.
    """

    run: str
    benchmark: str
    problem: str
    sample: int
    question: str
    gold: str
    response: str
    verdict: Verdict
    reason: str
    extracted: str | None
    tokens: int
    finish: Finish


class RunSamples(NamedTuple):
    """Everything that one run answered, and what one grader said of it."""

    name: str
    samples: Sequence[Sample]
    grades: Iterable[GradeLine]


class Selection(NamedTuple):
    """Samples to show.

    Attributes:
        samples: in the order of runs, benchmarks, problems and samples.
        remark: what was left out, in a sentence; empty if nothing was.
    """

    samples: list[Shown]
    remark: str


class _Graded(NamedTuple):
    run: str
    sample: Sample
    grade: GradeLine


class _Group(NamedTuple):
    run: str
    verdict: Verdict


def samples_of(
    runs: Sequence[RunSamples],
    problems: Iterable[Problem],
    *,
    at_most: int = SAMPLES_AT_MOST,
    longest_text: int = LONGEST_TEXT,
    text_at_most: int = TEXT_AT_MOST,
) -> Selection:
    """Choose the samples that a page shows.

    Each benchmark gets an equal part of the page, each run and verdict an equal part of its
    benchmark, and what one does not need goes to the others. Inside, a hash of benchmark, problem
    and number decides: runs show the same problems, and the choice is the same every time.

    Args:
        runs: with a grade for every sample.
        problems: every one that was asked.
        at_most: samples in total.
        longest_text: characters of a question, gold or response; the middle of a longer one is
            left out.
        text_at_most: characters of all responses together; above it, `longest_text` shrinks.

    Raises:
        ValueError: a sample has no grade, or its problem is not there.
    """
    by_name = {(one.benchmark, one.id): one for one in problems}
    graded = [one for run in runs for one in _graded(run)]
    missing = {(one.sample.benchmark, one.sample.problem) for one in graded} - set(by_name)
    if missing:
        raise ValueError(
            f"`problems` must hold every problem that was asked, but {min(missing)} is missing. "
            "Load the same benchmarks as the samples'."
        )
    chosen = _chosen(graded, at_most=at_most)
    lengths = {i: len(one.sample.response) for i, one in enumerate(chosen)}
    level = max(fair_shares(lengths, text_at_most).values(), default=0)
    longest = max(min(longest_text, level), _SHORTEST_CLIP)
    shown = [
        _shown(one, by_name[one.sample.benchmark, one.sample.problem], longest) for one in chosen
    ]
    return Selection(shown, _remark(graded, chosen, longest=longest))


def fair_shares(counts: Mapping[Key, int], total: int) -> dict[Key, int]:
    """Share a total as evenly as the counts allow.

    Args:
        counts: how many each could use, at least 0.
        total: to be shared, at least 0.

    Returns:
        A share for each, no more than its count; together the total, or all counts if they are
        less. A share below its count is at least as large as every other, but for one.
    """
    shares = {}
    left = total
    smallest_first = sorted(counts.items(), key=lambda item: item[1])
    for number, (key, count) in enumerate(smallest_first):
        shares[key] = min(count, left // (len(counts) - number))
        left -= shares[key]
    return shares


def clipped(text: str, longest: int) -> str:
    """Leave out the middle of a long text, and say how much of it.

    Args:
        text: anything.
        longest: characters that are kept, half of them at each end.
    """
    left_out = len(text) - longest
    if left_out <= 0:
        return text
    tail = longest // 2
    head = longest - tail
    return f"{text[:head]}\n\n[… {left_out:,} characters left out …]\n\n{text[len(text) - tail :]}"


def _graded(run: RunSamples) -> list[_Graded]:
    grades: dict[Place, GradeLine] = {grade.place: grade for grade in run.grades}
    without = [sample.place for sample in run.samples if sample.place not in grades]
    if without:
        raise ValueError(
            f"`grades` must hold every sample, but {without[0]} of {run.name!r} is missing. "
            "Grade it first."
        )
    return [_Graded(run.name, sample, grades[sample.place]) for sample in run.samples]


def _chosen(graded: Sequence[_Graded], *, at_most: int) -> list[_Graded]:
    groups: dict[str, dict[_Group, list[int]]] = {}
    for i, one in enumerate(graded):
        of_benchmark = groups.setdefault(one.sample.benchmark, {})
        of_benchmark.setdefault(_Group(one.run, one.grade.verdict), []).append(i)
    sizes = {name: sum(map(len, of_it.values())) for name, of_it in groups.items()}
    chosen: list[int] = []
    for benchmark, share in fair_shares(sizes, at_most).items():
        members = groups[benchmark]
        shares = fair_shares({group: len(found) for group, found in members.items()}, share)
        for group, found in members.items():
            chosen += sorted(found, key=lambda i: _rank(graded[i].sample))[: shares[group]]
    return [graded[i] for i in sorted(chosen)]


def _rank(sample: Sample) -> bytes:
    return hashlib.sha256(repr(tuple(sample.place)).encode("utf-8", "backslashreplace")).digest()


def _shown(graded: _Graded, problem: Problem, longest: int) -> Shown:
    sample, grade = graded.sample, graded.grade
    extracted = None if grade.extracted is None else clipped(grade.extracted, longest)
    return Shown(
        run=graded.run,
        benchmark=sample.benchmark,
        problem=sample.problem,
        sample=sample.sample,
        question=clipped(problem.question, longest),
        gold=clipped(problem.gold, longest),
        response=clipped(sample.response, longest),
        verdict=grade.verdict,
        reason=grade.reason,
        extracted=extracted,
        tokens=sample.tokens,
        finish=sample.finish,
    )


def _remark(graded: Sequence[_Graded], chosen: Sequence[_Graded], *, longest: int) -> str:
    sentences = []
    if len(chosen) < len(graded):
        sentences.append(
            f"{len(chosen):,} of {len(graded):,} samples are here, spread evenly over benchmarks, "
            "runs and verdicts: shares of verdicts in this list are not rates."
        )
    cut = sum(len(one.sample.response) > longest for one in chosen)
    if cut:
        sentences.append(
            f"{cut:,} responses are longer than {longest:,} characters: their middle is left out."
        )
    return " ".join(sentences)
