"""The hold and the SFT interval inside verl's own worker and FSDP engine, on real ranks.

RL's steps here are verl's: its engine, its AdamW with weight decay, its clipping.
"""

from __future__ import annotations

import json
import os
import pickle
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from tests.support.distributed import run_on_ranks

pytestmark = pytest.mark.slow

RANKS = (1, 2)
VOCABULARY, DEMONSTRATIONS = 40, 6


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Qwen2 of a few thousand parameters, whose shards are uneven, with some tokenizer."""
    folder = tmp_path_factory.mktemp("model")
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=24,
        intermediate_size=36,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
        tie_word_embeddings=False,
        bos_token_id=1,
        eos_token_id=1,
        pad_token_id=0,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
    words = Tokenizer(models.WordLevel({str(n): n for n in range(VOCABULARY)}, unk_token="0"))
    PreTrainedTokenizerFast(tokenizer_object=words, pad_token="0", eos_token="1").save_pretrained(
        folder
    )
    return folder


def composed(model_folder: Path, ranks: int, strategy: str) -> Any:
    """`+recipe=mifo`'s configuration, for this model."""
    from hydra import compose, initialize_config_module

    with initialize_config_module("verl.trainer.config", version_base=None):
        return compose(
            "ppo_trainer",
            overrides=[
                "+recipe=mifo",
                "scale=cpu_tiny",
                f"actor_rollout_ref.model.path={model_folder}",
                f"actor_rollout_ref.actor.strategy={strategy}",
                f"trainer.n_gpus_per_node={ranks}",
                "actor_rollout_ref.actor.optim.weight_decay=0.3",
                "actor_rollout_ref.actor.optim.lr=1e-2",
                "actor_rollout_ref.actor.optim.lr_scheduler_type=cosine",
                "actor_rollout_ref.actor.optim.total_training_steps=100",
                "actor_rollout_ref.actor.grad_clip=0.5",
                f"interleave.buffer_size={DEMONSTRATIONS}",
                "interleave.sft.clip_norm=0.01",
                "interleave.sft.epochs=3",
                "interleave.sft.mini_batch_size=null",
            ],
        )


def worker_on_this_rank(model_folder: Path, strategy: str) -> Any:
    """Our actor worker as verl's trainer would build it, without a rollout."""
    import torch.distributed as dist

    os.environ.update(
        RANK=str(dist.get_rank()),
        WORLD_SIZE=str(dist.get_world_size()),
        LOCAL_RANK="0",
        # Read by verl, used by nobody: the group exists already.
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT="1",
        VERL_ENGINE_VENDOR="mifo",
    )
    import verl  # noqa: F401

    import mifo_ext.adapters.register  # noqa: F401
    from mifo_ext.adapters.worker import InterleavedWorker

    config = composed(model_folder, dist.get_world_size(), strategy)
    worker = InterleavedWorker(config=config.actor_rollout_ref, role="actor")
    worker.init_model()
    return worker


def demonstrations(seed: int, count: int = DEMONSTRATIONS) -> list[Any]:
    """Random questions and answers of various lengths."""
    from mifo_ext.adapters.demonstrations import DemonstrationTokens

    generator = torch.Generator().manual_seed(seed)

    def ids(low: int, high: int) -> list[int]:
        length = int(torch.randint(low, high, (1,), generator=generator))
        return torch.randint(2, VOCABULARY, (length,), generator=generator).tolist()

    return [DemonstrationTokens(ids(2, 5), ids(3, 12), False) for _ in range(count)]


def this_ranks_batch(seed: int, *, epochs: int, count: int = DEMONSTRATIONS) -> Any:
    """What verl's dispatch would hand to this rank."""
    import torch.distributed as dist
    from verl.protocol import BatchData

    from mifo_ext.adapters.batches import sft_batch

    ranks = dist.get_world_size()
    batch = sft_batch(
        demonstrations(seed, count), mini_batch_size=count, epochs=epochs, ranks=ranks, seed=0
    )
    # Pickled, because Ray does, and a chunk is locked until then.
    return pickle.loads(pickle.dumps(BatchData(batch).chunk(ranks)[dist.get_rank()]))


def rl_like_steps(worker: Any, steps: int) -> None:
    """verl's own update path; only the loss is a simple one."""
    from verl.utils import tensordict_utils as tu
    from verl.workers.utils.losses import sft_loss

    ppo_loss = worker.actor.loss_fn
    worker.actor.set_loss_fn(partial(sft_loss, None))
    for seed in range(steps):
        batch = this_ranks_batch(100 + seed, epochs=1)
        tu.assign_non_tensor(batch, micro_batch_size_per_gpu=1)
        worker.actor.train_mini_batch(batch)
    worker.actor.set_loss_fn(ppo_loss)


