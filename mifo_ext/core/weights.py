"""SFT losses from per-token weights: loss = sum over tokens of weight * -log(probability).

A weight already holds its token's share of the whole global batch, so the losses and gradients
of micro-batches and ranks simply add up. (A trainer that averages gradients over its
data-parallel ranks must multiply by their number.)

Dimensions:
    B   demonstrations in this micro-batch
    B1  B + 1 offsets: demonstration i owns the positions offsets[i] to offsets[i + 1] - 1
    T   positions of one demonstration, right-padded
    N   positions of all demonstrations, one after the other
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mifo_ext.core.tokens import demonstration_of_position


def full_length_weights(
    kept_BT: Bool[Tensor, "B T"],
    response_BT: Bool[Tensor, "B T"],
    *,
    demonstrations: int,
    dtype: torch.dtype = torch.float32,
) -> Float[Tensor, "B T"]:
    """Weigh each kept token by 1 / (B * |s|), B demonstrations of |s| response tokens.

    Normalised by the full response length, not by the number of kept tokens (MIFO, section 3.1;
    docs/method.md).

    Args:
        kept_BT: True on the tokens that carry loss.
        response_BT: True on all response tokens, EOS included. A row that only pads the batch
            is False everywhere, and weighs nothing.
        demonstrations: real demonstrations in the whole global batch, over all micro-batches
            and ranks.
        dtype: type of the weights.

    Returns:
        The weights; zero on every token that is not kept.

    Raises:
        ValueError: if `demonstrations` is below 1, or a kept token is not a response token.
    """
    _check_kept(kept_BT, response_BT, demonstrations)
    length_B1 = response_BT.sum(-1, keepdim=True).clamp(min=1)
    return kept_BT.to(dtype) / (length_B1 * demonstrations).to(dtype)


def full_length_weights_packed(
    kept_N: Bool[Tensor, " N"],
    response_N: Bool[Tensor, " N"],
    offsets_B1: Int[Tensor, " B1"],
    *,
    demonstrations: int,
    dtype: torch.dtype = torch.float32,
) -> Float[Tensor, " N"]:
    """Weigh tokens as `full_length_weights` does, demonstrations packed without padding.

    Args:
        kept_N: True on the tokens that carry loss.
        response_N: True on all response tokens, EOS included; all False in a row that only pads.
        offsets_B1: where each demonstration starts, and N at the end. Each must be whole.
        demonstrations: real demonstrations in the whole global batch.
        dtype: type of the weights.

    Returns:
        The weights; zero on every token that is not kept.

    Raises:
        ValueError: if `demonstrations` is below 1, a kept token is not a response token, or the
            offsets do not run from 0 to N.
    """
    _check_kept(kept_N, response_N, demonstrations)
    row_N = demonstration_of_position(offsets_B1, positions=kept_N.shape[0])
    length_B = torch.zeros_like(offsets_B1[:-1]).index_add_(
        0, row_N, response_N.to(offsets_B1.dtype)
    )
    return kept_N.to(dtype) / (length_B.clamp(min=1)[row_N] * demonstrations).to(dtype)


def token_mean_weights(
    kept: Bool[Tensor, "*shape"], *, tokens: int, dtype: torch.dtype = torch.float32
) -> Float[Tensor, "*shape"]:
    """Weigh each kept token by 1 / tokens: the mean over the whole global batch.

    The loss of ReLIFT and of stand-alone SFT. A mean of micro-batch means would weigh tokens of
    small micro-batches more (arXiv 2604.23747).

    Args:
        kept: True on the tokens that carry loss; padded or packed.
        tokens: kept tokens in the whole global batch, over all micro-batches and ranks. 0 only
            if nothing is kept anywhere.
        dtype: type of the weights.

    Returns:
        The weights; zero on every token that is not kept.

    Raises:
        ValueError: if `tokens` is below the number kept here.
    """
    here = int(kept.sum())
    if tokens < here:
        raise ValueError(
            f"`tokens` must be the kept tokens of the whole global batch, but is {tokens} and "
            f"this micro-batch alone keeps {here}. Sum over micro-batches and ranks first."
        )
    return kept.to(dtype) / max(tokens, 1)


def weighted_nll(
    log_probs: Float[Tensor, "*shape"], weights: Float[Tensor, "*shape"]
) -> Float[Tensor, ""]:
    """Add up weight * -log(probability), over tokens that weigh something.

    Args:
        log_probs: log-probability of each token under the policy, temperature 1.
        weights: the tokens' weights; computed with in their type.

    Returns:
        The loss. Tokens of weight zero are left out whatever their log-probability (also NaN or
        -inf), and get gradient zero. With no token left it is zero, and still takes a backward
        pass: every rank of a sharded model has to run one.
    """
    carried = weights != 0
    log_probs = torch.where(carried, log_probs.to(weights.dtype), 0.0)
    return -(weights * log_probs).sum()


def confident(
    weights: Float[Tensor, "*shape"], log_probs: Float[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    """Multiply each token's weight with its probability, through which no gradient flows.

    Dynamic fine-tuning (DFT, arXiv 2508.05629, equation 9): -sg[p] log p, so that a token that the
    policy finds improbable does not get the 1 / p that the gradient of log p would give it.

    Args:
        weights: the tokens' weights.
        log_probs: log-probability of each token under the policy, temperature 1.

    Returns:
        The new weights; zero stays zero, whatever the log-probability.
    """
    probabilities = log_probs.detach().to(weights.dtype).exp()
    return torch.where(weights != 0, weights * probabilities, 0.0)


def _check_kept(kept: Tensor, response: Tensor, demonstrations: int) -> None:
    if demonstrations < 1:
        raise ValueError(
            f"`demonstrations` must be at least 1, but is {demonstrations}. Count the real "
            "demonstrations of the whole global batch."
        )
    stray = int((kept & ~response).sum())
    if stray:
        raise ValueError(
            f"`kept` must mark response tokens only, but marks {stray} others. Shift both masks "
            "alike."
        )
