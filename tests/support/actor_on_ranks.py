"""What a rank runs: our actor worker in verl's engine, RL steps, an SFT interval.

Apart from the tests, and with imports inside, so that a rank imports no more than it needs.
"""

from __future__ import annotations

import json
import pickle
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from tests.support.distributed import introduce_to_verl
from tests.support.tiny_model import questions_and_answers

STRATEGIES = ("fsdp2", "fsdp")
DEMONSTRATIONS = 6


def composed(model_folder: Path, strategy: str) -> Any:
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
                f"trainer.n_gpus_per_node={dist.get_world_size()}",
                # Micro-batches of as many rows as a test says.
                "actor_rollout_ref.actor.use_dynamic_bsz=false",
                "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=64",
                "actor_rollout_ref.rollout.log_prob_use_dynamic_bsz=false",
                "actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=64",
                "actor_rollout_ref.actor.optim.weight_decay=0.3",
                "actor_rollout_ref.actor.optim.lr=1e-2",
                "actor_rollout_ref.actor.optim.lr_scheduler_type=cosine",
                "actor_rollout_ref.actor.optim.total_training_steps=100",
                "actor_rollout_ref.actor.optim.clip_grad=0.5",
                f"interleave.buffer_size={DEMONSTRATIONS}",
                "interleave.sft.clip_norm=0.01",
                "interleave.sft.epochs=3",
                "interleave.sft.mini_batch_size=null",
            ],
        )


def worker_on_this_rank(model_folder: Path, strategy: str) -> Any:
    """Our actor worker as verl's trainer would build it, without a rollout."""
    introduce_to_verl(VERL_ENGINE_VENDOR="mifo")
    import verl  # noqa: F401

    import mifo_ext.adapters.register  # noqa: F401
    from mifo_ext.adapters.worker import InterleavedWorker

    config = composed(model_folder, strategy)
    worker = InterleavedWorker(config=config.actor_rollout_ref, role="actor")
    worker.init_model()
    return worker


def this_ranks_batch(seed: int, *, epochs: int, count: int = DEMONSTRATIONS) -> Any:
    """What verl's dispatch would hand to this rank."""
    from verl.protocol import BatchData

    from mifo_ext.adapters.batches import sft_batch
    from mifo_ext.adapters.demonstrations import DemonstrationTokens

    ranks = dist.get_world_size()
    demonstrations = [
        DemonstrationTokens(prompt, response, False)
        for prompt, response in questions_and_answers(seed, count)
    ]
    batch = sft_batch(demonstrations, mini_batch_size=count, epochs=epochs, ranks=ranks, seed=0)
    # Pickled, because Ray does, and a chunk is locked until then.
    return pickle.loads(pickle.dumps(BatchData(batch).chunk(ranks)[dist.get_rank()]))


def rl_like_steps(worker: Any, steps: int) -> list[float]:
    """verl's own update path; only the loss is a simple one. Norms before clipping."""
    from verl.utils import tensordict_utils as tu
    from verl.workers.utils.losses import sft_loss

    ppo_loss, norms = worker.actor.loss_fn, []
    worker.actor.set_loss_fn(partial(sft_loss, None))
    for seed in range(steps):
        batch = this_ranks_batch(100 + seed, epochs=1)
        tu.assign_non_tensor(batch, micro_batch_size_per_gpu=1)
        norms += tu.get(worker.actor.train_mini_batch(batch), "metrics")["grad_norm"]
    worker.actor.set_loss_fn(ppo_loss)
    return norms


def spans(worker: Any) -> dict[str, torch.Tensor]:
    """Copies of every entry on this rank, keyed "name:first index"."""
    layout = worker.hold.layout
    return {
        f"{span.name}:{span.start}": value.clone()
        for span, value in zip(layout.spans, layout.values(), strict=True)
    }


