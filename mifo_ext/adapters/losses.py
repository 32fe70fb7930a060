"""The loss of demonstrations on verl's jagged tensors: weights from core, summed by verl.

Dimensions:
    N  positions of a micro-batch's demonstrations, prompts included, one after the other
"""

from __future__ import annotations

from typing import Any

import torch
from tensordict import TensorDict

from mifo_ext.core.tokens import high_entropy_mask_packed
from mifo_ext.core.weights import (
    confident,
    full_length_weights_packed,
    token_mean_weights,
    weighted_nll,
)
from mifo_ext.settings import SftBase


def demonstration_loss(
    model_output: dict[str, Any],
    data: TensorDict,
    dp_group: Any = None,
    *,
    settings: SftBase,
) -> tuple[torch.Tensor, dict[str, Any]]:
    """Weigh and add up the chosen tokens' negative log-probabilities.

    Args:
        model_output: jagged `log_probs`, and `entropy` when tokens are chosen by it or it is
            part of the loss. verl's position t speaks of token t + 1.
        data: micro-batch with jagged `input_ids` and `loss_mask` (1 on response tokens), and the
            global counts `sft_demonstrations` and `sft_tokens`.
        dp_group: unused; verl passes it.
        settings: the recipe's `interleave.sft`.

    Returns:
        The micro-batch's share of the global loss, times the data-parallel size (FSDP averages
        gradients over ranks), and counts to be added up.
    """
    offsets = model_output["log_probs"].offsets()
    log_probs_N = model_output["log_probs"].values()
    # A row's last position gets the next row's first token, which belongs to a prompt: False.
    response_N = torch.roll(data["loss_mask"].values(), shifts=-1, dims=0).bool()

    kept_N = response_N
    if settings.tokens == "high_entropy":
        kept_N = high_entropy_mask_packed(
            model_output["entropy"].values().detach(),
            response_N,
            offsets,
            fraction=settings.fraction,
        )

    if settings.normalise == "full_length":
        weights_N = full_length_weights_packed(
            kept_N, response_N, offsets, demonstrations=max(data["sft_demonstrations"], 1)
        )
    else:
        weights_N = token_mean_weights(kept_N, tokens=data["sft_tokens"])

    carried_N = confident(weights_N, log_probs_N) if settings.loss == "dft" else weights_N
    loss = weighted_nll(log_probs_N, carried_N)
    if settings.entropy_coeff > 0:
        mean_entropy = (weights_N * model_output["entropy"].values().to(weights_N.dtype)).sum()
        loss = loss - settings.entropy_coeff * mean_entropy
    counts = {"tokens_kept": int(kept_N.sum()), "tokens": int(response_N.sum())}
    return loss * data["dp_size"], counts
