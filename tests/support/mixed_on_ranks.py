"""What a rank runs: gradients of mixed recipes' losses in verl's FSDP engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch.distributed as dist
from torch import Tensor

from tests.support.distributed import introduce_to_verl
from tests.support.tiny_model import VOCABULARY


def gradients(
    model_folder: str, recipes: Mapping[str, tuple[int, Sequence[str]]]
) -> dict[str, dict[int, dict[str, Tensor]]]:
    """Whole gradients by recipe, rows of a micro-batch (0: all), and parameter.

    Args:
        model_folder: of the policy.
        recipes: rows of a question, and words of the command line.
    """
    introduce_to_verl(VERL_ENGINE_VENDOR="mifo")
    from verl.utils import tensordict_utils as tu
    from verl.utils.config import omega_conf_to_dataclass

    import mifo_ext.adapters.register  # noqa: F401
    from mifo_ext.adapters.configuration import settings_of
    from mifo_ext.adapters.mixed_loss import mixed_loss
    from mifo_ext.adapters.worker import InterleavedWorker
    from tests.support.free_policy import configuration
    from tests.support.mixed_batches import batch_of, two_ranks

    ranks = dist.get_world_size()
    words = (f"actor_rollout_ref.model.path={model_folder}", f"trainer.n_gpus_per_node={ranks}")
    worker: Any = None
    found: dict[str, dict[int, dict[str, Tensor]]] = {}
    for name, (per_group, own_words) in recipes.items():
        config = configuration(*own_words, *words)
        settings = settings_of(config)
        if worker is None:
            worker = InterleavedWorker(config=config.actor_rollout_ref, role="actor")
            worker.init_model()
            loss = worker.actor.loss_fn
        else:
            actor = omega_conf_to_dataclass(config.actor_rollout_ref.actor)
            loss = partial(mixed_loss, config=actor, settings=settings)
        batch = batch_of(two_ranks(per_group, vocabulary=VOCABULARY), config, settings)
        found[name] = {}
        for micro in (1, 2, 0):
            part = tu.chunk_tensordict(batch, ranks)[dist.get_rank()]
            tu.assign_non_tensor(
                part,
                use_remove_padding=False,
                use_fused_kernels=False,
                use_dynamic_bsz=False,
                calculate_entropy=True,
                micro_batch_size_per_gpu=micro or len(part),
            )
            found[name][micro] = gradient(worker.actor.engine, part, loss)
    return found


def gradient(engine: Any, data: Any, loss: Any) -> dict[str, Tensor]:
    """By parameter, whole on every rank."""
    with engine.train_mode():
        engine.optimizer_zero_grad()
        engine.forward_backward_batch(data, loss)
        return {
            name: getattr(one.grad, "full_tensor", lambda grad=one.grad: grad)().clone()
            for name, one in engine.module.named_parameters()
        }
