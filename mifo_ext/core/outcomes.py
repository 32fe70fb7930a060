"""What a step's rollouts say about its questions, and which of them are hard."""

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True)
class Outcome:
    """How one question's group of rollouts went.

    Attributes:
        question_id: names the question across steps and resumes.
        correct: rollouts with the right answer.
        received: rollouts that came back.
        expected: rollouts that were asked for.
    """

    question_id: str
    correct: int
    received: int
    expected: int

    def __post_init__(self) -> None:
        if self.expected < 1 or not 0 <= self.correct <= self.received <= self.expected:
            raise ValueError(
                "`correct`, `received`, `expected` must satisfy 0 <= correct <= received <= "
                f"expected and 1 <= expected, but question {self.question_id!r} has "
                f"{self.correct}, {self.received}, {self.expected}."
            )

    @property
    def complete(self) -> bool:
        """Whether every rollout came back."""
        return self.received == self.expected


class Observation(NamedTuple):
    """What one step's outcomes held. hard = added + repeated + without_demonstration.

    Attributes:
        questions: rollout groups seen.
        hard: complete groups at or below the threshold.
        incomplete: groups with rollouts missing; never hard, and not in the histogram.
        added: hard questions put into the buffer.
        repeated: hard questions that were waiting already; they keep their place and take the
            newest accuracy.
        eased: waiting questions seen again and no longer hard; they stay, with the newest
            accuracy.
        without_demonstration: hard questions with no (verified) demonstration.
        returned: questions among `added` that an earlier SFT interval already trained on.
        twice_in_batch: groups beyond a question's first in this batch. Each group is judged by
            itself, in order; the sums of two groups are never mixed.
        histogram: complete groups by number of right rollouts, 0 to n.
    """

    questions: int
    hard: int
    incomplete: int
    added: int
    repeated: int
    eased: int
    without_demonstration: int
    returned: int
    twice_in_batch: int
    histogram: tuple[int, ...]


def is_hard(outcome: Outcome, *, hard_at_most: float) -> bool:
    """Decide whether a question needs a demonstration: accuracy <= p, over a complete group.

    Args:
        outcome: the question's rollouts.
        hard_at_most: highest accuracy that counts as hard, in [0, 1]; p in the paper.

    Returns:
        True if hard. An incomplete group is never hard: what is missing might have been right.
    """
    return outcome.complete and outcome.correct / outcome.received <= hard_at_most
