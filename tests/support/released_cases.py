"""The methods whose released arithmetic is compared: recipe, loss, coefficients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from torch import Tensor

from tests.support import mixed_batches, released
from tests.support.mixed_batches import ROWS_OF_A_RANK, Trajectory

ROWS = 2 * ROWS_OF_A_RANK
ONE_RANK: Sequence[Sequence[int]] = (range(ROWS),)
TWO_RANKS = (range(ROWS_OF_A_RANK), range(ROWS_OF_A_RANK, ROWS))
"""Numbers of each rank's rows; as many tokens of each kind on both."""


class Case(NamedTuple):
    """A method.

    Attributes:
        words: of the command line.
        theirs: the released loss.
        per_group: rows of a question.
        likelihood: the released coefficient of the likelihood term.
    """

    words: tuple[str, ...]
    theirs: Callable[[released.Ranks], Tensor]
    per_group: int = 4
    likelihood: float = 0.0


MU = 0.125
SUMS = {
    "luffy": Case(("+recipe=luffy",), released.luffy),
    "srft": Case(("+recipe=srft",), released.srft, likelihood=0.5),
    "hpt": Case(("+recipe=hpt",), released.hpt, per_group=5, likelihood=1.0),
    "rl_and_sft": Case(
        ("+recipe=luffy", "interleave.shaping=null", "interleave.baseline=rollouts"),
        released.rl_and_sft,
        likelihood=1.0,
    ),
    # Without a demonstration: all rows are rollouts.
    "grpo": Case(
        ("+recipe=grpo", "actor_rollout_ref.actor.clip_ratio_c=1e9"),
        released.grpo,
    ),
}
"""Methods that sum over a rank's rows; ours are R / N of theirs, N rows on R ranks."""
CHORD = Case(
    ("+recipe=chord", f"interleave.nll.coeff={MU}"),
    partial(released.chord, mu=MU),
    per_group=5,
)
SFT = {
    "relift": Case(("+recipe=relift",), released.relift_sft),
    "dft": Case(("+recipe=sft", "sft_loss=dft"), released.dft),
}


def trajectories(
    case: Case, split: Sequence[Sequence[int]], *, vocabulary: int
) -> list[list[Trajectory]]:
    """Rows of each rank."""
    rows = mixed_batches.two_ranks(case.per_group, vocabulary=vocabulary)
    if case.theirs is released.grpo:
        rows = [replace(row, demonstration=False) for row in rows]
    return [[rows[n] for n in numbers] for numbers in split]


def coefficients(case: Case, ranks: Sequence[Sequence[Trajectory]]) -> list[str]:
    """The released coefficients in our scale, as words of the command line."""
    gated = case.theirs is released.hpt
    tokens = sum(
        row.response
        for row in ranks[0]
        if not row.pads and (not gated or row.demonstration == row.group.startswith("failed"))
    )
    # A mean over a rank's tokens there; here a sum over all, divided by rows and longest response.
    entropy = released.ENTROPY * released.LONGEST / tokens
    words = [f"actor_rollout_ref.actor.entropy_coeff={entropy!r}"]
    if case.likelihood:
        words.append(f"interleave.nll.coeff={case.likelihood * len(ranks) / ROWS!r}")
    return words
