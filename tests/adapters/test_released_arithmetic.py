"""Gradients of our losses against the released code's, transcribed: docs/loss-scales.md.

Our side is a run's: composed recipes, verl's advantages, loss and aggregation, jagged tensors,
micro-batches of 1, 2 and all rows, and ranks whose gradients are averaged as FSDP does.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from verl.utils import tensordict_utils as tu

from mifo_ext.adapters.configuration import settings_of
from mifo_ext.adapters.losses import demonstration_loss
from tests.support import free_policy, mixed_batches, released, released_cases
from tests.support.free_policy import configuration, released_gradient
from tests.support.mixed_batches import ROWS_OF_A_RANK, Trajectory
from tests.support.released_cases import (
    CHORD,
    ONE_RANK,
    ROWS,
    SFT,
    SUMS,
    TWO_RANKS,
    Case,
    coefficients,
)
from tests.support.runs import composed

MICRO_BATCHES = (1, 2, 0)
"""Rows of a micro-batch; 0 for all."""
SPLITS = pytest.mark.parametrize("split", [ONE_RANK, TWO_RANKS], ids=["one_rank", "two_ranks"])


def trajectories(case: Case, split: Sequence[Sequence[int]]) -> list[list[Trajectory]]:
    return released_cases.trajectories(case, split, vocabulary=free_policy.VOCABULARY)


def ours(ranks: Sequence[Sequence[Trajectory]], *words: str, micro: int) -> Tensor:
    """Gradient of a recipe's loss of the mini-batch."""
    batches, loss = free_policy.rl_step(ranks, configuration(*words))
    return free_policy.gradient(batches, loss, micro=micro)


def assert_agree(one: Tensor, other: Tensor) -> None:
    assert int((other != 0).sum()) > 100
    # SFT's weights are float32.
    torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9)


@SPLITS
@pytest.mark.parametrize("micro", MICRO_BATCHES)
@pytest.mark.parametrize("name", SUMS)
def test_the_gradient_is_the_released_one_times_ranks_over_rows(
    name: str, micro: int, split: Sequence[Sequence[int]]
) -> None:
    case = SUMS[name]
    ranks = trajectories(case, split)

    mine = ours(ranks, *case.words, *coefficients(case, ranks), micro=micro)

    assert_agree(mine, len(ranks) / ROWS * released_gradient(ranks, case.theirs))


@SPLITS
@pytest.mark.parametrize("micro", MICRO_BATCHES)
def test_chords_gradient_is_the_released_one(micro: int, split: Sequence[Sequence[int]]) -> None:
    ranks = trajectories(CHORD, split)

    mine = ours(ranks, *CHORD.words, micro=micro)

    assert_agree(mine, released_gradient(ranks, CHORD.theirs))


@SPLITS
@pytest.mark.parametrize("micro", MICRO_BATCHES)
@pytest.mark.parametrize("name", SFT)
def test_an_sft_steps_gradient_is_the_released_one_times_its_scale(
    name: str, micro: int, split: Sequence[Sequence[int]]
) -> None:
    case = SFT[name]
    ranks = trajectories(case, split)
    settings: Any = settings_of(configuration(*case.words))
    batch = mixed_batches.sft_batch_of([row for rows in ranks for row in rows])
    tu.assign_non_tensor(batch, dp_size=len(ranks))

    mine = free_policy.gradient(
        tu.chunk_tensordict(batch, len(ranks)),
        partial(demonstration_loss, settings=settings.sft),
        micro=micro,
    )

    # On each rank, ReLIFT divides by the number of micro-batches of all.
    scale = len(ranks) if name == "relift" else 1
    assert_agree(mine, scale * released_gradient(ranks, case.theirs))


@pytest.mark.parametrize("name", ["srft", "hpt", "chord"])
def test_where_the_split_changes_the_released_gradient_ours_is_that_of_the_whole(
    name: str,
) -> None:
    case = {**SUMS, "chord": CHORD}[name]
    order = torch.randperm(ROWS, generator=torch.Generator().manual_seed(3)).tolist()
    whole, uneven = (
        trajectories(case, split)
        for split in (ONE_RANK, (order[:ROWS_OF_A_RANK], order[ROWS_OF_A_RANK:]))
    )
    words = [*case.words, *(coefficients(case, whole) if name != "chord" else ())]

    torch.testing.assert_close(ours(uneven, *words, micro=2), ours(whole, *words, micro=0))

    theirs = [released_gradient(ranks, case.theirs) for ranks in (uneven, whole)]
    scale = 1 if name == "chord" else 2
    assert not torch.allclose(scale * theirs[0], theirs[1], rtol=0.02, atol=1e-4)


def test_verls_dual_clip_alone_parts_grpo_from_the_released_one() -> None:
    case = SUMS["grpo"]
    ranks = trajectories(case, ONE_RANK)
    free, clipped = (ours(ranks, *words, micro=0) for words in (case.words, case.words[:1]))

    real = [row for row in ranks[0] if not row.pads]
    seen = mixed_batches.as_released(real, free_policy.logits().detach())
    means = released.group_means([seen], own_only=False)
    beyond = {
        (row.number, row.prompt - 1 + t)
        for row, one in zip(real, seen, strict=True)
        for t, ratio in enumerate(one.ratio.tolist())
        if one.reward < means[one.group] and ratio > 3
    }
    assert {tuple(place) for place in (free != clipped).any(-1).nonzero().tolist()} == beyond
    assert len(beyond) > 1


@pytest.mark.parametrize(("recipe", "there"), [("srft", 0.5), ("hpt", 1.0)])
def test_the_recipes_coefficients_are_the_released_ones_on_8_ranks(
    recipe: str, there: float
) -> None:
    config = composed(f"+recipe={recipe}", "scale=math_7b")
    actor, rollout = config.actor_rollout_ref.actor, config.actor_rollout_ref.rollout
    rows = actor.ppo_mini_batch_size * rollout.n
    assert config.interleave.nll.coeff == pytest.approx(there * 8 / rows, rel=1e-5)
