"""A stored run under one grader: verdicts and the figures they make."""

from __future__ import annotations

from typing import NamedTuple

from mifo_ext.eval.folder import StoredRun
from mifo_ext.eval.metrics import run_result
from mifo_ext.eval.record import GradeLine
from mifo_ext.eval.results import RunResult


class Judged(NamedTuple):
    """A run with one grader's verdicts and figures."""

    run: StoredRun
    grades: list[GradeLine]
    result: RunResult


def judge(run: StoredRun, grader: str, *, missing: bool) -> Judged:
    """Compute a run's figures from the verdicts that are there.

    Args:
        run: the run.
        grader: whose verdicts count.
        missing: count what is there when samples are missing.

    Raises:
        FileNotFoundError: when this grader has not been asked.
        ValueError: when samples are missing.
    """
    grades = run.grades(grader)
    result = run_result(
        run.name,
        grader=grader,
        problems=run.problems,
        samples=run.samples,
        grades=grades,
        planned=run.planned,
        allow_missing=missing,
    )
    return Judged(run, grades, result)
