"""A small mini-batch of rollouts and demonstrations, made as a run makes it, from rewards on.

Two ranks' rows: unequal responses, but as many tokens of each kind on both, so that a mean of the
ranks' means is the mean over the mini-batch. Each rank has a question with right and wrong answers
and a demonstration, one without a demonstration, one that all rollouts fail, and rows that only
pad.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from tensordict import TensorDict
from torch import Tensor
from verl.trainer.ppo.core_algos import compute_grpo_outcome_advantage
from verl.utils import tensordict_utils as tu

from mifo_ext.adapters import method_mixed
from mifo_ext.core.mixed_rows import Row, Weights, row_weights
from mifo_ext.settings_mixed import MixedSettings
from tests.support import released

ROWS_OF_A_RANK = 16
PROMPTS = (1, 2, 3)
# One number a row, the demonstration's first; the second rank has a question's rollouts backwards.
LENGTHS = {"mixed": (4, 3, 1, 2, 5), "bare": (2, 5, 1, 3, 4), "failed": (6, 2, 3, 1, 4)}
RIGHT = {"mixed": (1, 1, 0, 0, 1), "bare": (1, 0, 1, 0, 0), "failed": (1, 0, 0, 0, 0)}


@dataclass(frozen=True)
class Trajectory:
    """A prompt and a response, graded.

    Attributes:
        number: place among all rows.
        group: the question's group.
        demonstration: whether it is the group's demonstration.
        right: whether its answer is right.
        ids: prompt and response.
        prompt: tokens of the prompt.
        old: log-probabilities of the response before the step.
        pads: whether the row only fills up the batch.
    """

    number: int
    group: str
    demonstration: bool
    right: bool
    ids: Tensor
    prompt: int
    old: Tensor
    pads: bool = False

    @property
    def response(self) -> int:
        return len(self.old)


def two_ranks(per_group: int, *, vocabulary: int) -> list[Trajectory]:
    """Rows of two ranks, `ROWS_OF_A_RANK` each, one after the other.

    Args:
        per_group: rows of a question, its demonstration included; 4 or 5.
        vocabulary: how many tokens there are. Log-probabilities before the step are those of a
            uniform policy and a deviation of 1, so that ratios lie on both sides of every clip.
    """
    generator = torch.Generator().manual_seed(0)

    rows: list[Trajectory] = []

    def add(group: str, response: int, right: int, **kinds: bool) -> None:
        prompt = PROMPTS[int(torch.randint(len(PROMPTS), (1,), generator=generator))]
        noise_T = torch.randn(response, generator=generator, dtype=torch.float64)
        trajectory = Trajectory(
            len(rows),
            group,
            right=bool(right),
            ids=torch.randint(2, vocabulary, (prompt + response,), generator=generator),
            prompt=prompt,
            old=noise_T - math.log(vocabulary),
            **{"demonstration": False, **kinds},
        )
        rows.append(trajectory)

    for rank in range(2):
        for kind in LENGTHS:
            numbers = list(zip(LENGTHS[kind], RIGHT[kind], strict=True))[:per_group]
            numbers[1:] = numbers[1:] if rank == 0 else numbers[:0:-1]
            for place, (length, right) in enumerate(numbers):
                add(f"{kind}{rank}", length, right, demonstration=place == 0 and kind != "bare")
        while len(rows) < (rank + 1) * ROWS_OF_A_RANK:
            add(f"pad{len(rows)}", 1, 0, pads=True)
    return rows


def jagged(rows: Sequence[Tensor]) -> Tensor:
    return torch.nested.as_nested_tensor(list(rows), layout=torch.jagged)


def batch_of(rows: Sequence[Trajectory], config: DictConfig, settings: Any) -> TensorDict:
    """All rows of a mini-batch: verl's advantages, then what our method makes of them."""
    masks = [torch.full((row.response,), int(not row.pads)) for row in rows]
    advantages = verls_advantages(rows, masks, config, settings)
    tensors = {
        "input_ids": jagged([row.ids for row in rows]),
        "position_ids": jagged([torch.arange(len(row.ids)) for row in rows]),
        "prompts": jagged([row.ids[: row.prompt] for row in rows]),
        "responses": jagged([row.ids[row.prompt :] for row in rows]),
        "old_log_probs": jagged([row.old for row in rows]),
        "response_mask": jagged(masks),
        # verl counts these; a row that our method leaves out keeps its own.
        "loss_mask": jagged(masks),
        "advantages": jagged(advantages),
        "number": torch.tensor([row.number for row in rows]),
    }
    if isinstance(settings, MixedSettings):
        weights = weights_of(rows, advantages, settings)
        demonstrations = [row.demonstration for row in rows]
        fields = method_mixed._fields(advantages, masks, weights, demonstrations)
        tensors |= dict(fields.items())
    extra = {"global_batch_size": len(rows), "temperature": 1.0}
    batch: TensorDict = tu.get_tensordict(tensors, extra)
    return batch


