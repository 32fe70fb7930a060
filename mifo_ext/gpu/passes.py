"""What is done to a model on a GPU, by kernels in place of torch's operations.

None of this waits for the GPU, so that copies to and from it never stop.

Dimensions:
    N  consecutive entries of one parameter, with their keys
    Q  pieces that are worked on together
    P  bytes that pack N bits, ceil(N / 8)
    B  blocks, or bins of a histogram
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import triton
from jaxtyping import Float32, Float64, Int32, Int64, UInt8
from torch import Tensor

from mifo_ext.core.adamw import AdamWSettings, Moments
from mifo_ext.core.importance import check_decay, float_bits
from mifo_ext.core.kth_largest import Band
from mifo_ext.core.masked_adamw import check_mode
from mifo_ext.core.passes import TORCH
from mifo_ext.core.pieces import Pieces, one_piece
from mifo_ext.core.placed_keys import Aside
from mifo_ext.gpu import kernels

BLOCK = 2048
"""Entries of a program."""
_AS_WRITTEN = {"enable_fp_fusion": False}  # Each operation rounds once.


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
        totals, count, 1 - decay, decay, HISTORY=history, BLOCK=BLOCK, **_AS_WRITTEN,
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


def sort(keys_K: Tensor) -> Tensor:
    """The keys in order, in host memory: on the GPU that takes more than may be taken."""
    in_order = keys_K.cpu().numpy()
    in_order.sort()
    return torch.from_numpy(in_order)


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


def squared_norms_of(
    gradients: Sequence[Float32[Tensor, " N"]], held: UInt8[Tensor, " P"] | None, pieces: Pieces
) -> Float64[Tensor, " 2"]:
    """Squared norms over live and over held entries of all pieces, in one launch.

    Args:
        gradients: flat tensors in which the pieces lie.
        held: the mask in which they have their places, packed; None when all are live.
        pieces: the pieces.
    """
    table = _Table(pieces, held, gradients)
    totals = table.totals(2)
    kernels.squared_norms[table.grid](
        *table.addresses, table.held, table.lengths, totals, HELD=held is not None,
        ALIGNED=table.aligned, BLOCK=BLOCK,
    )  # fmt: skip
    return totals.sum((0, 1))


def masked_adamw_of_(
    weights: Sequence[Float32[Tensor, " N"]],
    gradients: Sequence[Float32[Tensor, " N"]],
    moments: Sequence[Moments],
    held: UInt8[Tensor, " P"] | None,
    pieces: Pieces,
    *,
    steps: Sequence[int],
    lr: float,
    settings: AdamWSettings,
    gradient_scale: float = 1.0,
    mode: str = "exact",
) -> Float64[Tensor, ""]:
    """Take one AdamW step on all pieces' live entries, in one launch, in place.

    See `core.masked_adamw.masked_adamw_`. Moments and weights differ from those of torch's own
    AdamW for GPUs by less than two parts in a million of an update, and a last bit.

    Args:
        weights: flat tensors in which the pieces lie; also gradients and moments.
        gradients: before clipping; not changed.
        moments: updated in place.
        held: the mask in which the pieces have their places, packed; None when all are live.
        pieces: the pieces.
        steps: for each tensor the number of this update, from 1.
        lr: learning rate.
        settings: the other constants of AdamW.
        gradient_scale: factor on the gradients.
        mode: a word of `MODES`.

    Returns:
        The squared norm of the change.
    """
    check_mode(mode)
    first, second = settings.betas
    table = _Table(
        pieces, held, weights, gradients, [m.exp_avg for m in moments],
        [m.exp_avg_sq for m in moments],
    )  # fmt: skip
    step_Q = np.asarray(steps, dtype=np.float64)[pieces.tensor.numpy()]
    roots = table.to_device((1 - second**step_Q) ** 0.5)
    strides = table.to_device(-lr / (1 - first**step_Q))
    totals = table.totals(1)
    # As torch's lerp: from the nearer of both ends.
    from_first = 1 - first < 0.5
    kernels.step[table.grid](
        *table.addresses, table.held, table.lengths, roots, strides, totals,
        gradient_scale, 1 - lr * settings.weight_decay, 1 - first if from_first else -first,
        second, 1 - second, settings.eps, FROM_FIRST=from_first, HELD=held is not None,
        EXACT=mode == "exact", ALIGNED=table.aligned, BLOCK=BLOCK, **_AS_WRITTEN,
    )  # fmt: skip
    return totals.sum()


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
    return masked_adamw_of_([weight_N], gradients, [moments], held, piece, steps=[step], **options)


class _Table:
    """Where the entries of many pieces begin, for a kernel that takes all of them.

    Attributes:
        addresses: for each list of tensors its pieces' addresses (Q), on the device.
        held: the addresses of their masks (Q).
        lengths: their entries (Q).
        aligned: whether all addresses are multiples of 16, so that reads may be wide.
        grid: programs: one for each block of each piece.
    """

    def __init__(self, pieces: Pieces, held: Tensor | None, *tensors: Sequence[Tensor]) -> None:
        self._device = tensors[0][0].device if tensors[0] else torch.device("cpu")
        rows = [
            torch.tensor([tensor.data_ptr() for tensor in of_all])[pieces.tensor] + 4 * pieces.first
            for of_all in tensors
        ]
        self.aligned = all(bool((row & 15 == 0).all()) for row in rows)
        masks = (0 if held is None else held.data_ptr()) + pieces.place // 8
        everything = torch.stack([*rows, masks, pieces.length])
        *self.addresses, self.held, self.lengths = self.to_device(everything)
        blocks = triton.cdiv(int(pieces.length.max()), BLOCK)
        self.grid = (pieces.length.numel(), blocks)

    def to_device(self, values: Tensor | np.ndarray) -> Tensor:
        """Numbers for the kernel; float64 becomes float32."""
        if isinstance(values, np.ndarray):
            values = torch.from_numpy(values.astype(np.float32))
        if self._device.type == "cpu":
            return values
        return values.pin_memory().to(self._device, non_blocking=True)

    def totals(self, number: int) -> Float64[Tensor, "Q blocks number"]:
        """Zeros for every program's sums."""
        return torch.zeros(*self.grid, number, dtype=torch.float64, device=self._device)


KERNELS = TORCH._replace(
    weigh_=weigh_,
    around=around,
    sort=sort,
    ties_by_block=ties_by_block,
    histogram=histogram,
    overlap=overlap,
    squared_norms=squared_norms,
    masked_adamw_=masked_adamw_,
    squared_norms_of=squared_norms_of,
    masked_adamw_of_=masked_adamw_of_,
)
"""For GPUs, in pieces as `TORCH` has them: what is rarely done, torch does."""
