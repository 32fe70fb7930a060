"""What an interval could not use goes back, and what waits has to be there after a resume."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from mifo_ext.adapters.method_intervals import Intervals, unlearned
from mifo_ext.core.interleave import HardExampleBuffer, WaitingQuestion
from mifo_ext.core.outcomes import Outcome


def waiting(*names: str) -> tuple[WaitingQuestion, ...]:
    return tuple(WaitingQuestion(name, 0, 8, 1, 1) for name in names)


def test_only_questions_whose_every_step_was_skipped_are_unlearned() -> None:
    questions = waiting("a", "b", "c", "d", "e")

    # Mini-batches (a, b), (c, d), (e), twice over: the second is finite once, the third never.
    finite = [True, False, False, True, True, False]

    assert unlearned(questions, finite, mini_batch_size=2) == list(waiting("e"))
    assert unlearned(questions, [True] * 6, mini_batch_size=2) == []
    assert unlearned(questions, [False] * 6, mini_batch_size=2) == list(questions)


class Known:
    """A catalog that knows some questions once it was asked to fetch them."""

    def __init__(self, *names: str) -> None:
        self.names, self.fetched = set(names), set[str]()

    def prefetch(self, question_ids: Iterable[str]) -> None:
        self.fetched |= set(question_ids)

    def has(self, question: str) -> bool:
        return question in self.names & self.fetched


def test_a_resume_with_other_demonstrations_is_refused_before_anything_is_trained() -> None:
    buffer = HardExampleBuffer(size=2, hard_at_most=0.125, has_demonstration=lambda _: True)
    buffer.observe([Outcome(name, 0, 8, 8) for name in ("a", "b")], step=1)
    nobody: Any = None
    method = Intervals(nobody, nobody)
    method.buffer = HardExampleBuffer(size=2, hard_at_most=0.125, has_demonstration=lambda _: True)
    method.catalog = Known("a")  # type: ignore[assignment]

    with pytest.raises(
        ValueError, match=r"The 2 questions that wait in .* but 1 have none any more"
    ):
        method.load({"buffer": buffer.state_dict()}, Path("run/global_step_4/interleave"))
