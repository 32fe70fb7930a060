"""The loss of rollouts and demonstrations on verl's tensors: numbers by hand, and empty masks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from tensordict import TensorDict
from torch import Tensor
from verl.utils import tensordict_utils as tu
from verl.workers.utils.losses import ppo_loss

from mifo_ext.adapters.mixed_loss import LIKELIHOOD_TOKENS, ROLLOUT_TOKENS, global_counts
from tests.support.free_policy import (
    VOCABULARY,
    configuration,
    gradient,
    logits,
    rl_step,
    said,
)
from tests.support.mixed_batches import Trajectory, jagged, two_ranks

RECIPES = ("luffy", "srft", "hpt", "chord")
NO_ENTROPY = "actor_rollout_ref.actor.entropy_coeff=0"
TERMS = ("signed_likelihood_loss", "demonstration_policy_loss", "demonstration_nll")


def row(
    number: int, old: Sequence[float], *, demonstration: bool, right: bool, pads: bool = False
) -> Trajectory:
    """A response to the one question, whose tokens had these probabilities before the step."""
    before = torch.tensor(old, dtype=torch.float64).log()
    ids = torch.arange(2 + len(old))
    group = "padding" if pads else "question"
    return Trajectory(number, group, demonstration, right, ids, 2, before, pads)


ROWS = [
    row(0, [0.9, 0.9], demonstration=True, right=True),
    row(1, [0.5, 0.5, 0.5], demonstration=False, right=False),
    row(2, [0.25], demonstration=False, right=False),
    row(3, [0.5], demonstration=False, right=False, pads=True),
]
NOW = [[0.1, 0.3], [0.5, 0.25, 1.0], [0.5], [0.7]]
"""Probabilities of the responses' tokens under the policy now."""


def evaluate(*words: str, entropy: Sequence[float] | None = None) -> tuple[float, dict[str, Any]]:
    """Loss of `ROWS` on one rank, divided by 4 rows and 16 tokens, and its metrics."""
    (batch,), loss = rl_step([ROWS], configuration(*words, NO_ENTROPY))

    def output(rows: list[Tensor]) -> Tensor:
        # What the model says inside the prompt and after the end is nobody's business.
        nan = torch.full((1,), math.nan, dtype=torch.float64)
        return jagged([torch.cat([nan, one, nan]) for one in rows])

    said = {"log_probs": output([torch.tensor(one, dtype=torch.float64).log() for one in NOW])}
    if entropy is not None:
        of_rows = zip(NOW, entropy, strict=True)
        said["entropy"] = output([torch.full((len(one),), h).double() for one, h in of_rows])
    value, metrics = loss(said, batch)
    return value.item(), metrics


def test_luffy_by_hand() -> None:
    value, metrics = evaluate("+recipe=luffy")

    # Rewards 1, 0, 0: advantages 2/3, -1/3, -1/3. f(pi) is 1/2 and 3/4; ratios 1, 1/2, 2, and 2.
    demonstration, rollouts = -2 / 3 * (0.5 + 0.75), 1 / 3 * (1 + 0.5 + 2 + 2)
    assert value == pytest.approx((demonstration + rollouts) / (4 * 16))
    assert metrics["actor/demonstration_policy_loss"].aggregate() == pytest.approx(
        demonstration / (4 * 16)
    )


def test_hpt_by_hand() -> None:
    value, _ = evaluate("+recipe=hpt", "interleave.nll.coeff=0.5")

    # Both rollouts fail, so only the demonstration is trained on: half the mean over its 2 tokens.
    assert value == pytest.approx(0.5 * -(math.log(0.1) + math.log(0.3)) / 2)


def test_chord_by_hand() -> None:
    value, metrics = evaluate("+recipe=chord", "interleave.nll.coeff=0.25")

    # Equal rewards: no advantage. A mean over 2 tokens of p (1 - p) times -log p.
    undecided = -(0.09 * math.log(0.1) + 0.21 * math.log(0.3)) / 2
    assert value == pytest.approx(0.25 * undecided)
    assert metrics["actor/pg_loss"].aggregate() == 0.0


def test_srft_by_hand() -> None:
    entropy = [math.log(2), math.log(3), math.log(5), 1.0]

    value, metrics = evaluate("+recipe=srft", "interleave.nll.coeff=0.5", entropy=entropy)

    assert metrics["actor/pg_loss"].aggregate() == 0.0
    # exp(-H) is 1/2. Wrong rollouts have no weight of their own, and no baseline.
    nll = 0.5 * 0.5 * -(math.log(0.1) + math.log(0.3)) / 2
    shaped = -2 / 3 * (0.5 + 0.75)
    wrong = math.log(0.5) + math.log(0.25) + math.log(1.0) + math.log(0.5)
    assert value == pytest.approx(nll + (shaped + wrong) / (4 * 16))


