"""What is done to a piece of a model, by loops in place of torch's operations.

Dimensions:
    N  consecutive entries of one parameter, with their keys
    K  keys that lie in a band
    B  blocks
    P  bytes that pack N bits, ceil(N / 8)
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int32, Int64, UInt8
from torch import Tensor

from mifo_ext.core.adamw import AdamWSettings, Moments
from mifo_ext.core.importance import INFINITY_BITS, check_decay, float_bits
from mifo_ext.core.kth_largest import Band
from mifo_ext.core.masked_adamw import check_mode
from mifo_ext.core.passes import Passes, histogram
from mifo_ext.core.placed_keys import Aside
from mifo_ext.loops import bit_kernels, kernels
from mifo_ext.loops.compiled import each

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


def searchable(keys_K: Tensor) -> Tensor:
    """The keys in order, in their place."""
    keys_K.numpy().sort()
    return keys_K


def set_bits(packed_P: UInt8[Tensor, " P"], placed_K: Int64[Tensor, " K"]) -> None:
    """Set the bits at the places of these; see `core.passes.set_bits`."""
    bit_kernels.set_bits(packed_P.numpy(), placed_K.numpy())


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
    """Squared norms over live and over held entries; see `core.masked_adamw.squared_norms`.

    To one part in 100,000; entries below 1e-22 may count as zero.
    """
    norms = kernels.squared_norms(
        gradient_N.contiguous().numpy(), (_NO_BITS if held is None else held).numpy()
    )
    return torch.tensor(norms, dtype=torch.float64)


def masked_adamw_(
    weight_N: Float32[Tensor, " N"],
    gradient_N: Float32[Tensor, " N"],
    moments: Moments,
    *,
    held: UInt8[Tensor, " P"] | None,
    step: int,
    lr: float,
    settings: AdamWSettings,
    gradient_scale: float = 1.0,
    mode: str = "exact",
) -> Float64[Tensor, ""]:
    """Take one AdamW step on the live entries, in place; see `core.masked_adamw.masked_adamw_`.

    Moments have the bits that torch gives them, on every processor with AVX2 or NEON. Weights
    differ from torch's by rounding, for torch's square root is not exact everywhere, and here bias
    is corrected in the constants, which saves a division an entry: by two parts in a million of the
    update, and the last bit. No temporary memory.

    Returns:
        The squared norm of the change, to one part in 100,000; changes below 1e-22 may count as
        zero.
    """
    check_mode(mode)
    first, second = settings.betas
    root = (1 - second**step) ** 0.5
    # As torch's lerp: from the nearer of both ends.
    nearer_first = 1 - first < 0.5
    blend = 1 - first if nearer_first else -first
    change = kernels.step(
        weight_N.numpy(),
        gradient_N.contiguous().numpy(),
        moments.exp_avg.numpy(),
        moments.exp_avg_sq.numpy(),
        (_NO_BITS if held is None else held).numpy(),
        mode == "exact",
        nearer_first,
        (
            gradient_scale,
            1 - lr * settings.weight_decay,
            blend,
            second,
            1 - second,
            settings.eps * root,
            -lr * root / (1 - first**step),
        ),
    )
    return torch.tensor(change, dtype=torch.float64)


LOOPS = Passes(
    each=each,
    weigh_=weigh_,
    around=around,
    searchable=searchable,
    set_bits=set_bits,
    ties_by_block=ties_by_block,
    histogram=histogram,
    pack=pack,
    overlap=overlap,
    squared_norms=squared_norms,
    masked_adamw_=masked_adamw_,
    piece=1 << 20,
    room=1 << 21,
)
"""For processors: pieces so large that calling a loop costs little, so small that all threads
end together."""
