"""The hold and the SFT interval inside verl's own worker and FSDP engines, on real ranks.

RL's steps here are verl's: its engine, its AdamW with weight decay, its clipping.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from tests.support.actor_on_ranks import DEMONSTRATIONS, STRATEGIES, in_every_strategy
from tests.support.distributed import run_on_ranks
from tests.support.sharded import joined
from tests.support.tiny_model import questions_and_answers, write_tiny_model

pytestmark = pytest.mark.slow

RANKS = (1, 2)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[int, list[dict[str, Any]]]:
    """What every rank found, by the number of ranks."""
    folder = tmp_path_factory.mktemp("ranks")
    model = str(write_tiny_model(folder / "model"))
    return {
        ranks: run_on_ranks(in_every_strategy, ranks, folder, model, timeout_s=300)
        for ranks in RANKS
    }


@pytest.fixture(params=[f"{strategy}-{ranks}" for strategy in STRATEGIES for ranks in RANKS])
def interval(
    request: pytest.FixtureRequest, found: dict[int, list[dict[str, Any]]]
) -> list[dict[str, Any]]:
    strategy, ranks = request.param.split("-")
    return [rank[strategy]["interval"] for rank in found[int(ranks)]]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_engine_shards_as_it_was_asked_to(found: Any, strategy: str) -> None:
    wrapper = {"fsdp2": "FSDPQwen2DecoderLayer", "fsdp": "FullyShardedDataParallel"}[strategy]

    for rank in found[2]:
        assert wrapper in rank[strategy]["interval"]["wrapped"]


def test_held_entries_are_bit_identical_and_live_ones_move(interval: list[dict[str, Any]]) -> None:
    held = live = moved = 0
    for rank in interval:
        for name, mask in rank["masks"].items():
            before, after = rank["before"][name], rank["after"][name]
            assert torch.equal(before[mask].view(torch.int32), after[mask].view(torch.int32))
            held += int(mask.sum())
            live += int((~mask).sum())
            moved += int((before[~mask] != after[~mask]).sum())

    assert held == (held + live) // 2
    # Embedding rows of tokens that no demonstration has get a gradient of zero, but decay.
    assert moved > 0.99 * live


def test_afterwards_every_entry_is_free_again(interval: list[dict[str, Any]]) -> None:
    for rank in interval:
        for name, mask in rank["masks"].items():
            changed = rank["after"][name] != rank["later"][name]
            assert float(changed[mask].float().mean()) > 0.99


def test_rls_moments_schedule_and_loss_are_untouched(interval: list[dict[str, Any]]) -> None:
    for rank in interval:
        # RL clips at 0.5.
        assert all(norm > 0.5 for norm in rank["norms"])
        assert rank["moments_not_zero"]
        assert rank["moments_untouched"]
        assert rank["same_schedule"]
        assert rank["loss_is_rls"]


def test_the_interval_reports_what_it_did(interval: list[dict[str, Any]]) -> None:
    metrics = json.loads(interval[0]["metrics"])
    lengths = [len(answer) for _, answer in questions_and_answers(7, DEMONSTRATIONS)]

    assert metrics["interleave/sft/tokens"] == 3 * sum(lengths)
    assert metrics["interleave/sft/tokens_kept"] == 3 * sum(-(-n // 5) for n in lengths)
    assert metrics["finite"] == [True] * 3
    assert metrics["interleave/sft/steps"] == 3
    assert metrics["interleave/hold/held_fraction"] == pytest.approx(0.5, abs=1e-3)
    assert 0 < metrics["interleave/hold/gradient_share"] < 1
    assert metrics["interleave/hold/rl_update_norm"] > 0


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_two_ranks_hold_what_one_rank_holds(found: Any, strategy: str) -> None:
    def together(ranks: list[dict[str, Any]], strategy: str, masks: str) -> torch.Tensor:
        by_name = joined([rank[strategy]["interval"][masks] for rank in ranks])
        return torch.cat([by_name[name] for name in sorted(by_name)])

    moves, steps = (
        (together(found[1], "fsdp2", masks), together(found[2], strategy, masks))
        for masks in ("masks_after_given_moves", "masks")
    )
    assert torch.equal(*moves)
    assert int(moves[0].sum()) == moves[0].numel() // 2
    # Two ranks add up gradients in another order, which may turn the order of two entries.
    assert float((steps[0] != steps[1]).float().mean()) < 1e-3


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_ranks_do_not_change_what_is_learned(found: Any, strategy: str) -> None:
    one, two = found[1][0]["fsdp2"]["first_step"], found[2][0][strategy]["first_step"]

    assert one["loss"] == pytest.approx(two["loss"], rel=1e-5)
    assert one["gradient_norm"] == pytest.approx(two["gradient_norm"], rel=1e-4)
    assert one["tokens_kept"] == two["tokens_kept"]
