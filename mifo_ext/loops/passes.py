"""What is done to a piece of a model, by loops in place of torch's operations.

Dimensions:
    N  consecutive entries of one parameter, with their keys
    K  keys that lie in a band
    B  blocks
    P  bytes that pack N bits, ceil(N / 8)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int32, Int64, UInt8
from torch import Tensor

from mifo_ext.core.adamw import Moments
from mifo_ext.core.importance import INFINITY_BITS, check_decay, float_bits
from mifo_ext.core.kth_largest import Band
from mifo_ext.core.passes import Passes, histogram
from mifo_ext.core.pieces import one_piece
from mifo_ext.core.placed_keys import Aside
from mifo_ext.loops import bit_kernels, kernels
from mifo_ext.loops.at_once import (
    around_of,
    copy_of_,
    masked_adamw_of_,
    sample_of,
    squared_norms_of,
    weigh_around_of_,
)
from mifo_ext.loops.threads import each

_COUNTED_AT_ONCE = 1 << 16
"""Keys that a thread counts at a time."""
_NO_BITS = torch.zeros(0, dtype=torch.uint8)


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
    if history_N is None or carried_P is None or decay == 0:
        history_N, carried_P = end_N, _NO_BITS
    totals = kernels.weigh(
        start_N.numpy(), end_N.numpy(), history_N.numpy(), carried_P.numpy(), 1 - decay, decay
    )
    return torch.tensor(totals, dtype=torch.float64)


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
    bits = float_bits(importance_N).numpy()
    room = 0 if aside.full() else keys_N.numel() + bit_kernels.SPARE
    # Not numpy's memory, of which huge pages are taken where few places are written.
    found_K = torch.empty(room, dtype=torch.int64)
    counts = bit_kernels.around(
        keys_N.contiguous().numpy(),
        bits,
        *band,
        INFINITY_BITS,
        place,
        above_P.numpy(),
        found_K.numpy(),
    )
    counts_3.numpy()[:] = counts
    if room:
        aside.add(found_K[: counts[1]])


def set_bits(
    packed_P: UInt8[Tensor, " P"], placed_K: Int64[Tensor, " K"], first: int, last: int
) -> None:
    """Set the bits at the places of some of these; see `core.passes.set_bits`."""
    bit_kernels.set_bits(packed_P.numpy(), placed_K.numpy(), first, last)


def by_bounds(key_K: Tensor, bound_B: Int64[Tensor, " B"]) -> Int64[Tensor, " bins"]:
    """Count keys between bounds; see `core.placed_keys.by_bounds`."""

    def count(part_K: Tensor) -> np.ndarray:
        counts = np.zeros(bound_B.numel() + 1, dtype=np.int64)
        bit_kernels.by_bounds(part_K.numpy(), bound_B.numpy(), counts)
        return counts

    return torch.from_numpy(sum(each(count, torch.split(key_K, _COUNTED_AT_ONCE))))


def largest(key_K: Tensor, ranks: Sequence[int]) -> list[int]:
    """The k-th largest keys, which leaves the keys in another order; see `core.passes.Passes`."""
    keys, places = key_K.numpy(), [key_K.numel() - k for k in ranks]
    if places:
        keys.partition(places)
    return [int(keys[place]) for place in places]


def ties_by_block(
    keys_N: Int32[Tensor, " N"], key: int, *, at: int, size: int, blocks: int
) -> Int64[Tensor, " B"]:
    """Count keys that equal `key` by blocks; see `core.passes.ties_by_block`."""
    counts = np.zeros(blocks, dtype=np.int64)
    bit_kernels.ties_by_block(keys_N.contiguous().numpy(), key, at, size, counts)
    return torch.from_numpy(counts)


def pack(keys_N: Int32[Tensor, " N"], key: int, ties: int, out_P: UInt8[Tensor, " P"]) -> None:
    """Keys above `key`, and tied ones among the first; see `core.passes.pack`."""
    keys, packed = keys_N.contiguous().numpy(), out_P.numpy()
    whole = ties // 8  # bytes of which all entries count ties
    bit_kernels.pack(keys[: 8 * whole], key - 1, packed[:whole])
    bit_kernels.pack(keys[8 * whole :], key, packed[whole:])
    for i in range(8 * whole, ties):
        packed[whole] |= np.uint8((keys[i] == key) << (i & 7))


def overlap(one_P: UInt8[Tensor, " P"], other_P: UInt8[Tensor, " P"]) -> Int64[Tensor, " 2"]:
    """How many bits are set in both, and in either."""
    return torch.tensor(bit_kernels.overlap(one_P.numpy(), other_P.numpy()))


def squared_norms(
    gradient_N: Float32[Tensor, " N"], held: UInt8[Tensor, " P"] | None
) -> Float64[Tensor, " 2"]:
    """Squared norms over live and over held entries; see `squared_norms_of`."""
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


LOOPS = Passes(
    each=each,
    weigh_=weigh_,
    around=around,
    by_bounds=by_bounds,
    set_bits=set_bits,
    ties_by_block=ties_by_block,
    histogram=histogram,
    pack=pack,
    overlap=overlap,
    squared_norms=squared_norms,
    masked_adamw_=masked_adamw_,
    piece=1 << 20,
    room=1 << 21,
    largest=largest,
    squared_norms_of=squared_norms_of,
    masked_adamw_of_=masked_adamw_of_,
    sample_of=sample_of,
    weigh_around_of_=weigh_around_of_,
    around_of=around_of,
    copy_of_=copy_of_,
)
"""For processors: pieces so large that calling a loop costs little, so small that all threads
end together."""
