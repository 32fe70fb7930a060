"""Weighing, counting and packing the entries of a model, as loops.

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

from mifo_ext.core.importance import INFINITY_BITS, check_decay, float_bits
from mifo_ext.core.kth_largest import Band
from mifo_ext.core.passes import Counts, Passes
from mifo_ext.loops.adamw import masked_adamw_, squared_norms
from mifo_ext.loops.compiled import BLOCK, compiled, each, ones_in, unpack_block

_NO_HISTORY = torch.zeros(0)
_NO_BITS = torch.zeros(0, dtype=torch.uint8)


@compiled()
def _weigh_block(start, end, sums, fresh):  # type: ignore[no-untyped-def]
    moved = 0
    for i in range(start.size):
        change = end[i] - start[i]
        moved += change != 0
        sums[i] += change * change
        start[i] = abs(change) * fresh
    return moved


@compiled()
def _weigh_and_carry_block(  # type: ignore[no-untyped-def]
    start, end, history, marks, sums, fresh, decay
):
    moved, zero = 0, np.float32(0)
    for i in range(start.size):
        change = end[i] - start[i]
        before = history[i]  # Read in any case: a read that depends on the mark is slow.
        moved += change != 0
        sums[i] += change * change
        start[i] = abs(change) * fresh + (before if marks[i] else zero) * decay
    return moved


@compiled(
    "UniTuple(float64, 2)(float32[::1], float32[::1], float32[::1], uint8[::1], float32, float32)"
)
def _weigh(start, end, history, carried, fresh, decay):  # type: ignore[no-untyped-def]
    sums = np.zeros(BLOCK, dtype=np.float32)
    words = np.zeros(BLOCK // 8, dtype=np.uint64)
    marks, moved = words.view(np.uint8), 0
    for first in range(0, start.size, BLOCK):
        last = min(first + BLOCK, start.size)
        was, now, part = start[first:last], end[first:last], sums[: last - first]
        if history.size:
            unpack_block(carried, first, words)
            before = history[first:last]
            moved += _weigh_and_carry_block(was, now, before, marks, part, fresh, decay)
        else:
            moved += _weigh_block(was, now, part, fresh)
    return float(moved), sums.astype(np.float64).sum()


@compiled()
def _count_block(keys, bits, low, high, marks):  # type: ignore[no-untyped-def]
    above, inside, most, width = np.int32(0), np.int32(0), np.uint32(0), np.uint32(high - low)
    for i in range(keys.size):
        # In unsigned numbers what lies below a bound lies far above it: negative keys, NaNs.
        is_inside = np.uint32(keys[i] - low) <= width
        marks[i] = is_inside
        above = np.int32(above + np.int32(keys[i] > high))
        inside = np.int32(inside + np.int32(is_inside))
        most = max(most, np.uint32(bits[i]))
    return above, inside, most


@compiled()
def _pick_block(keys, words, marks, found, count):  # type: ignore[no-untyped-def]
    whole = keys.size // 8
    for i in range(whole):
        if words[i] != 0:  # Of eight keys most often none is marked.
            for j in range(8 * i, 8 * i + 8):
                found[count] = keys[j]  # The next one takes its place unless it is marked.
                count += marks[j]
    for j in range(8 * whole, keys.size):
        found[count] = keys[j]
        count += marks[j]
    return count


@compiled("UniTuple(int64, 3)(int32[::1], int32[::1], int32, int32, int32[::1])")
def _around(keys, bits, low, high, found):  # type: ignore[no-untyped-def]
    words = np.zeros(BLOCK // 8, dtype=np.uint64)
    marks, above, inside, picked, most = words.view(np.uint8), 0, 0, 0, 0
    for start in range(0, keys.size, BLOCK):
        part = keys[start : start + BLOCK]
        counts = _count_block(part, bits[start : start + BLOCK], low, high, marks)
        above, inside, most = above + counts[0], inside + counts[1], max(most, int(counts[2]))
        if found.size and counts[1]:
            picked = _pick_block(part, words, marks, found, picked)
    return above, inside, most


@compiled()
def _count_equal(keys, key):  # type: ignore[no-untyped-def]
    equal = np.int32(0)
    for i in range(keys.size):
        equal = np.int32(equal + np.int32(keys[i] == key))
    return equal


@compiled("void(int32[::1], int32, int64, int64, int64[::1])")
def _ties_by_block(keys, key, at, size, counts):  # type: ignore[no-untyped-def]
    start = 0
    while start < keys.size:
        block = (at + start) // size
        stop = min(keys.size, (block + 1) * size - at)
        counts[block] += _count_equal(keys[start:stop], key)
        start = stop


@compiled("void(int32[::1], int32, uint8[::1])")
def _pack(keys, key, packed):  # type: ignore[no-untyped-def]
    whole = keys.size // 8
    for i in range(whole):
        byte = np.uint8(0)
        for bit in range(8):
            byte |= np.uint8(keys[8 * i + bit] > key) << np.uint8(bit)
        packed[i] = byte
    if whole < packed.size:
        packed[whole] = 0
        for i in range(8 * whole, keys.size):
            packed[whole] |= np.uint8(keys[i] > key) << np.uint8(i & 7)


@compiled("UniTuple(int64, 2)(uint8[::1], uint8[::1])")
def _overlap(one, other):  # type: ignore[no-untyped-def]
    both, either = 0, 0
    for i in range(one.size):
        both += ones_in(one[i] & other[i])
        either += ones_in(one[i] | other[i])
    return both, either


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
        history_N, carried_P = _NO_HISTORY, _NO_BITS
    totals = _weigh(
        start_N.numpy(), end_N.numpy(), history_N.numpy(), carried_P.numpy(), 1 - decay, decay
    )
    return torch.tensor(totals, dtype=torch.float64)


def around(
    keys_N: Int32[Tensor, " N"], importance_N: Float32[Tensor, " N"], band: Band, room: int
) -> tuple[Counts, Int32[Tensor, " K"] | None]:
    """Count keys around a band, and pick those inside; see `core.passes.around`."""
    bits = float_bits(importance_N).numpy()
    found = np.empty(keys_N.numel() if room > 0 else 0, dtype=np.int32)
    above, inside, most = _around(keys_N.numpy(), bits, band.low, band.high, found)
    counts = Counts(above, inside, most >= INFINITY_BITS)
    if counts.inside > room:
        return counts, None
    return counts, torch.from_numpy(found[: counts.inside].copy())


def ties_by_block(
    keys_N: Int32[Tensor, " N"], key: int, *, at: int, size: int, blocks: int
) -> Int64[Tensor, " B"]:
    """Count keys that equal `key` by blocks; see `core.passes.ties_by_block`."""
    counts = np.zeros(blocks, dtype=np.int64)
    _ties_by_block(keys_N.numpy(), key, at, size, counts)
    return torch.from_numpy(counts)


def pack(keys_N: Int32[Tensor, " N"], key: int, ties: int, out_P: UInt8[Tensor, " P"]) -> None:
    """Keys above `key`, and tied ones among the first; see `core.passes.pack`."""
    keys, packed = keys_N.numpy(), out_P.numpy()
    whole = ties // 8  # bytes of which all entries count ties
    _pack(keys[: 8 * whole], key - 1, packed[:whole])
    _pack(keys[8 * whole :], key, packed[whole:])
    for i in range(8 * whole, ties):
        packed[whole] |= np.uint8((keys[i] == key) << (i & 7))


def overlap(one_P: UInt8[Tensor, " P"], other_P: UInt8[Tensor, " P"]) -> tuple[int, int]:
    """How many bits are set in both, and in either."""
    both, either = _overlap(one_P.numpy(), other_P.numpy())
    return both, either


LOOPS = Passes(
    each=each,
    weigh_=weigh_,
    around=around,
    ties_by_block=ties_by_block,
    pack=pack,
    overlap=overlap,
    squared_norms=squared_norms,
    masked_adamw_=masked_adamw_,
    piece=1 << 19,
)
"""For processors: pieces that stay in the cache between one loop and the next."""
