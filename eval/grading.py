"""Grading what was drawn, a file for each grader: grading again costs no generation."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

from mifo_ext.eval.record import GradeLine, Sample, fingerprint
from mifo_ext.eval.store import Log
from mifo_ext.grading import grade_with, grader_versions

IN_A_ROW = 64
"""Grades between two writes: a crash costs at most these, and they are made again."""
ALONE_UP_TO = 2000
"""Fewer samples than this are graded before helper processes would have started."""


class Ungraded(NamedTuple):
    """One response to be graded.

    Attributes:
        sample: the response.
        gold: the answer it is graded against.
        thinking: it starts inside a thinking part.
        grader: name of the grader.
        key: hash of what the verdict depends on.
    """

    sample: Sample
    gold: str
    thinking: bool
    grader: str
    key: str


def grades_path(folder: Path, grader: str) -> Path:
    """Where the verdicts of a grader lie in a run's folder."""
    return folder / f"grades-{grader}.jsonl"


def grade_samples(
    log: Log[GradeLine],
    samples: Sequence[Sample],
    *,
    grader: str,
    golds: Mapping[tuple[str, str], str],
    thinks: Callable[[str], bool],
    on_graded: Callable[[int], None] = lambda count: None,
) -> None:
    """Grade every sample that this log has no valid verdict for.

    Args:
        log: where verdicts go, at once.
        samples: the responses.
        grader: a name of `mifo_ext.grading.GRADERS`.
        golds: by benchmark and problem.
        thinks: whether a benchmark's responses start inside a thinking part.
        on_graded: told how many more are done.

    Raises:
        ValueError: for an unknown grader.
    """
    revision = _revision(grader)
    waiting = list[Ungraded]()
    for sample in samples:
        gold, thinking = golds[sample.benchmark, sample.problem], thinks(sample.benchmark)
        key = fingerprint(sample.response, gold, thinking, grader, revision)
        known = log.records.get(sample.place)
        if known is None or known.key != key:
            waiting.append(Ungraded(sample, gold, thinking, grader, key))
    on_graded(len(samples) - len(waiting))
    with _workers(len(waiting)) as verdicts:
        lines = iter(verdicts(waiting))
        while chunk := list(islice(lines, IN_A_ROW)):
            log.add(chunk)
            on_graded(len(chunk))


def grade_one(ungraded: Ungraded) -> GradeLine:
    """Grade one response; bounded in time and memory whatever its text."""
    sample = ungraded.sample
    said = grade_with(ungraded.grader, sample.response, ungraded.gold, thinking=ungraded.thinking)
    return GradeLine(
        **sample.place._asdict(),
        key=ungraded.key,
        verdict=said.verdict,
        reason=said.reason,
        extracted=said.extracted,
        path=said.path,
    )


@contextmanager
def _workers(count: int) -> Iterator[Callable[[Iterable[Ungraded]], Iterable[GradeLine]]]:
    processes = os.cpu_count() or 1
    if count < ALONE_UP_TO or processes == 1:
        yield lambda waiting: map(grade_one, waiting)
        return
    # Spawned: a fork of a process that holds an engine's threads may hang.
    with ProcessPoolExecutor(min(processes, 16), mp_context=get_context("spawn")) as pool:
        yield lambda waiting: pool.map(grade_one, waiting, chunksize=16)


def _revision(grader: str) -> list[str]:
    versions = grader_versions()
    if grader == "strict":
        return [versions["strict"]]
    return [f"{name} {version}" for name, version in sorted(versions.items()) if name != "python"]
