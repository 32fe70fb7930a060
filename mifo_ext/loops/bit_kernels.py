"""Loops that compare keys, over arrays of numpy: 64 comparisons become the bits of one number.

So a mask of one bit an entry is what the comparisons give, counting is counting bits, and what lies
in a narrow band is found by its few set bits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from mifo_ext.loops.compiled import compiled
from mifo_ext.loops.lanes import (
    AT_ONCE,
    INTEGERS,
    SIXTEENS,
    Array,
    apart,
    bits_of,
    everywhere,
    first_one_in,
    ones_in,
    padded,
)

SPARE = 2
"""Room behind what is picked, where nothing comes to be."""
_NOWHERE = -1
"""A key that is in no band and above none, as bands begin at 1."""


def _compared(builder: Any, keys: Array, at: Any, compare: Callable[[Any], Any]) -> Any:
    """A bit for each of the 64 keys from entry `at` on."""
    bits = ir.IntType(AT_ONCE)(0)
    for first in SIXTEENS:
        marks = compare(keys.read(at, first))
        bits = builder.or_(bits, bits_of(builder, marks, first))
    return bits


@intrinsic  # type: ignore[untyped-decorator]
def _above(typing: Any, keys: Any, at: Any, key: Any) -> Any:
    """A bit for each of the 64 keys from entry `at` on, set where it is above `key`."""
    del typing, at, key

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, at, key = arguments
        bound = everywhere(builder, key, INTEGERS)
        keys = Array(context, builder, signature.args[0], array)
        return _compared(builder, keys, at, lambda some: builder.icmp_signed(">", some, bound))

    return types.uint64(keys, types.intp, types.int32), generate


@intrinsic  # type: ignore[untyped-decorator]
def _inside(typing: Any, keys: Any, at: Any, low: Any, width: Any) -> Any:
    """A bit for each of the 64 keys from entry `at` on, set from `low` to `low + width`."""
    del typing, at, low, width

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, at, *bounds = arguments
        lows, widths = (everywhere(builder, bound, INTEGERS) for bound in bounds)
        keys = Array(context, builder, signature.args[0], array)

        def compare(some: Any) -> Any:
            # In unsigned numbers what lies below a bound lies far above it: negative keys, NaNs.
            return builder.icmp_unsigned("<=", builder.sub(some, lows), widths)

        return _compared(builder, keys, at, compare)

    return types.uint64(keys, types.intp, types.int32, types.uint32), generate


@compiled()
def _write(bits, packed, first):  # type: ignore[no-untyped-def]
    """The bits as eight bytes, in order, from the first on."""
    for i in range(8):  # Becomes one store.
        packed[first + i] = np.uint8(bits >> np.uint64(8 * i))


@compiled()
def _write_last(bits, packed, first):  # type: ignore[no-untyped-def]
    """The lowest bits as the bytes from the first on, of which there are eight at most."""
    for i in range(packed.size - first):
        packed[first + i] = np.uint8(bits >> np.uint64(8 * i))


@compiled()
def _pick(keys, at, bits, place, found, first):  # type: ignore[no-untyped-def]
    """Write the keys at these bits with their places, and up to two more numbers behind them."""
    while True:
        # Two, whether there are two or not: few have more, and a branch that nobody foresees
        # would stop the reading ahead.
        for i in range(2):
            number = at + (first_one_in(bits) & (AT_ONCE - 1))
            found[first + i] = (np.int64(keys[number]) << 32) | (place + number)
            bits &= bits - np.uint64(1)
        if bits == 0:
            break
        first += 2


@compiled()
def _around_64(keys, bits, at, low, high, infinity, place, found, picked):  # type: ignore[no-untyped-def]
    """Bits of keys above and in the band, and of those that are improper."""
    inside = _inside(keys, at, low, np.uint32(high - low))
    if found.size:
        _pick(keys, at, inside, place, found, picked)
    proper = _inside(bits, at, np.int32(0), np.uint32(infinity - 1))
    return _above(keys, at, high), inside, ~proper


@compiled(
    "UniTuple(int64, 3)(int32[::1], int32[::1], int32, int32, int32, int64, uint8[::1], int64[::1])"
)
def around(keys, bits, low, high, infinity, place, packed, found):  # type: ignore[no-untyped-def]
    """Keys above and in a band, and whether some pattern is not from 0 to below `infinity`.

    Bits of those above into `packed`; those in the band with their places into `found`, if it is,
    which has room for all keys and `SPARE` more.
    """
    above, inside, improper, count = 0, 0, np.uint64(0), keys.size // AT_ONCE
    for number in range(count):
        at = apart(number, count)
        found_64 = _around_64(keys, bits, at, low, high, infinity, place, found, inside)
        _write(found_64[0], packed, at >> 3)
        above, inside = above + ones_in(found_64[0]), inside + ones_in(found_64[1])
        improper |= found_64[2]
    whole = count * AT_ONCE
    if whole < keys.size:
        last, last_bits = padded(keys, whole, _NOWHERE), padded(bits, whole, 0)
        found_64 = _around_64(last, last_bits, 0, low, high, infinity, place + whole, found, inside)
        _write_last(found_64[0], packed, whole >> 3)
        above, inside = above + ones_in(found_64[0]), inside + ones_in(found_64[1])
        improper |= found_64[2]
    return above, inside, int(improper != 0)


@compiled("void(uint8[::1], int64[::1], int64, int64)")
def set_bits(packed, placed, first, last):  # type: ignore[no-untyped-def]
    """Set the bits at the places of those placed keys that are from `first` to `last`."""
    for i in range(placed.size):
        place = placed[i] & 0xFFFFFFFF
        bit = np.uint8(first <= placed[i] <= last) << (place & 7)  # Half are: no branch.
        packed[place >> 3] |= np.uint8(bit)


@compiled(["void(int32[::1], int64[::1], int64[::1])", "void(int64[::1], int64[::1], int64[::1])"])
def by_bounds(keys, bounds, counts):  # type: ignore[no-untyped-def]
    """Add to the counts how many keys lie up to each bound, and behind the last."""
    for i in range(keys.size):
        at, left, key = 0, bounds.size, keys[i]
        while left > 0:  # Halves without a branch on what is found.
            half = (left + 1) >> 1
            at += half if bounds[at + half - 1] < key else 0
            left -= half
        counts[at] += 1


@compiled()
def _count_equal(keys, key):  # type: ignore[no-untyped-def]
    equal = np.int32(0)
    for i in range(keys.size):
        equal = np.int32(equal + np.int32(keys[i] == key))
    return equal


@compiled("void(int32[::1], int32, int64, int64, int64[::1])")
def ties_by_block(keys, key, at, size, counts):  # type: ignore[no-untyped-def]
    """Add the number of keys that equal `key` to the count of the block they lie in."""
    start = 0
    while start < keys.size:
        block = (at + start) // size
        stop = min(keys.size, (block + 1) * size - at)
        counts[block] += _count_equal(keys[start:stop], key)
        start = stop


@compiled("void(int32[::1], int32, uint8[::1])")
def pack(keys, key, packed):  # type: ignore[no-untyped-def]
    """Write one bit for each key, set where it is above `key`, which is from 0 up."""
    count = keys.size // AT_ONCE
    for number in range(count):
        at = apart(number, count)
        _write(_above(keys, at, key), packed, at >> 3)
    whole = count * AT_ONCE
    if whole < keys.size:
        _write_last(_above(padded(keys, whole, _NOWHERE), 0, key), packed, whole >> 3)


@compiled("UniTuple(int64, 2)(uint8[::1], uint8[::1])")
def overlap(one, other):  # type: ignore[no-untyped-def]
    """Bits that are set in both, and in either."""
    both, either = 0, 0
    for i in range(one.size):
        both += ones_in(one[i] & other[i])
        either += ones_in(one[i] | other[i])
    return both, either
