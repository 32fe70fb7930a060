"""Loops that compare keys, over arrays of numpy: 64 comparisons become the bits of one number.

So a mask of one bit an entry is what the comparisons give, counting is counting bits, and what lies
in a narrow band is found by its few set bits. LLVM makes of a comparison of 16 keys what the
processor has; of 64 in one it makes bit by bit what AVX2 can do at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from mifo_ext.loops.compiled import compiled

AT_ONCE = 64
"""Keys compared at once."""

_LANES = 16
_KEYS = ir.VectorType(ir.IntType(32), _LANES)
_NOWHERE = -1
"""A key that is in no band and above none, as bands begin at 1."""


def _compared(
    context: Any, builder: Any, keys: tuple[Any, Any], at: Any, compare: Callable[[Any], Any]
) -> Any:
    """A bit for each of the 64 keys from entry `at` on, which may be any multiple of 4 bytes."""
    array_type, array = keys
    fields = context.make_array(array_type)(context, builder, array)
    bits = ir.IntType(AT_ONCE)(0)
    for first in range(0, AT_ONCE, _LANES):
        place = [builder.add(at, at.type(first))]
        pointer = cgutils.get_item_pointer(
            context, builder, array_type, fields, place, wraparound=False
        )
        some = builder.load(builder.bitcast(pointer, _KEYS.as_pointer()), align=4)
        part = builder.zext(builder.bitcast(compare(some), ir.IntType(_LANES)), bits.type)
        bits = builder.or_(bits, builder.shl(part, bits.type(first)))
    return bits


def _everywhere(builder: Any, value: Any) -> Any:
    """One number in every lane."""
    undefined = ir.Constant(_KEYS, ir.Undefined)
    first = builder.insert_element(undefined, value, ir.IntType(32)(0))
    return builder.shuffle_vector(first, undefined, ir.Constant(_KEYS, [0] * _LANES))


@intrinsic  # type: ignore[untyped-decorator]
def _above(typing: Any, keys: Any, at: Any, key: Any) -> Any:
    """A bit for each of the 64 keys from entry `at` on, set where it is above `key`."""
    del typing, at, key

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, at, key = arguments
        bound = _everywhere(builder, key)
        return _compared(
            context,
            builder,
            (signature.args[0], array),
            at,
            lambda some: builder.icmp_signed(">", some, bound),
        )

    return types.uint64(keys, types.intp, types.int32), generate


@intrinsic  # type: ignore[untyped-decorator]
def _inside(typing: Any, keys: Any, at: Any, low: Any, width: Any) -> Any:
    """A bit for each of the 64 keys from entry `at` on, set from `low` to `low + width`."""
    del typing, at, low, width

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array, at, low, width = arguments
        lows, widths = _everywhere(builder, low), _everywhere(builder, width)
        return _compared(
            context,
            builder,
            (signature.args[0], array),
            at,
            # In unsigned numbers what lies below a bound lies far above it: negative keys, NaNs.
            lambda some: builder.icmp_unsigned("<=", builder.sub(some, lows), widths),
        )

    return types.uint64(keys, types.intp, types.int32, types.uint32), generate


def _of_bits(generate: Callable[[Any, Any], Any]) -> Any:
    """An operation on the bits of an unsigned number, which gives an int64."""

    def typed(typing: Any, bits: Any) -> Any:
        del typing
        signature = types.int64(bits)
        return signature, lambda context, builder, signature, arguments: context.cast(
            builder, generate(builder, arguments[0]), bits, types.int64
        )

    return intrinsic(typed)


_ones_in = _of_bits(lambda builder, bits: builder.ctpop(bits))
_first_one_in = _of_bits(lambda builder, bits: builder.cttz(bits, ir.IntType(1)(1)))


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
def _around_64(keys, bits, at, low, high, infinity, place, found, picked):  # type: ignore[no-untyped-def]
    """Bits of keys above and in the band, and of those that are improper."""
    inside = _inside(keys, at, low, np.uint32(high - low))
    rest = inside if found.size else np.uint64(0)
    while rest:
        number = at + _first_one_in(rest)
        found[picked] = (np.int64(keys[number]) << 32) | (place + number)
        picked += 1
        rest &= rest - np.uint64(1)
    proper = _inside(bits, at, np.int32(0), np.uint32(infinity - 1))
    return _above(keys, at, high), inside, ~proper


@compiled()
def _padded(values, first, filler):  # type: ignore[no-untyped-def]
    """The values from the first on, fewer than 64, and fillers behind."""
    padded = np.full(AT_ONCE, filler, dtype=np.int32)
    padded[: values.size - first] = values[first:]
    return padded


@compiled(
    "UniTuple(int64, 3)(int32[::1], int32[::1], int32, int32, int32, int64, uint8[::1], int64[::1])"
)
def around(keys, bits, low, high, infinity, place, packed, found):  # type: ignore[no-untyped-def]
    """Keys above and in a band, and whether some pattern is not from 0 to below `infinity`.

    Bits of those above into `packed`; those in the band with their places into `found`, if it is.
    """
    above, inside, improper, whole = 0, 0, np.uint64(0), keys.size // AT_ONCE * AT_ONCE
    for at in range(0, whole, AT_ONCE):
        found_64 = _around_64(keys, bits, at, low, high, infinity, place, found, inside)
        _write(found_64[0], packed, at >> 3)
        above, inside = above + _ones_in(found_64[0]), inside + _ones_in(found_64[1])
        improper |= found_64[2]
    if whole < keys.size:
        last, last_bits = _padded(keys, whole, _NOWHERE), _padded(bits, whole, 0)
        found_64 = _around_64(last, last_bits, 0, low, high, infinity, place + whole, found, inside)
        _write_last(found_64[0], packed, whole >> 3)
        above, inside = above + _ones_in(found_64[0]), inside + _ones_in(found_64[1])
        improper |= found_64[2]
    return above, inside, int(improper != 0)


@compiled("void(uint8[::1], int64[::1])")
def set_bits(packed, placed):  # type: ignore[no-untyped-def]
    """Set the bits at the places of these keys."""
    for i in range(placed.size):
        place = placed[i] & 0xFFFFFFFF
        packed[place >> 3] |= np.uint8(1 << (place & 7))


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
    whole = keys.size // AT_ONCE * AT_ONCE
    for at in range(0, whole, AT_ONCE):
        _write(_above(keys, at, key), packed, at >> 3)
    if whole < keys.size:
        _write_last(_above(_padded(keys, whole, _NOWHERE), 0, key), packed, whole >> 3)


@compiled("UniTuple(int64, 2)(uint8[::1], uint8[::1])")
def overlap(one, other):  # type: ignore[no-untyped-def]
    """Bits that are set in both, and in either."""
    both, either = 0, 0
    for i in range(one.size):
        both += _ones_in(one[i] & other[i])
        either += _ones_in(one[i] | other[i])
    return both, either
