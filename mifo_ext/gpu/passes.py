"""What is done to a piece of a model on a GPU, by kernels in place of torch's operations.

None of this waits for the GPU, so that copies to and from it never stop.

Dimensions:
    N  consecutive entries of one parameter, with their keys
    K  keys that are set aside
    P  bytes that pack N bits, ceil(N / 8)
    B  blocks, or bins of a histogram
"""

from __future__ import annotations

from typing import Any

import torch
import triton
from jaxtyping import Float32, Float64, Int32, Int64, UInt8
from torch import Tensor

from mifo_ext.core.adamw import Moments
from mifo_ext.core.importance import check_decay, float_bits
from mifo_ext.core.kth_largest import Band
from mifo_ext.core.passes import TORCH
from mifo_ext.core.pieces import one_piece
from mifo_ext.core.placed_keys import Aside
from mifo_ext.gpu import kernels
from mifo_ext.gpu.at_once import (
    copy_of_,
    masked_adamw_of_,
    sample_of,
    squared_norms_of,
    weigh_around_of_,
)
from mifo_ext.gpu.table import AS_WRITTEN, BLOCK


def weigh_(
    start_N: Float32[Tensor, " N"],
    end_N: Float32[Tensor, " N"],
    history_N: Float32[Tensor, " N"] | None,
    carried_P: UInt8[Tensor, " P"] | None,
    *,
    decay: float,
) -> Float64[Tensor, " 2"]:
    """Turn values at a phase's start into importance, in place; see `core.passes.weigh_`."""
    check_decay(decay)
    history = history_N is not None and carried_P is not None and decay > 0
    count, blocks = start_N.numel(), triton.cdiv(start_N.numel(), BLOCK)
    totals = torch.empty(blocks, 2, dtype=torch.float64, device=start_N.device)
    kernels.weigh[(blocks,)](
        start_N, end_N, history_N if history else start_N, carried_P if history else start_N,
        totals, count, 1 - decay, decay, HISTORY=history, BLOCK=BLOCK, **AS_WRITTEN,
    )  # fmt: skip
    return totals.sum(0)


def around(
    keys_N: Int32[Tensor, " N"],
    importance_N: Float32[Tensor, " N"],
    band: Band,
    aside: Aside,
    place: int,
    above_P: UInt8[Tensor, " P"],
    counts_3: Int64[Tensor, " 3"],
) -> None:
    """Count keys around a band, and set those inside aside; see `core.passes.around`."""
    blocks = triton.cdiv(keys_N.numel(), BLOCK)
    kernels.around[(blocks,)](
        keys_N.contiguous(), float_bits(importance_N), above_P, aside.placed_K, aside.used,
        counts_3, keys_N.numel(), place, band.low, band.high, aside.room, BLOCK=BLOCK,
    )  # fmt: skip


def set_bits(
    packed_P: UInt8[Tensor, " P"], placed_K: Int64[Tensor, " K"], first: int, last: int
) -> None:
    """Set the bits at some of these places; see `core.passes.set_bits`."""
    count, placed_K = placed_K.numel(), placed_K.to(packed_P.device)
    if count > 0:
        kernels.set_bits[(triton.cdiv(count, BLOCK),)](
            packed_P, placed_K, count, first, last, BLOCK=BLOCK
        )


def ties_by_block(
    keys_N: Int32[Tensor, " N"], key: int, *, at: int, size: int, blocks: int
) -> Int64[Tensor, " B"]:
    """Count keys that equal `key` by blocks; see `core.passes.ties_by_block`."""
    counts_B = torch.zeros(blocks, dtype=torch.int64, device=keys_N.device)
    kernels.ties_by_block[(triton.cdiv(keys_N.numel(), BLOCK),)](
        keys_N.contiguous(), counts_B, keys_N.numel(), key, at, size, BLOCK=BLOCK
    )
    return counts_B


def histogram(
    keys_N: Int32[Tensor, " N"], first: int, last: int, low: int, counts_B: Int64[Tensor, " B"]
) -> None:
    """Add keys to the counts of bins, a power of two of them; see `core.passes.histogram`."""
    kernels.histogram[(triton.cdiv(keys_N.numel(), BLOCK),)](
        keys_N.contiguous(), counts_B, keys_N.numel(), first, last, low,
        BINS=counts_B.numel(), BLOCK=BLOCK,
    )  # fmt: skip


def overlap(one_P: UInt8[Tensor, " P"], other_P: UInt8[Tensor, " P"]) -> Int64[Tensor, " 2"]:
    """How many bits are set in both, and in either."""
    blocks = triton.cdiv(one_P.numel(), BLOCK)
    totals = torch.empty(blocks, 2, dtype=torch.int64, device=one_P.device)
    kernels.overlap[(blocks,)](one_P, other_P, totals, one_P.numel(), BLOCK=BLOCK)
    return totals.sum(0)


def squared_norms(
    gradient_N: Float32[Tensor, " N"], held: UInt8[Tensor, " P"] | None
) -> Float64[Tensor, " 2"]:
    """Squared norms over live and over held entries; see `core.masked_adamw.squared_norms`."""
    return squared_norms_of([gradient_N.contiguous()], held, one_piece(gradient_N.numel()))


def masked_adamw_(
    weight_N: Float32[Tensor, " N"],
    gradient_N: Float32[Tensor, " N"],
    moments: Moments,
    *,
    held: UInt8[Tensor, " P"] | None,
    step: int,
    **options: Any,
) -> Float64[Tensor, ""]:
    """Take one AdamW step on the live entries of one piece; see `masked_adamw_of_`."""
    piece, gradients = one_piece(weight_N.numel()), [gradient_N.contiguous()]
    return masked_adamw_of_(
        [weight_N], gradients, [moments], held, piece, moments_at=piece, steps=[step], **options
    )


KERNELS = TORCH._replace(
    weigh_=weigh_,
    around=around,
    set_bits=set_bits,
    ties_by_block=ties_by_block,
    histogram=histogram,
    overlap=overlap,
    squared_norms=squared_norms,
    masked_adamw_=masked_adamw_,
    squared_norms_of=squared_norms_of,
    masked_adamw_of_=masked_adamw_of_,
    sample_of=sample_of,
    weigh_around_of_=weigh_around_of_,
    copy_of_=copy_of_,
    room=3 << 20,
)
"""For GPUs, in pieces as `TORCH` has them: what is rarely done, torch does."""
