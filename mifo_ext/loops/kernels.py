"""Loops that weigh, square and step, over arrays of numpy; those that compare are in `bit_kernels`.

Marks are bytes of 0 and 1, made from eight bits at once. What is chosen by a mark is read in any
case: a read that depends on it is slow. Sums are kept in one place for each entry of a block, so
that adding up neither waits for the sum before nor loses small numbers.

Relies on: torch's own AdamW for processors (`torch.optim.adam._single_tensor_adam`) takes the
operations of `_step_block` in this order, and rounds product and sum once in `torch.lerp` and
`torch.addcmul`, as every processor with AVX2 or NEON does.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba.core import types
from numba.extending import intrinsic

from mifo_ext.loops.compiled import compiled

BLOCK = 1024
"""Entries whose mask is unpacked at once."""

_EIGHT_BITS = np.arange(256, dtype=np.uint8)[:, None]
_BYTES_OF_BITS = np.unpackbits(_EIGHT_BITS, axis=1, bitorder="little").view(np.uint64)[:, 0]
"""By packed byte, its eight bits as bytes, in one word."""


@intrinsic  # type: ignore[untyped-decorator]
def _fused_multiply_add(typing: Any, factor: Any, value: Any, term: Any) -> Any:
    """`factor * value + term` in float32, rounded once."""
    del typing, factor, value, term
    signature = types.float32(types.float32, types.float32, types.float32)
    return signature, lambda context, builder, signature, arguments: builder.fma(*arguments)


@compiled()
def _unpack_block(packed_P: Any, start: int, words: Any) -> None:
    """Spread the bits from entry `start` on, a multiple of 8, over the bytes of `words`."""
    first = start >> 3
    for i in range(min(words.size, packed_P.size - first)):
        words[i] = _BYTES_OF_BITS[packed_P[first + i]]


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
        before = history[i]
        moved += change != 0
        sums[i] += change * change
        start[i] = abs(change) * fresh + (before if marks[i] else zero) * decay
    return moved


@compiled(
    "UniTuple(float64, 2)(float32[::1], float32[::1], float32[::1], uint8[::1], float32, float32)"
)
def weigh(start, end, history, carried, fresh, decay):  # type: ignore[no-untyped-def]
    """Write importance over `start`; how many entries changed, and the sum of squares."""
    sums = np.zeros(BLOCK, dtype=np.float32)
    words = np.zeros(BLOCK // 8, dtype=np.uint64)
    marks, moved = words.view(np.uint8), 0
    for first in range(0, start.size, BLOCK):
        last = min(first + BLOCK, start.size)
        was, now, part = start[first:last], end[first:last], sums[: last - first]
        if history.size:
            _unpack_block(carried, first, words)
            before = history[first:last]
            moved += _weigh_and_carry_block(was, now, before, marks, part, fresh, decay)
        else:
            moved += _weigh_block(was, now, part, fresh)
    return float(moved), sums.astype(np.float64).sum()


@compiled()
def _square_block(gradient, marks, live_sums, held_sums):  # type: ignore[no-untyped-def]
    zero = live_sums.dtype.type(0)
    for i in range(gradient.size):
        value = live_sums.dtype.type(gradient[i])
        square = value * value
        live_sums[i] += zero if marks[i] else square
        held_sums[i] += square if marks[i] else zero


@compiled()
def _sum_squares(gradient, held, live_sums, held_sums):  # type: ignore[no-untyped-def]
    words = np.zeros(BLOCK // 8, dtype=np.uint64)
    marks = words.view(np.uint8)
    for start in range(0, gradient.size, BLOCK):
        part = gradient[start : start + BLOCK]
        if held.size:
            _unpack_block(held, start, words)
        _square_block(part, marks, live_sums, held_sums)


@compiled("UniTuple(float64, 2)(float32[::1], uint8[::1])")
def squared_norms(gradient, held):  # type: ignore[no-untyped-def]
    """Sums of squares over live and over held entries."""
    live, held_32 = np.zeros(BLOCK, dtype=np.float32), np.zeros(BLOCK, dtype=np.float32)
    _sum_squares(gradient, held, live, held_32)
    sums = live.astype(np.float64).sum(), held_32.astype(np.float64).sum()
    if math.isfinite(sums[0] + sums[1]):
        return sums
    wide, held_wide = np.zeros(BLOCK, dtype=np.float64), np.zeros(BLOCK, dtype=np.float64)
    _sum_squares(gradient, held, wide, held_wide)  # No finite number overflows here.
    return wide.sum(), held_wide.sum()


@compiled()
def _step_block(  # type: ignore[no-untyped-def]
    weight, gradient, first, second, marks, changes, exact,
    scale, shrink, blend, from_first, decay, grow, root, eps, stride,
):  # fmt: skip
    zero = np.float32(0)
    for i in range(weight.size):
        # What `exact` says is the same for all, so two loops are made of this one, each with one
        # choice less: half the time.
        held, w, m, v = marks[i] != 0, weight[i], first[i], second[i]
        g = zero if held and not exact else gradient[i] * scale
        near = m if from_first else g
        new_m = _fused_multiply_add(blend, g - m, near)
        new_v = _fused_multiply_add(grow * g, g, v * decay)
        new_w = w * shrink + (stride * new_m) / (math.sqrt(new_v) / root + eps)
        kept = held and exact
        new_w = w if kept else new_w
        weight[i], first[i], second[i] = new_w, m if kept else new_m, v if kept else new_v
        changes[i] += (new_w - w) * (new_w - w)


@compiled(
    "float64(float32[::1], float32[::1], float32[::1], float32[::1], uint8[::1], boolean,"
    " float32, float32, float32, boolean, float32, float32, float32, float32, float32)"
)
def step(  # type: ignore[no-untyped-def]
    weight, gradient, first, second, held, exact,
    scale, shrink, blend, from_first, decay, grow, root, eps, stride,
):  # fmt: skip
    """Take an AdamW step in place; the sum of squares of the change."""
    changes = np.zeros(BLOCK, dtype=np.float32)
    words = np.zeros(BLOCK // 8, dtype=np.uint64)
    marks = words.view(np.uint8)
    for start in range(0, weight.size, BLOCK):
        if held.size:
            _unpack_block(held, start, words)
        stop = min(start + BLOCK, weight.size)
        _step_block(
            weight[start:stop], gradient[start:stop], first[start:stop], second[start:stop],
            marks[: stop - start], changes[: stop - start], exact,
            scale, shrink, blend, from_first, decay, grow, root, eps, stride,
        )  # fmt: skip
    return changes.astype(np.float64).sum()
