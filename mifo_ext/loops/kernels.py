"""Loops that weigh, square and step, over arrays of numpy, 64 entries at a time.

What a bit of a mask chooses is read in any case: a read that depends on it is slow. Sums are kept
in sixteen places and go on in float64 block by block, so that adding neither waits for the sum
before nor loses small numbers.

Relies on: torch's own AdamW for processors (`torch.optim.adam._single_tensor_adam`) makes moments
by the operations of `_adamw` in this order, and rounds product and sum once in `torch.lerp` and
`torch.addcmul`, as every processor with AVX2 or NEON does.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from mifo_ext.loops.compiled import compiled
from mifo_ext.loops.lanes import (
    AT_ONCE,
    FLOATS,
    LANES,
    SIXTEENS,
    Floats,
    Lanes,
    apart,
    bits_of,
    everywhere,
    marks_in,
    ones_in,
    padded,
    word,
    zeros,
)

BLOCK = 8192
"""Entries of which sums are kept in float32: 128 in each place, so to one part in 100,000."""

_NONE, _ALL = np.uint64(0), np.uint64(2**64 - 1)


def _given(context: Any, builder: Any, signature: Any, arguments: Any) -> Iterator[Any]:
    """What an operation is given: arrays to be read by sixteens, tuples of numbers in all lanes."""
    for kind, value in zip(signature.args, arguments, strict=True):
        if isinstance(kind, types.Array):
            yield Floats(context, builder, kind, value)
        elif isinstance(kind, types.UniTuple):
            numbers = cgutils.unpack_tuple(builder, value)
            yield [Lanes(builder, everywhere(builder, number, FLOATS)) for number in numbers]
        else:
            yield value


@intrinsic  # type: ignore[untyped-decorator]
def _weigh_64(
    typing: Any, start: Any, end: Any, history: Any, at: Any, carried: Any, shares: Any, sums: Any
) -> Any:
    """Write importance over 64 starts; a bit for each entry that changed."""
    del typing, at, carried

    def generate(context: Any, builder: Any, *given: Any) -> Any:
        start, end, history, at, carried, (fresh, decay), sums = _given(context, builder, *given)
        moved, squares, zero = ir.IntType(AT_ONCE)(0), [], zeros(builder)
        for first in SIXTEENS:
            was, now = start.read(at, first), end.read(at, first)
            before = history.read(at, first).where(marks_in(builder, carried, first), zero)
            change = now - was
            start.write(abs(change) * fresh + before * decay, at, first)
            moved = builder.or_(moved, bits_of(builder, now.differs(was), first))
            squares.append(change * change)
        sums.add(squares, 0)
        return moved

    return types.uint64(start, end, history, types.intp, types.uint64, shares, sums), generate


@intrinsic  # type: ignore[untyped-decorator]
def _square_64(typing: Any, gradient: Any, at: Any, held: Any, sums: Any) -> Any:
    """Add 64 squares to the first sixteen sums, or where they are held to those behind."""
    del typing, at, held

    def generate(context: Any, builder: Any, *given: Any) -> Any:
        gradient, at, held, sums = _given(context, builder, *given)
        of_live, of_held, zero = [], [], zeros(builder)
        for first in SIXTEENS:
            value, marks = gradient.read(at, first), marks_in(builder, held, first)
            of_live.append(zero.where(marks, value * value))
            of_held.append((value * value).where(marks, zero))
        sums.add(of_live, 0)
        sums.add(of_held, LANES)
        return context.get_dummy_value()

    return types.void(gradient, types.intp, types.uint64, sums), generate


def _adamw(w: Lanes, g: Lanes, m: Lanes, v: Lanes, nearer: Any, numbers: list[Lanes]) -> Any:
    """A weight and its moments after a step with a gradient."""
    shrink, blend, decay, grow, eps, stride = numbers
    new_m = blend.times_plus(g - m, m.where(nearer, g))
    new_v = (grow * g).times_plus(g, v * decay)
    return w * shrink + stride * new_m / (new_v.sqrt() + eps), new_m, new_v


@intrinsic  # type: ignore[untyped-decorator]
def _step_64(
    typing: Any, weight: Any, gradient: Any, first: Any, second: Any, at: Any,
    kept: Any, silent: Any, from_first: Any, numbers: Any, sums: Any,
) -> Any:  # fmt: skip
    """Step 64 weights and their moments, but those that are kept; the silent have no gradient."""
    del typing, at, kept, silent, from_first

    def generate(context: Any, builder: Any, *given: Any) -> Any:
        *arrays, at, kept, silent, from_first, numbers, sums = _given(context, builder, *given)
        weight, gradient, first, second = arrays
        nearer, squares, zero = builder.trunc(from_first, ir.IntType(1)), [], zeros(builder)
        for lane in SIXTEENS:
            w, m, v = (array.read(at, lane) for array in (weight, first, second))
            g = zero.where(marks_in(builder, silent, lane), gradient.read(at, lane) * numbers[0])
            new_w, new_m, new_v = _adamw(w, g, m, v, nearer, numbers[1:])
            marks = marks_in(builder, kept, lane)
            new_w = w.where(marks, new_w)
            weight.write(new_w, at, lane)
            first.write(m.where(marks, new_m), at, lane)
            second.write(v.where(marks, new_v), at, lane)
            squares.append((new_w - w) * (new_w - w))
        sums.add(squares, 0)
        return context.get_dummy_value()

    return types.void(
        weight, gradient, first, second, types.intp,
        types.uint64, types.uint64, types.boolean, numbers, sums,
    ), generate  # fmt: skip


@intrinsic  # type: ignore[untyped-decorator]
def _copy_64(typing: Any, target: Any, source: Any, at: Any) -> Any:
    """Copy 64 numbers to a multiple of 64 bytes, past the caches."""
    del typing, at

    def generate(context: Any, builder: Any, *given: Any) -> Any:
        target, source, at = _given(context, builder, *given)
        for first in SIXTEENS:
            target.write_past_caches(source.read(at, first).value, at, first)
        return context.get_dummy_value()

    return types.void(target, source, types.intp), generate


@compiled()
def copy(target, source, aligned):  # type: ignore[no-untyped-def]
    """Copy numbers that nobody reads soon, past the caches if the target begins at 64 bytes."""
    whole = target.size // AT_ONCE * AT_ONCE if aligned else 0
    for at in range(0, whole, AT_ONCE):
        _copy_64(target, source, at)
    target[whole:] = source[whole:]


@compiled()
def _take(sums, first):  # type: ignore[no-untyped-def]
    """What sixteen places have come to, which begin anew."""
    total = 0.0
    for i in range(first, first + LANES):
        total += np.float64(sums[i])
        sums[i] = 0
    return total


@compiled(
    "UniTuple(float64, 2)(float32[::1], float32[::1], float32[::1], uint8[::1], float32, float32)"
)
def weigh(start, end, history, carried, fresh, decay):  # type: ignore[no-untyped-def]
    """Write importance over `start`; how many entries changed, and the sum of squares.

    Where `carried` has no bits, `history` is read and does not matter.
    """
    shares, sums = (fresh, decay), np.zeros(LANES, dtype=np.float32)
    moved, squares, whole = 0, 0.0, start.size // AT_ONCE * AT_ONCE
    for first in range(0, whole, BLOCK):
        for at in range(first, min(first + BLOCK, whole), AT_ONCE):
            bits = _weigh_64(start, end, history, at, word(carried, at >> 3), shares, sums)
            moved += ones_in(bits)
        squares += _take(sums, 0)
    if whole < start.size:
        was, now = padded(start, whole, 0), padded(end, whole, 0)
        before, last = padded(history, whole, 0), word(carried, whole >> 3)
        moved += ones_in(_weigh_64(was, now, before, 0, last, shares, sums))
        squares += _take(sums, 0)
        start[whole:] = was[: start.size - whole]
    return float(moved), squares


@compiled()
def _wide_norms(gradient, held):  # type: ignore[no-untyped-def]
    live, of_held = 0.0, 0.0
    for i in range(gradient.size):
        square = np.float64(gradient[i]) * np.float64(gradient[i])
        is_held = held.size and (held[i >> 3] >> (i & 7)) & 1
        live, of_held = live + (0.0 if is_held else square), of_held + (square if is_held else 0.0)
    return live, of_held


@compiled("UniTuple(float64, 2)(float32[::1], uint8[::1])")
def squared_norms(gradient, held):  # type: ignore[no-untyped-def]
    """Sums of squares over live and over held entries."""
    sums, live, of_held = np.zeros(2 * LANES, dtype=np.float32), 0.0, 0.0
    count, block = gradient.size // AT_ONCE, BLOCK // AT_ONCE
    for first in range(0, count, block):
        for number in range(first, min(first + block, count)):
            at = apart(number, count)
            _square_64(gradient, at, word(held, at >> 3), sums)
        live, of_held = live + _take(sums, 0), of_held + _take(sums, LANES)
    whole = count * AT_ONCE
    if whole < gradient.size:
        _square_64(padded(gradient, whole, 0), 0, word(held, whole >> 3), sums)
        live, of_held = live + _take(sums, 0), of_held + _take(sums, LANES)
    if math.isfinite(live + of_held):
        return live, of_held
    return _wide_norms(gradient, held)  # No finite number overflows here.


@compiled(
    "float64(float32[::1], float32[::1], float32[::1], float32[::1], uint8[::1], boolean, boolean,"
    " UniTuple(float32, 7))"
)
def step(  # type: ignore[no-untyped-def]
    weight, gradient, first, second, held, exact, from_first, numbers
):
    """Take an AdamW step in place; the sum of squares of the change.

    `numbers` are a factor on the gradient and those that `_adamw` takes, in its order.
    """
    sums, total, size = np.zeros(LANES, dtype=np.float32), 0.0, weight.size
    whole = size // AT_ONCE * AT_ONCE
    for start in range(0, whole, BLOCK):
        for at in range(start, min(start + BLOCK, whole), AT_ONCE):
            bits = word(held, at >> 3)
            kept, silent = (bits, _NONE) if exact else (_NONE, bits)
            _step_64(
                weight, gradient, first, second, at, kept, silent, from_first, numbers, sums
            )  # fmt: skip
        total += _take(sums, 0)
    if whole < size:
        w, g = padded(weight, whole, 0), padded(gradient, whole, 0)
        m, v = padded(first, whole, 0), padded(second, whole, 0)
        bits, spare = word(held, whole >> 3), _ALL << np.uint64(size - whole)
        kept, silent = (bits | spare, _NONE) if exact else (spare, bits)
        _step_64(w, g, m, v, 0, kept, silent, from_first, numbers, sums)
        total += _take(sums, 0)
        weight[whole:] = w[: size - whole]
        first[whole:], second[whole:] = m[: size - whole], v[: size - whole]
    return total
