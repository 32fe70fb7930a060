"""A policy of free logits, one vector for each row and position, and a recipe's gradient to them.

Every token's gradient can be looked at by itself. In float64; without a model and an engine.

Dimensions:
    P  positions of a row, prompt included
    V  vocabulary
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import torch
from omegaconf import DictConfig
from tensordict import TensorDict
from torch import Tensor
from verl.utils import tensordict_utils as tu
from verl.utils.config import omega_conf_to_dataclass
from verl.workers.config import ActorConfig
from verl.workers.utils.losses import ppo_loss

from mifo_ext.adapters import mixed_loss
from mifo_ext.adapters.configuration import settings_of
from tests.support import mixed_batches, released
from tests.support.mixed_batches import Trajectory
from tests.support.runs import composed

VOCABULARY = 5
WIDTH = max(mixed_batches.PROMPTS) + max(map(max, mixed_batches.LENGTHS.values()))
Loss = Callable[..., tuple[Tensor, dict[str, Any]]]


@cache
def configuration(*words: str) -> DictConfig:
    """A recipe's, with a longest response that no response here has."""
    return composed(*words, "scale=cpu_tiny", f"data.max_response_length={released.LONGEST}")


def logits() -> Tensor:
    """The policy: of every row and position, about the token after it."""
    shape = (2 * mixed_batches.ROWS_OF_A_RANK, WIDTH, VOCABULARY)
    generator = torch.Generator().manual_seed(1)
    return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()


def rl_step(ranks: Sequence[Sequence[Trajectory]], config: DictConfig) -> tuple[Any, Loss]:
    """Each rank's rows of a mini-batch with the counts that an engine makes, and the recipe's loss.

    Args:
        ranks: rows of each rank, equally many.
        config: the recipe's.
    """
    settings: Any = settings_of(config)
    actor: ActorConfig = omega_conf_to_dataclass(config.actor_rollout_ref.actor)
    rows = [row for rows in ranks for row in rows]
    batches = tu.chunk_tensordict(mixed_batches.batch_of(rows, config, settings), len(ranks))
    counts = {"batch_num_tokens": sum(int(one["loss_mask"].values().sum()) for one in batches)}
    loss = partial(ppo_loss, actor)
    if settings.kind == "mixed":
        loss = partial(mixed_loss.mixed_loss, config=actor, settings=settings)
        of_ranks = [mixed_loss.global_counts(batch) for batch in batches]
        names = (mixed_loss.ROLLOUT_TOKENS, mixed_loss.LIKELIHOOD_TOKENS)
        counts |= dict(zip(names, map(sum, zip(*of_ranks, strict=True)), strict=True))
    for batch in batches:
        tu.assign_non_tensor(batch, dp_size=len(ranks), **counts)
    return batches, loss


def said(table: Tensor, batch: TensorDict) -> dict[str, Tensor]:
    """What an engine hands to a loss; a row's last position speaks of nothing."""
    log_probs, entropy = [], []
    numbers, rows = batch["number"].tolist(), batch["input_ids"].unbind()
    for number, ids in zip(numbers, rows, strict=True):
        said_PV = table[number, : len(ids)].log_softmax(-1)
        log_probs.append(said_PV.gather(-1, ids.roll(-1)[:, None]).squeeze(-1))
        entropy.append(-(said_PV.exp() * said_PV).sum(-1))
    offsets = torch.tensor([0, *map(len, entropy)]).cumsum(0)
    return {
        name: torch.nested.nested_tensor_from_jagged(torch.cat(values), offsets)
        for name, values in (("log_probs", log_probs), ("entropy", entropy))
    }


def gradient(batches: Sequence[TensorDict], loss: Loss, *, micro: int) -> Tensor:
    """The loss's gradient to `logits()`: micro-batches add up, ranks are averaged.

    Args:
        batches: each rank's.
        loss: ours.
        micro: rows of a micro-batch; 0 for all.
    """
    table = logits()
    for batch in batches:
        for part in tu.chunk_tensordict(batch, len(batch) // (micro or len(batch))):
            loss(said(table, part), part)[0].backward()
    assert table.grad is not None
    return table.grad / len(batches)


def released_gradient(
    ranks: Sequence[Sequence[Trajectory]], loss: Callable[[released.Ranks], Tensor]
) -> Tensor:
    """The same of the released loss, each rank's rows one micro-batch."""
    table = logits()
    loss([mixed_batches.as_released(rows, table) for rows in ranks]).backward()
    assert table.grad is not None
    return table.grad
