"""Deciding whether two expressions agree by evaluating both at the same points.

Two different analytic expressions agree at a handful of generic points with probability zero,
so 60 digits at fixed points decide what symbolic simplification may take minutes over. All
magnitudes are bounded before they are computed.
"""

import threading
import zlib
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import mpmath

from mifo_ext.grading.nodes import Node

PRECISION_BITS = 240
AGREE_BITS = 140
EXPONENT_BITS_AT_MOST = 70
ARGUMENT_BITS_AT_MOST = 60
POINTS = 6
AGREEMENTS_NEEDED = 3

# mpmath's precision is a field of its context: each thread gets its own.
_local = threading.local()

_SIMPLE = {
    "arcsin": "asin", "arccos": "acos", "arctan": "atan", "arcsinh": "asinh", "arccosh": "acosh",
    "arctanh": "atanh", "arcsec": "asec", "arccsc": "acsc", "arccot": "acot", "sin": "sin",
    "cos": "cos", "tan": "tan", "sec": "sec", "csc": "csc", "cot": "cot", "sinh": "sinh",
    "cosh": "cosh", "tanh": "tanh", "log": "log", "exp": "exp",
}  # fmt: skip


class UndefinedError(ValueError):
    """The expression has no finite value at this point, or one out of bounds."""


def symbols(node: Node) -> frozenset[str]:
    """The names of the free symbols of an expression."""
    if node.kind == "symbol":
        return frozenset({node.name})
    return frozenset().union(*(symbols(part) for part in node.parts))


def agree(left: Node, right: Node) -> bool | None:
    """Whether two expressions have the same value wherever both are defined.

    Returns:
        True or False, or None when too few points could be evaluated to say so.
    """
    agreed = 0
    for (a, scale_a), (b, scale_b) in _values(left, right):
        if not _close(a, b, max(scale_a, scale_b)):
            return False
        agreed += 1
    constant = not symbols(left) | symbols(right)
    return True if agreed >= (1 if constant else AGREEMENTS_NEEDED) else None


def proportional(left: Node, right: Node, *, positive: bool) -> bool | None:
    """Whether left = constant * right with a constant that is not zero.

    Args:
        left: an expression that vanishes where the first relation is an equality.
        right: the same of the second relation.
        positive: require a positive constant, as inequalities do.
    """
    context = _context()
    ratio: Any = None
    agreed = 0
    for (a, _), (b, _) in _values(left, right):
        if not a or not b:
            if bool(a) != bool(b):
                return False
            continue
        if ratio is None:
            ratio = a / b
            if positive and not (context.im(ratio) == 0 and context.re(ratio) > 0):
                return False
        elif not _close(a / b, ratio, context.mpf(0)):
            return False
        agreed += 1
    return True if agreed >= AGREEMENTS_NEEDED else None


def constant(node: Node) -> Any:
    """The value of an expression without symbols, as a 60-digit number; may be complex.

    Raises:
        UndefinedError: no finite value within bounds.
    """
    return _Evaluator({}).value(node)


def to_real(value: Any) -> Any:
    """The real part of a value whose imaginary part vanishes.

    Raises:
        UndefinedError: the value is not real.
    """
    context = _context()
    if abs(context.im(value)) > abs(value) * context.ldexp(1, -AGREE_BITS):
        raise UndefinedError("not a real number")
    return context.re(value)


def cut_or_rounded(value: Any, decimal: Fraction, tolerance: Fraction) -> bool:
    """Whether a decimal is a real value, rounded or cut off at one unit of `tolerance`."""
    unit = _from_fraction(tolerance)
    error = abs(value) - abs(_from_fraction(decimal))
    return bool(-unit / 2 <= error < unit and (value > 0) == (decimal > 0))


def _context() -> Any:
    if not hasattr(_local, "context"):
        _local.context = mpmath.MPContext()
        _local.context.prec = PRECISION_BITS
    return _local.context


def _from_fraction(value: Fraction) -> Any:
    return _context().mpf(value.numerator) / value.denominator


def _close(a: Any, b: Any, scale: Any) -> bool:
    context = _context()
    difference = abs(a - b)
    bound = max(abs(a), abs(b)) * context.ldexp(1, -AGREE_BITS)
    return bool(difference <= max(bound, scale * context.ldexp(1, -AGREE_BITS - 40)))


def _values(left: Node, right: Node) -> Iterator[tuple[tuple[Any, Any], tuple[Any, Any]]]:
    """Both expressions at each point where both can be evaluated, with their scales."""
    names = sorted(symbols(left) | symbols(right))
    for index in range(POINTS if names else 1):
        point = {name: _coordinate(name, index) for name in names}
        pair = []
        for node in (left, right):
            evaluator = _Evaluator(point)
            try:
                pair.append((evaluator.value(node), evaluator.scale))
            except UndefinedError:
                break
        # A real expression beside a complex one only means that the point is outside
        # the domain of the second: sqrt(x) says nothing about negative x.
        if len(pair) == 2 and (index < 4 or _both_real(pair)):
            yield pair[0], pair[1]