def masks(worker: Any) -> dict[str, torch.Tensor]:
    """True where an entry on this rank is held, keyed as `spans`."""
    from mifo_ext.core.packed_bits import unpack_bits

    hold = worker.hold
    return {
        f"{span.name}:{span.start}": unpack_bits(packed, span.length).clone()
        for span, packed in zip(
            hold.layout.spans, hold.layout.masks(*hold.device_tensors()), strict=True
        )
    }


def rl_state(worker: Any) -> list[torch.Tensor]:
    """Copies of everything RL's optimizer keeps."""
    states = worker.actor.engine.optimizer.state.values()
    kept = [value for state in states for _, value in sorted(state.items())]
    return [getattr(value, "_local_tensor", value).clone() for value in kept]


@torch.no_grad()
def masks_after_given_moves(worker: Any) -> dict[str, torch.Tensor]:
    """What is held after every entry moved by an amount that its name and index decide.

    No gradient's rounding comes in, and many amounts are equal.
    """
    layout = worker.hold.layout
    for span, value in zip(layout.spans, layout.values(), strict=True):
        value.copy_(torch.arange(span.start, span.start + span.length) / 64)
    worker.hold.begin_phase()
    for span, value in zip(layout.spans, layout.values(), strict=True):
        index = torch.arange(span.start, span.start + span.length)
        value += (index * 7 + len(span.name)) % 5 / 8
    worker.hold.engage()
    found = masks(worker)
    worker.hold.release()
    return found


def interval_in_verls_engine(model_folder: str, strategy: str) -> dict[str, Any]:
    """RL, an SFT interval, RL; with every entry kept along the way."""
    from verl.utils import tensordict_utils as tu

    worker = worker_on_this_rank(Path(model_folder), strategy)
    engine = worker.actor.engine
    norms = rl_like_steps(worker, 3)
    before, moments = spans(worker), rl_state(worker)
    schedule = engine.lr_scheduler.last_epoch
    engage, held = worker.hold.engage, {}

    def engage_and_look() -> Any:
        report = engage()
        held.update(masks(worker))
        return report

    worker.hold.engage = engage_and_look
    output = worker.sft_interval(this_ranks_batch(7, epochs=3))
    worker.hold.engage = engage
    after = spans(worker)
    untouched = all(
        torch.equal(one, other) for one, other in zip(moments, rl_state(worker), strict=True)
    )
    loss_is_rls = worker.actor.loss_fn is worker.loss_fn
    same_schedule = engine.lr_scheduler.last_epoch == schedule
    rl_like_steps(worker, 1)
    return {
        "wrapped": [type(part).__name__ for part in engine.module.modules()],
        "norms": norms,
        "before": before,
        "after": after,
        "later": spans(worker),
        "masks": held,
        "moments_untouched": untouched,
        "moments_not_zero": any(bool(moment.any()) for moment in moments),
        "loss_is_rls": loss_is_rls,
        "same_schedule": same_schedule,
        "metrics": json.dumps(tu.get(output, "metrics")),
        "masks_after_given_moves": masks_after_given_moves(worker),
    }


def loss_of_first_step(model_folder: str, strategy: str) -> dict[str, float]:
    """Five demonstrations on one or two ranks (which need a padding row), before any RL."""
    from verl.utils import tensordict_utils as tu

    worker = worker_on_this_rank(Path(model_folder), strategy)
    metrics = tu.get(worker.sft_interval(this_ranks_batch(3, epochs=1, count=5)), "metrics")
    return {
        "loss": metrics["interleave/sft/loss"],
        "gradient_norm": metrics["interleave/sft/gradient_norm"],
        "tokens_kept": metrics["interleave/sft/tokens_kept"],
    }


def in_every_strategy(model_folder: str) -> dict[str, dict[str, Any]]:
    """Everything in one start of the ranks, because starting them is what takes time."""
    return {
        strategy: {
            "interval": interval_in_verls_engine(model_folder, strategy),
            "first_step": loss_of_first_step(model_folder, strategy),
        }
        for strategy in STRATEGIES
    }
