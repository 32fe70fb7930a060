"""The exact rational value of an expression, when it has one.

Everything is bounded before it is computed: an exponent, a factorial or a product whose result
would have more than `BITS_AT_MOST` bits is refused, not attempted.
"""

import math
from collections.abc import Callable
from fractions import Fraction
from functools import reduce
from operator import add, mul

from mifo_ext.grading.nodes import Node

BITS_AT_MOST = 64_000
WORK_AT_MOST = 4_000_000
"""Sum over all operations of the bits of their results."""


class InexactError(ValueError):
    """The expression is no rational number, or too large to be computed exactly."""


def exact_value(node: Node) -> Fraction:
    """The value of a constant rational expression.

    Raises:
        InexactError: a symbol, an irrational part, a division by zero, or a number too large.
    """
    return _Calculator().value(node)


class _Calculator:
    def __init__(self) -> None:
        self.work = 0

    def value(self, node: Node) -> Fraction:
        return self.bounded(self._apply(node))

    def bounded(self, result: Fraction) -> Fraction:
        bits = result.numerator.bit_length() + result.denominator.bit_length()
        self.work += bits
        if bits > BITS_AT_MOST or self.work > WORK_AT_MOST:
            raise InexactError("number too large")
        return result

    def fold(
        self, operation: Callable[[Fraction, Fraction], Fraction], values: list[Fraction]
    ) -> Fraction:
        return reduce(lambda left, right: self.bounded(operation(left, right)), values)

    def _apply(self, node: Node) -> Fraction:
        if node.kind == "number":
            return node.value
        values = [self.value(part) for part in node.parts]
        match node.kind, values:
            case "add", _:
                return self.fold(add, values)
            case "neg", [value]:
                return -value
            case "mul", _:
                return self.fold(mul, values)
            case "div" | "mod", [_, right] if right == 0:
                raise InexactError("division by zero")
            case "div", [left, right]:
                return left / right
            case "mod", [left, right]:
                return left % right
            case "pow", [base, exponent]:
                return _power(base, exponent)
            case "factorial", [value]:
                return Fraction(math.factorial(_count(value, at_most=5000)))
            case "binomial", [total, chosen]:
                return Fraction(
                    math.comb(_count(total, at_most=5000), _count(chosen, at_most=5000))
                )
            case "floor", [value]:
                return Fraction(math.floor(value))
            case "ceil", [value]:
                return Fraction(math.ceil(value))
            case "abs", [value]:
                return abs(value)
            case "max", _ if values:
                return max(values)
            case "min", _ if values:
                return min(values)
            case (("gcd" | "lcm"), _) if values and all(value.denominator == 1 for value in values):
                fold = math.gcd if node.kind == "gcd" else math.lcm
                return Fraction(fold(*(value.numerator for value in values)))
        raise InexactError(f"{node.kind} is not rational")


def _count(value: Fraction, *, at_most: int) -> int:
    if value.denominator != 1 or not 0 <= value <= at_most:
        raise InexactError("not a small natural number")
    return int(value)


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    if exponent.denominator == 1:
        bits = max(base.numerator.bit_length(), base.denominator.bit_length())
        if abs(exponent) * bits > BITS_AT_MOST and base not in (0, 1, -1):
            raise InexactError("power too large")
        if base == 0 and exponent <= 0:
            raise InexactError("zero to a power that is not positive")
        if base in (0, 1, -1):
            return base if exponent % 2 else abs(base)
        return base ** int(exponent)
    if base < 0 or exponent.denominator > 64:
        raise InexactError("no real root")
    above = _root(base.numerator, exponent.denominator)
    below = _root(base.denominator, exponent.denominator)
    return _power(Fraction(above, below), Fraction(exponent.numerator))


def _root(value: int, degree: int) -> int:
    """The exact root of a natural number."""
    if degree == 2:
        root = math.isqrt(value)
    elif value.bit_length() > 1000:
        raise InexactError("root of a large number")
    else:
        root = round(value ** (1 / degree)) if value else 0
    if root**degree != value:
        raise InexactError("irrational root")
    return root
