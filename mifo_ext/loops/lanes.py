"""Sixteen numbers side by side, for loops over arrays of numpy: LLVM's vectors, to Python's signs.

LLVM makes of one operation on sixteen numbers what the processor has. Four times sixteen are gone
through together, because as many comparisons, or bits of a mask, are one number of 64 bits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from mifo_ext.loops.compiled import compiled

LANES = 16
AT_ONCE = 64
"""Entries gone through together."""
SIXTEENS = range(0, AT_ONCE, LANES)
"""Where each sixteen of them begin."""

FLOATS = ir.VectorType(ir.FloatType(), LANES)
INTEGERS = ir.VectorType(ir.IntType(32), LANES)
_PLACES = 4
_MARKS = ir.VectorType(ir.IntType(1), LANES)


class Lanes:
    """Float32 numbers side by side; signs and names do to each what they say, rounded once.

    Args:
        builder: what writes LLVM's code.
        value: the vector in it.
    """

    def __init__(self, builder: Any, value: Any) -> None:
        self.builder, self.value = builder, value

    def __add__(self, other: Lanes) -> Lanes:
        return Lanes(self.builder, self.builder.fadd(self.value, other.value))

    def __sub__(self, other: Lanes) -> Lanes:
        return Lanes(self.builder, self.builder.fsub(self.value, other.value))

    def __mul__(self, other: Lanes) -> Lanes:
        return Lanes(self.builder, self.builder.fmul(self.value, other.value))

    def __truediv__(self, other: Lanes) -> Lanes:
        return Lanes(self.builder, self.builder.fdiv(self.value, other.value))

    def __abs__(self) -> Lanes:
        return self._called("fabs", self)

    def sqrt(self) -> Lanes:
        """Square roots."""
        return self._called("sqrt", self)

    def times_plus(self, factor: Lanes, term: Lanes) -> Lanes:
        """Each times the factor plus the term, rounded once."""
        return self._called("fma", self, factor, term)

    def where(self, marks: Any, other: Lanes) -> Lanes:
        """These where there is a mark, or where one says so of all, and the others elsewhere."""
        return Lanes(self.builder, self.builder.select(marks, self.value, other.value))

    def differs(self, other: Lanes) -> Any:
        """Marks where the numbers are not equal; NaN equals none."""
        return self.builder.fcmp_unordered("!=", self.value, other.value)

    def _called(self, name: str, *arguments: Lanes) -> Lanes:
        kind = ir.FunctionType(FLOATS, [FLOATS] * len(arguments))
        name = f"llvm.{name}.v{LANES}f32"
        function = cgutils.get_or_insert_function(self.builder.module, kind, name)
        return Lanes(self.builder, self.builder.call(function, [a.value for a in arguments]))


class Array:
    """An array that a loop is given, of which sixteen numbers are read and written at once.

    Args:
        context: numba's.
        builder: what writes LLVM's code.
        kind: numba's type of the array.
        value: the array.
    """

    vector = INTEGERS

    def __init__(self, context: Any, builder: Any, kind: Any, value: Any) -> None:
        self._fields = context.make_array(kind)(context, builder, value)
        self._context, self._builder, self._kind = context, builder, kind

    def read(self, at: Any, first: int = 0) -> Any:
        """Those from entry `at + first` on, which may be any."""
        return self._builder.load(self._pointer(at, first), align=4)

    def write(self, value: Any, at: Any, first: int = 0) -> None:
        """Put these there."""
        self._builder.store(value, self._pointer(at, first), align=4)

    def write_past_caches(self, value: Any, at: Any, first: int = 0) -> None:
        """Put these there, at a multiple of 64 bytes, without reading the place first."""
        store = self._builder.store(value, self._pointer(at, first), align=4 * LANES)
        once = self._builder.module.add_metadata([ir.IntType(32)(1)])
        store.set_metadata("nontemporal", once)

    def _pointer(self, at: Any, first: int) -> Any:
        place = [self._builder.add(at, at.type(first))]
        pointer = cgutils.get_item_pointer(
            self._context, self._builder, self._kind, self._fields, place, wraparound=False
        )
        return self._builder.bitcast(pointer, self.vector.as_pointer())


class Floats(Array):
    """The same, of float32."""

    vector = FLOATS

    def read(self, at: Any, first: int = 0) -> Lanes:
        """Those from entry `at + first` on, which may be any."""
        return Lanes(self._builder, super().read(at, first))

    def write(self, value: Lanes, at: Any, first: int = 0) -> None:
        """Put these there."""
        super().write(value.value, at, first)

    def add(self, four: list[Lanes], first: int) -> None:
        """Add the sum of four to the sixteen from `first` on."""
        at = ir.IntType(64)(0)
        sums = self.read(at, first) + ((four[0] + four[1]) + (four[2] + four[3]))
        self.write(sums, at, first)


def everywhere(builder: Any, value: Any, vector: Any) -> Any:
    """One number in every lane."""
    undefined = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(undefined, value, ir.IntType(32)(0))
    return builder.shuffle_vector(first, undefined, ir.Constant(INTEGERS, [0] * LANES))


def zeros(builder: Any) -> Lanes:
    """Zero in every lane."""
    return Lanes(builder, ir.Constant(FLOATS, [0.0] * LANES))


def marks_in(builder: Any, bits: Any, first: int) -> Any:
    """Sixteen of 64 bits, as marks."""
    sixteen = builder.trunc(builder.lshr(bits, bits.type(first)), ir.IntType(LANES))
    return builder.bitcast(sixteen, _MARKS)


def bits_of(builder: Any, marks: Any, first: int) -> Any:
    """Sixteen marks as bits of 64."""
    bits = builder.zext(builder.bitcast(marks, ir.IntType(LANES)), ir.IntType(AT_ONCE))
    return builder.shl(bits, bits.type(first))


def _of_bits(generate: Callable[[Any, Any], Any]) -> Any:
    """An operation on the bits of an unsigned number, which gives an int64."""

    def typed(typing: Any, bits: Any) -> Any:
        del typing
        signature = types.int64(bits)
        return signature, lambda context, builder, signature, arguments: context.cast(
            builder, generate(builder, arguments[0]), bits, types.int64
        )

    return intrinsic(typed)


ones_in = _of_bits(lambda builder, bits: builder.ctpop(bits))
first_one_in = _of_bits(lambda builder, bits: builder.cttz(bits, ir.IntType(1)(0)))
"""Of no ones, how many bits there are."""


@compiled()
def apart(number, count):  # type: ignore[no-untyped-def]
    """The first entry of one of so many 64s, which are gone through at four places side by side.

    Memory gives four places in less time than one, which helps where most time goes to reading.
    They lie no power of two apart, or they would drive each other out of caches.
    """
    each = (count // _PLACES - 1) | 1
    if number < each * _PLACES:
        return (number % _PLACES * each + number // _PLACES) * AT_ONCE
    return number * AT_ONCE


@compiled()
def padded(values, first, filler):  # type: ignore[no-untyped-def]
    """The values from the first on, fewer than 64, and fillers behind."""
    whole = np.full(AT_ONCE, filler, dtype=values.dtype)
    whole[: values.size - first] = values[first:]
    return whole


@compiled()
def word(packed, first):  # type: ignore[no-untyped-def]
    """Eight bytes from the first on as 64 bits; bits behind the last byte are 0."""
    bits = np.uint64(0)
    if packed.size - first >= 8:
        for i in range(8):  # Becomes one load.
            bits |= np.uint64(packed[first + i]) << np.uint64(8 * i)
    else:
        for i in range(packed.size - first):
            bits |= np.uint64(packed[first + i]) << np.uint64(8 * i)
    return bits
