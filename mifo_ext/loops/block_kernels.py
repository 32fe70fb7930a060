"""Loops over the blocks of a model's entries; each thread runs one, until no block is left.

What a loop names first are the rows of its table (see `blocks.table_of`), in that order.
"""

from __future__ import annotations

import numpy as np

from mifo_ext.loops import bit_kernels, kernels
from mifo_ext.loops.bit_kernels import SPARE
from mifo_ext.loops.blocks import BLOCK, add_to, bits, floats, integers, next_block, place
from mifo_ext.loops.compiled import compiled

_BLOCKS = "int64[::1], int64[:, ::1], int64"
_AROUND = "UniTuple(int32, 3), int64[::1], int64[::1], int64[:, ::1]"


@compiled()
def _put_aside(found, count, aside, used):  # type: ignore[no-untyped-def]
    """Copy as many as have room, and count all."""
    first = add_to(used, count)
    for i in range(min(count, aside.size - first)):
        aside[first + i] = found[i]


@compiled()
def _look(keys, packed, at, band, found, aside, used, counts):  # type: ignore[no-untyped-def]
    """See `bit_kernels.around`; `band` is its bounds and infinity."""
    if used[0] >= aside.size:
        found = found[:0]
    low, high, infinity = band
    counts[:] = bit_kernels.around(keys, keys, low, high, infinity, at, packed, found)
    if found.size:
        _put_aside(found, counts[1], aside, used)


@compiled(f"void({_BLOCKS}, {_AROUND})")
def around(turn, table, blocks, band, aside, used, counts):  # type: ignore[no-untyped-def]
    """Keys, masks: count keys around a band, write who is above, and set those inside aside."""
    found = np.empty(BLOCK + SPARE, dtype=np.int64)
    while True:
        block = next_block(turn, table, blocks)
        if block[3] == 0:
            break
        keys, packed, at = integers(table, 0, block), bits(table, 1, block), place(table, block)
        _look(keys, packed, at, band, found, aside, used, counts[block[0]])


@compiled(f"void({_BLOCKS}, UniTuple(float32, 2), {_AROUND}, float64[:, ::1])")
def weigh_around(  # type: ignore[no-untyped-def]
    turn, table, blocks, shares, band, aside, used, counts, totals
):
    """Starts, ends, histories, what is carried, masks: `kernels.weigh`, then `around`."""
    found = np.empty(BLOCK + SPARE, dtype=np.int64)
    while True:
        block = next_block(turn, table, blocks)
        if block[3] == 0:
            break
        start, end = floats(table, 0, block), floats(table, 1, block)
        history, carried = floats(table, 2, block), bits(table, 3, block)
        totals[block[0]] = kernels.weigh(start, end, history, carried, shares[0], shares[1])
        keys, packed, at = integers(table, 0, block), bits(table, 4, block), place(table, block)
        _look(keys, packed, at, band, found, aside, used, counts[block[0]])


@compiled()
def _before(history, carried, i):  # type: ignore[no-untyped-def]
    """An entry's history, from its bits, or 0 where it is not carried over.

    Without a branch, which would wait for the bit before anything behind it is read.
    """
    bit = np.int32((carried[i >> 3] >> (i & 7)) & 1) if carried.size else np.int32(0)
    return np.int32(history[i] & -bit).view(np.float32)


@compiled(f"void({_BLOCKS}, UniTuple(float32, 2), int64, int64[:, ::1], int32[::1])")
def sample(turn, table, blocks, shares, stride, lies, keys):  # type: ignore[no-untyped-def]
    """Starts, ends, histories, what is carried: what keys every stride-th entry is going to have.

    Of each piece, `lies` has its first such entry, and where its keys begin.
    """
    while True:
        block = next_block(turn, table, blocks)
        if block[3] == 0:
            break
        start, end = floats(table, 0, block), floats(table, 1, block)
        history, carried = integers(table, 2, block), bits(table, 3, block)
        sampled, out = lies[block[1]]
        earlier = max(0, -((sampled - block[2]) // stride))  # In blocks before.
        out += earlier
        for i in range(sampled + earlier * stride - block[2], block[3], stride):
            change, before = abs(end[i] - start[i]), _before(history, carried, i)
            importance = np.float32(change * shares[0] + before * shares[1])
            keys[out] = max(np.int32(0), importance.view(np.int32))
            out += 1


@compiled(f"void({_BLOCKS}, boolean)")
def copy(turn, table, blocks, aligned):  # type: ignore[no-untyped-def]
    """Targets, sources: see `kernels.copy`."""
    while True:
        block = next_block(turn, table, blocks)
        if block[3] == 0:
            break
        kernels.copy(floats(table, 0, block), floats(table, 1, block), aligned)


@compiled(f"void({_BLOCKS}, float64[:, ::1])")
def squared_norms(turn, table, blocks, totals):  # type: ignore[no-untyped-def]
    """Gradients, masks: see `kernels.squared_norms`."""
    while True:
        block = next_block(turn, table, blocks)
        if block[3] == 0:
            break
        totals[block[0]] = kernels.squared_norms(floats(table, 0, block), bits(table, 1, block))


@compiled(f"void({_BLOCKS}, boolean, boolean, float32[:, ::1], float64[::1])")
def step(turn, table, blocks, exact, from_first, numbers, totals):  # type: ignore[no-untyped-def]
    """Weights, gradients, both moments, masks: see `kernels.step`, with each piece's numbers."""
    while True:
        block = next_block(turn, table, blocks)
        if block[3] == 0:
            break
        weight, gradient = floats(table, 0, block), floats(table, 1, block)
        first, second = floats(table, 2, block), floats(table, 3, block)
        held, n = bits(table, 4, block), numbers[block[1]]
        totals[block[0]] = kernels.step(
            weight, gradient, first, second, held, exact, from_first,
            (n[0], n[1], n[2], n[3], n[4], n[5], n[6]),
        )  # fmt: skip