def verls_advantages(
    rows: Sequence[Trajectory], masks: Sequence[Tensor], config: DictConfig, settings: Any
) -> list[Tensor]:
    """verl's, of a reward on each response's last token."""
    mask_BT = jagged(masks).to_padded_tensor(0)
    rewards_BT = torch.zeros(mask_BT.shape, dtype=torch.float64)
    for n, row in enumerate(rows):
        rewards_BT[n, row.response - 1] = float(row.right)
    apart = getattr(settings, "baseline", None) == "rollouts"
    names = [f"{row.group}-demo" if apart and row.demonstration else row.group for row in rows]
    advantages_BT, _ = compute_grpo_outcome_advantage(
        rewards_BT,
        mask_BT,
        np.array(names, dtype=object),
        norm_adv_by_std_in_grpo=config.algorithm.norm_adv_by_std_in_grpo,
    )
    return [advantages_BT[n, : row.response] for n, row in enumerate(rows)]


def weights_of(
    rows: Sequence[Trajectory], advantages: Sequence[Tensor], settings: MixedSettings
) -> list[Weights]:
    real = [n for n, row in enumerate(rows) if not row.pads]
    told = [
        Row(rows[n].group, rows[n].demonstration, rows[n].right, float(advantages[n][0]))
        for n in real
    ]
    weights = row_weights(
        told,
        hard_at_most=settings.hard_at_most,
        coeff=settings.nll.coeff,
        convex=settings.nll.convex,
        signed=settings.rollout_loss == "signed_likelihood",
    )
    by_row = dict(zip(real, weights, strict=True))
    return [by_row.get(n, Weights(False, 0.0, 0.0, 0.0, 0)) for n in range(len(rows))]


def sft_batch_of(rows: Sequence[Trajectory]) -> TensorDict:
    """The same rows as demonstrations of an SFT step."""
    masks = [torch.tensor([0] * row.prompt + [int(not row.pads)] * row.response) for row in rows]
    counts = {
        "sft_demonstrations": sum(not row.pads for row in rows),
        "sft_tokens": sum(row.response for row in rows if not row.pads),
    }
    tensors = {
        "input_ids": jagged([row.ids for row in rows]),
        "loss_mask": jagged(masks),
        "number": torch.tensor([row.number for row in rows]),
    }
    batch: TensorDict = tu.get_tensordict(tensors, counts)
    return batch


def as_released(
    rows: Sequence[Trajectory], logits: Mapping[int, Tensor] | Tensor
) -> list[released.Row]:
    """What the released code sees of the rows: no padding, and only the response.

    Args:
        rows: trajectories.
        logits: by a row's number, prompt included; position t speaks of token t + 1.
    """
    seen = []
    for row in rows:
        if row.pads:
            continue
        said_TV = logits[row.number][row.prompt - 1 : len(row.ids) - 1].log_softmax(-1)
        log_probs_T = said_TV.gather(-1, row.ids[row.prompt :, None]).squeeze(-1)
        entropy_T = -(said_TV.exp() * said_TV).sum(-1)
        reward, demonstration = float(row.right), row.demonstration
        seen.append(released.Row(row.group, demonstration, reward, log_probs_T, entropy_T, row.old))
    return seen