def test_a_right_rollout_of_srft_is_weighed_by_its_entropy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "ROWS", [*ROWS[:2], replace(ROWS[2], right=True), ROWS[3]])

    _, metrics = evaluate("+recipe=srft", entropy=[0.0, math.log(3), math.log(5), 1.0])

    signed = 0.1 * 5 * -math.log(0.5) + math.log(0.5) + math.log(0.25)
    assert metrics["actor/signed_likelihood_loss"].aggregate() == pytest.approx(signed / (4 * 16))


def test_global_counts_are_tokens_that_are_trained_on() -> None:
    counted = {}
    for recipe in ("luffy", "chord", "hpt"):
        (batch,), _ = rl_step([ROWS], configuration(f"+recipe={recipe}"))
        counted[recipe] = global_counts(batch)

    # 3 + 1 of rollouts, 2 of the demonstration. LUFFY has no likelihood; HPT leaves rollouts out.
    assert counted == {"luffy": [4, 0], "chord": [4, 2], "hpt": [0, 2]}


def micro_batches(recipe: str) -> tuple[list[TensorDict], Any]:
    """One row each, of a mini-batch on one rank."""
    rows = two_ranks(4, vocabulary=VOCABULARY)
    (batch,), loss = rl_step([rows], configuration(f"+recipe={recipe}"))
    return tu.chunk_tensordict(batch, len(batch)), loss


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_micro_batch_without_a_demonstration_adds_nothing_to_verls_loss(recipe: str) -> None:
    table, seen = logits(), 0
    parts, loss = micro_batches(recipe)
    for part in parts:
        if part["is_demonstration"].any():
            continue
        value, metrics = loss(said(table, part), part)
        for name in TERMS[1:]:
            if f"actor/{name}" in metrics:
                assert metrics[f"actor/{name}"].aggregate() == 0.0
                seen += 1
        if recipe != "srft":
            assert value.item() == ppo_loss(loss.keywords["config"], said(table, part), part)[0]
    assert seen > 20


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_micro_batch_of_padding_is_zero_and_still_takes_a_backward_pass(recipe: str) -> None:
    parts, loss = micro_batches(recipe)
    padding = [part for part in parts if not part["response_mask"].values().any()]
    assert len(padding) >= 8

    assert not gradient(padding, loss, micro=0).any()
    assert all(loss(said(logits(), part), part)[0].item() == 0.0 for part in padding)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_whole_mini_batch_of_padding_is_zero(recipe: str) -> None:
    rows = [replace(one, pads=True) for one in two_ranks(4, vocabulary=VOCABULARY)]
    batches, loss = rl_step([rows], configuration(f"+recipe={recipe}"))

    assert (batches[0][ROLLOUT_TOKENS], batches[0][LIKELIHOOD_TOKENS]) == (0, 0)
    assert loss(said(logits(), batches[0]), batches[0])[0].item() == 0.0
    assert not gradient(batches, loss, micro=0).any()


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_terms_of_micro_batches_add_up_to_those_of_the_whole(recipe: str) -> None:
    rows = two_ranks(4, vocabulary=VOCABULARY)
    (batch,), loss = rl_step([rows], configuration(f"+recipe={recipe}"))
    table = logits()
    _, whole = loss(said(table, batch), batch)

    told = [loss(said(table, part), part)[1] for part in tu.chunk_tensordict(batch, len(batch))]

    names = [f"actor/{name}" for name in TERMS if f"actor/{name}" in whole]
    assert names
    for name in names:
        summed = sum(metrics[name].aggregate() for metrics in told)
        assert summed == pytest.approx(whole[name].aggregate())
        assert summed != 0.0


@pytest.mark.parametrize("recipe", RECIPES)
def test_tokens_outside_a_rows_mask_get_no_gradient(recipe: str) -> None:
    rows = two_ranks(4, vocabulary=VOCABULARY)
    (batch,), loss = rl_step([rows], configuration(f"+recipe={recipe}"))
    whole = gradient([batch], loss, micro=0)

    batch["response_mask"] = jagged(
        [mask * (torch.arange(len(mask)) != 1) for mask in batch["response_mask"].unbind()]
    )
    found = gradient([batch], loss, micro=0)

    # The prompt's last position speaks of the first token, the one after it of the second.
    second = [(row.number, row.prompt) for row in rows if row.response > 1]
    assert not any(found[place].any() for place in second)
    assert sum(bool(whole[place].any()) for place in second) > 5
    assert found.any()
