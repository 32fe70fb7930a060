"""Buffers of hard questions and the outcomes that fill them."""

from typing import Any

from mifo_ext.core.interleave import HardExampleBuffer
from mifo_ext.core.outcomes import Outcome

ROLLOUTS = 8


def outcome(name: str, correct: int = 0, *, received: int = ROLLOUTS) -> Outcome:
    return Outcome(name, correct, received, ROLLOUTS)


def outcomes(names: str, correct: int = 0) -> list[Outcome]:
    return [outcome(name, correct) for name in names]


def buffer(size: int = 2, *, hard_at_most: float = 0.125, without: str = "") -> HardExampleBuffer:
    """A buffer for questions of one letter; those in `without` have no demonstration."""
    return HardExampleBuffer(
        size=size, hard_at_most=hard_at_most, has_demonstration=lambda name: name not in without
    )


def names(items: Any) -> str:
    return "".join(item.question_id for item in items)