def spans(worker: Any) -> dict[str, torch.Tensor]:
    """Copies of every entry on this rank, keyed "name:first index"."""
    layout = worker.hold.layout
    return {
        f"{span.name}:{span.start}": value.clone()
        for span, value in zip(layout.spans, layout.values(), strict=True)
    }


def rl_state(worker: Any) -> list[torch.Tensor]:
    """Copies of everything RL's optimizer keeps."""
    states = worker.actor.engine.optimizer.state.values()
    kept = [value for state in states for _, value in sorted(state.items())]
    return [getattr(value, "_local_tensor", value).clone() for value in kept]


def interval_in_verls_engine(model_folder: str, strategy: str) -> dict[str, Any]:
    """RL, an SFT interval, RL; with every entry kept along the way."""
    from verl.utils import tensordict_utils as tu

    from mifo_ext.core.freezing import unpack_bits

    worker = worker_on_this_rank(Path(model_folder), strategy)
    engine = worker.actor.engine
    rl_like_steps(worker, 3)
    before, moments = spans(worker), rl_state(worker)
    schedule = engine.lr_scheduler.last_epoch
    engage, packed = worker.hold.engage, []

    def engage_and_look() -> Any:
        report = engage()
        packed.extend(mask.clone() for mask in worker.hold.device_tensors())
        return report

    worker.hold.engage = engage_and_look
    output = worker.sft_interval(this_ranks_batch(7, epochs=3))
    after = spans(worker)
    masks = {
        f"{span.name}:{span.start}": unpack_bits(mask, span.length)
        for span, mask in zip(worker.hold.layout.spans, packed, strict=True)
    }
    untouched = all(
        torch.equal(one, other) for one, other in zip(moments, rl_state(worker), strict=True)
    )
    loss_is_rls = worker.actor.loss_fn is worker.loss_fn
    same_schedule = engine.lr_scheduler.last_epoch == schedule
    rl_like_steps(worker, 1)
    return {
        "before": before,
        "after": after,
        "later": spans(worker),
        "masks": masks,
        "moments_untouched": untouched,
        "moments_not_zero": any(bool(moment.any()) for moment in moments),
        "loss_is_rls": loss_is_rls,
        "same_schedule": same_schedule,
        "metrics": json.dumps(tu.get(output, "metrics")),
    }


@pytest.fixture(scope="module", params=["fsdp2-1", "fsdp2-2"])
def interval(
    request: pytest.FixtureRequest, model_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> list[dict[str, Any]]:
    strategy, ranks = request.param.split("-")
    return run_on_ranks(
        interval_in_verls_engine,
        int(ranks),
        tmp_path_factory.mktemp("ranks"),
        str(model_folder),
        strategy,
    )


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
        assert rank["moments_not_zero"]
        assert rank["moments_untouched"]
        assert rank["same_schedule"]
        assert rank["loss_is_rls"]


def test_the_interval_reports_what_it_did(interval: list[dict[str, Any]]) -> None:
    metrics = json.loads(interval[0]["metrics"])
    lengths = [len(demo.response_ids) for demo in demonstrations(7)]

    assert metrics["interleave/sft/tokens"] == 3 * sum(lengths)
    assert metrics["interleave/sft/tokens_kept"] == 3 * sum(-(-n // 5) for n in lengths)
    assert metrics["finite"] == [True] * 3
    assert metrics["interleave/sft/steps"] == 3
    assert metrics["interleave/hold/held_fraction"] == pytest.approx(0.5, abs=1e-3)
    assert 0 < metrics["interleave/hold/gradient_share"] < 1
    assert metrics["interleave/hold/rl_update_norm"] > 0


def test_ranks_do_not_change_what_is_learned(model_folder: Path, tmp_path: Path) -> None:
    one, two = (
        run_on_ranks(loss_of_first_step, ranks, tmp_path, str(model_folder))[0] for ranks in RANKS
    )

    assert one["loss"] == pytest.approx(two["loss"], rel=1e-5)
    assert one["gradient_norm"] == pytest.approx(two["gradient_norm"], rel=1e-4)
    assert one["tokens_kept"] == two["tokens_kept"]


def loss_of_first_step(model_folder: str) -> dict[str, float]:
    """Five demonstrations on one or two ranks (which need a padding row), before any RL."""
    from verl.utils import tensordict_utils as tu

    worker = worker_on_this_rank(Path(model_folder), "fsdp2")
    metrics = tu.get(worker.sft_interval(this_ranks_batch(3, epochs=1, count=5)), "metrics")
    return {
        "loss": metrics["interleave/sft/loss"],
        "gradient_norm": metrics["interleave/sft/gradient_norm"],
        "tokens_kept": metrics["interleave/sft/tokens_kept"],
    }
