"""Which tokens of a demonstration carry SFT loss.

Dimensions:
    B   demonstrations in the batch
    B1  B + 1 offsets: demonstration i owns the positions offsets[i] to offsets[i + 1] - 1
    T   positions of one demonstration, right-padded
    N   positions of all demonstrations, one after the other
"""

from fractions import Fraction

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def kept_count(tokens: int, fraction: float) -> int:
    """Count the tokens that a response of `tokens` tokens keeps.

    Args:
        tokens: length of the response, its EOS included.
        fraction: share of the tokens to keep, in (0, 1]; rho in the paper.

    Returns:
        ceil(fraction * tokens), where `fraction` is the decimal number as written: 0.07 of 100
        is 7. (In floats 100 * 0.07 is above 7, and its ceiling 8.)

    Raises:
        ValueError: if `fraction` is outside (0, 1].
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"`fraction` must be in (0, 1], but is {fraction}.")
    share = Fraction(repr(float(fraction)))
    return -(-tokens * share.numerator // share.denominator)


def high_entropy_mask(
    entropy_BT: Float[Tensor, "B T"],
    response_BT: Bool[Tensor, "B T"],
    *,
    fraction: float,
) -> Bool[Tensor, "B T"]:
    """Keep each response's most uncertain tokens.

    The threshold belongs to one response: its tokens compete with each other, never with
    another response's (MIFO, section 3.1).

    Args:
        entropy_BT: policy entropy before each token, in nats; anything on padding.
        response_BT: True on response tokens, False on the prompt and on padding.
        fraction: share of a response's tokens to keep, in (0, 1]; rho in the paper.

    Returns:
        True where the token carries loss. A response of n tokens keeps exactly
        ceil(fraction * n) of them; of tied tokens the earlier wins.

    Raises:
        ValueError: if `fraction` is outside (0, 1].
    """
    keep_B = _kept_counts(response_BT.sum(-1), fraction)
    ranked_BT = entropy_BT.masked_fill(~response_BT, -torch.inf).argsort(
        dim=-1, descending=True, stable=True
    )
    rank_BT = ranked_BT.argsort(-1)
    return response_BT & (rank_BT < keep_B.unsqueeze(-1))


def high_entropy_mask_packed(
    entropy_N: Float[Tensor, " N"],
    response_N: Bool[Tensor, " N"],
    offsets_B1: Int[Tensor, " B1"],
    *,
    fraction: float,
) -> Bool[Tensor, " N"]:
    """Keep each response's most uncertain tokens, demonstrations packed without padding.

    The same choice as `high_entropy_mask`, for the flat layout of jagged tensors. Every
    demonstration must be whole, because its threshold is taken over all its tokens.

    Args:
        entropy_N: policy entropy before each token, in nats; anything outside the responses.
        response_N: True on response tokens, False on the prompt.
        offsets_B1: where each demonstration starts, and N at the end.
        fraction: share of a response's tokens to keep, in (0, 1]; rho in the paper.

    Returns:
        True where the token carries loss.

    Raises:
        ValueError: if `fraction` is outside (0, 1], or the offsets do not run from 0 to N.
    """
    row_N = demonstration_of_position(offsets_B1, positions=entropy_N.shape[0])
    responses_B = torch.zeros_like(offsets_B1[:-1]).index_add_(
        0, row_N, response_N.to(offsets_B1.dtype)
    )
    keep_B = _kept_counts(responses_B, fraction)

    # Two stable sorts: by entropy, then by demonstration. Positions inside a demonstration are
    # then ordered by entropy, ties by position.
    by_entropy_N = entropy_N.masked_fill(~response_N, -torch.inf).argsort(
        descending=True, stable=True
    )
    ranked_N = by_entropy_N[row_N[by_entropy_N].argsort(stable=True)]
    rank_N = torch.empty_like(ranked_N)
    rank_N[ranked_N] = torch.arange(len(ranked_N), device=ranked_N.device) - offsets_B1[row_N]
    return response_N & (rank_N < keep_B[row_N])


def demonstration_of_position(
    offsets_B1: Int[Tensor, " B1"], *, positions: int
) -> Int[Tensor, " N"]:
    """Name the demonstration that each packed position belongs to.

    Args:
        offsets_B1: where each demonstration starts, and `positions` at the end.
        positions: N, the number of packed positions.

    Returns:
        The demonstration's number, 0 to B - 1, at each of the N positions.

    Raises:
        ValueError: if the offsets do not run from 0 up to `positions` without falling.
    """
    offsets = offsets_B1.tolist()  # read once: an accelerator has to finish its work for that
    if not offsets or [offsets[0], offsets[-1]] != [0, positions] or offsets != sorted(offsets):
        raise ValueError(
            f"`offsets_B1` must run from 0 to {positions} without falling, but is {offsets}. "
            "Pass the offsets of the same jagged tensor as the values."
        )
    numbers_B = torch.arange(len(offsets) - 1, device=offsets_B1.device)
    return numbers_B.repeat_interleave(offsets_B1.diff(), output_size=positions)


def _kept_counts(tokens_B: Int[Tensor, " B"], fraction: float) -> Int[Tensor, " B"]:
    """Apply `kept_count` to each response; in Python integers, which cannot overflow."""
    if not 0 < fraction <= 1:  # said even when there is no demonstration to count
        raise ValueError(f"`fraction` must be in (0, 1], but is {fraction}.")
    counts = [kept_count(tokens, fraction) for tokens in tokens_B.tolist()]
    return torch.tensor(counts, dtype=torch.long, device=tokens_B.device)