def _both_real(pair: list[tuple[Any, Any]]) -> bool:
    context = _context()
    return all(context.im(value) == 0 for value, _ in pair)


def _coordinate(name: str, index: int) -> Any:
    """A fixed, generic coordinate: positive for the first points, of either sign after."""
    seed = zlib.crc32(f"{name}/{index}".encode())
    context = _context()
    value = (
        context.mpf(3) / 10 + context.mpf(seed) * 2 / 2**32 + context.ldexp(context.sqrt(2), -40)
    )
    return -value if index >= 4 and (seed >> 3) % 4 else value


class _Evaluator:
    """Evaluates one expression at one point."""

    def __init__(self, point: dict[str, Any]) -> None:
        self.point = point
        self.context = _context()
        self.scale = self.context.mpf(0)
        """Largest term of any sum: what rounding errors are measured against."""

    def value(self, node: Node) -> Any:
        try:
            result = self._apply(node)
        except (ArithmeticError, ValueError, TypeError) as error:
            raise UndefinedError(str(error)) from error
        if not self.context.isfinite(result):
            raise UndefinedError("not finite")
        return result

    def _apply(self, node: Node) -> Any:
        context = self.context
        match node.kind:
            case "number":
                return _from_fraction(node.value)
            case "symbol":
                return self.point[node.name]
            case "pi" | "e":
                return +getattr(context, node.kind)
            case "i":
                return context.mpc(0, 1)
            case "infty":
                raise UndefinedError("infinity")
        values = [self.value(part) for part in node.parts]
        if node.kind in _SIMPLE and len(values) == 1:
            self._bounded(values[0])
            return getattr(context, _SIMPLE[node.kind])(values[0])
        operation = getattr(self, f"_{node.kind}", None)
        if operation is None:
            raise UndefinedError(f"no value for {node.kind}")
        return operation(*values)

    def _bounded(self, value: Any, bits: int = ARGUMENT_BITS_AT_MOST) -> None:
        if value and _magnitude(self.context, value) > bits:
            raise UndefinedError("argument too large")

    def _add(self, *terms: Any) -> Any:
        magnitudes = [_magnitude(self.context, term) for term in terms if term]
        if magnitudes and max(magnitudes) - min(magnitudes) > AGREE_BITS - 20:
            raise UndefinedError("a term is lost in a sum")
        self.scale = max([self.scale, *(abs(term) for term in terms)])
        return self.context.fsum(terms)

    def _neg(self, value: Any) -> Any:
        return -value

    def _mul(self, *factors: Any) -> Any:
        return self.context.fprod(factors)

    def _div(self, left: Any, right: Any) -> Any:
        return left / right

    def _mod(self, left: Any, right: Any) -> Any:
        self._bounded(left)
        return left % right

    def _pow(self, base: Any, exponent: Any) -> Any:
        if not base:
            return base**exponent
        self._bounded(base, 2**EXPONENT_BITS_AT_MOST)
        self._bounded(exponent, EXPONENT_BITS_AT_MOST)
        if self.context.im(base) == 0 and base < 0 and self._odd_root(exponent):
            return -((-base) ** exponent)
        return base**exponent

    def _odd_root(self, exponent: Any) -> bool:
        """Whether an exponent is 1/3, 1/5, …: answers mean the real root of a negative number."""
        if self.context.im(exponent) != 0 or not exponent or abs(exponent) >= 1:
            return False
        degree = 1 / exponent
        nearest = self.context.nint(degree)
        return bool(nearest % 2 == 1 and abs(degree - nearest) < self.context.ldexp(1, -AGREE_BITS))

    def _factorial(self, value: Any) -> Any:
        self._bounded(value)
        return self.context.gamma(value + 1)

    def _binomial(self, total: Any, chosen: Any) -> Any:
        self._bounded(total)
        self._bounded(chosen)
        gamma: Callable[[Any], Any] = self.context.gamma
        return gamma(total + 1) / (gamma(chosen + 1) * gamma(total - chosen + 1))

    def _lg(self, value: Any) -> Any:
        return self.context.log10(value)

    def _abs(self, value: Any) -> Any:
        return abs(value)

    def _floor(self, value: Any) -> Any:
        return self.context.floor(value)

    def _ceil(self, value: Any) -> Any:
        return self.context.ceil(value)

    def _max(self, *values: Any) -> Any:
        return max(values)

    def _min(self, *values: Any) -> Any:
        return min(values)


def _magnitude(context: Any, value: Any) -> int:
    """About log2 of the absolute value of a number that is not zero."""
    return int(context.mag(value))
