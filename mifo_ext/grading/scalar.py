"""Comparing two answers that are one value each."""

import re
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from mifo_ext.grading.exact import InexactError, exact_value
from mifo_ext.grading.expression import read_expression
from mifo_ext.grading.nodes import Node, number
from mifo_ext.grading.probe import (
    UndefinedError,
    agree,
    constant,
    cut_or_rounded,
    symbols,
    to_real,
)
from mifo_ext.grading.structure import name_derivatives
from mifo_ext.grading.tokens import UnreadableError
from mifo_ext.grading.units import UNIT_WORDS, Unit, is_single_letter_unit, read_unit
from mifo_ext.grading.words import NUMBER_WORDS, bare_words

DECIMALS_NEEDED = 6
_INTEGER = re.compile(r"[+-]?\d{1,300}")
_GROUPED = re.compile(r"[+-]?\d{1,3}(?:(?:,\d{3})+|(?: \d{3})+)(?:\.\d+)?")
_LITERAL = re.compile(
    r"[+-]?\d*\.(?P<decimals>\d+)(?:\s*(?:[eE]|\*\s*10\s*\^)\s*\{?\s*(?P<power>[+-]?\d{1,4})\s*\}?)?"
)
_REPEATING = re.compile(
    r"(?P<sign>-?)(?P<whole>\d*)\.(?P<fixed>\d*)\\(?:overline|bar|dot)\s*\{?(?P<again>\d+)\}?"
)
_COMMA_DECIMAL = re.compile(r"[+-]?\d+,(?:\d{1,2}|\d{4,})")
_UNIT_START = re.compile(r"\\text\s*\{|°")
_OF_ANGLE = re.compile(r"\\?(?:sin|cos|tan|cot|sec|csc)")
_PLAIN_UNIT = re.compile(r"(?<=[\d)}])(?P<space>\s*)(?P<unit>[A-Za-z][A-Za-z0-9/^*{} .()-]*)$")


class Quantity(NamedTuple):
    """A value with what was written around it."""

    node: Node | None
    """None when the text is not an expression."""
    text: str
    """The value's own text, without percent sign and unit."""
    percent: bool
    unit: Unit | None


class Sameness(NamedTuple):
    """Outcome of a comparison; `same` is None when it could not be decided."""

    same: bool | None
    path: str
    reason: str


def plain_integer(text: str) -> int | None:
    """The value of a text that is nothing but an integer of at most 300 digits."""
    return int(text) if _INTEGER.fullmatch(text) else None


def same_scalar(gold: str, answer: str) -> Sameness:
    """Whether two normalised single values are equal, with percent, units and approximation."""
    if (infinite := _same_infinity(gold, answer)) is not None:
        return Sameness(infinite, "string", "infinity")
    left, right = read_quantity(gold), read_quantity(answer)
    if left.node is None or right.node is None:
        side = "gold" if left.node is None else "answer"
        return Sameness(None, "symbolic", f"the {side} is not an expression")
    outcome = _same_quantity(left, right)
    if outcome.same is None:
        return Sameness(False, "algebra", outcome.reason)
    return outcome


def _same_quantity(left: Quantity, right: Quantity) -> Sameness:
    assert left.node is not None
    assert right.node is not None
    if left.unit and right.unit and left.unit.dimensions != right.unit.dimensions:
        return Sameness(_same_angle(left, right), "number", "units differ")
    factor = right.unit.size / left.unit.size if left.unit and right.unit else Fraction(1)
    outcomes = [
        same_value(left, right._replace(node=_scaled(right.node, factor * scale)), scale * factor)
        for scale in _percent_scales(left, right)
    ]
    if any(outcome.same for outcome in outcomes):
        return next(outcome for outcome in outcomes if outcome.same)
    if _same_angle(left, right):
        return Sameness(True, "number", "the same angle")
    return outcomes[0]


def _same_infinity(gold: str, answer: str) -> bool | None:
    """Compare infinities by their text; None when neither side is one."""
    texts = [re.sub(r"[+\s]", "", text).replace("infinity", "\\infty") for text in (gold, answer)]
    if any(text in ("\\infty", "-\\infty") for text in texts):
        return texts[0] == texts[1]
    return None


def _percent_scales(gold: Quantity, answer: Quantity) -> list[Fraction]:
    """Factors on the answer to try: a percent sign may be dropped, a factor of 100 may not."""
    if gold.percent == answer.percent:
        return [Fraction(1)]
    if gold.percent:
        return [Fraction(1), Fraction(100)]
    value = _exact(gold.node)
    dropped = [Fraction(1)] if value is not None and abs(value) >= 1 else []
    return [Fraction(1, 100), *dropped]


def _scaled(node: Node, factor: Fraction) -> Node:
    return node if factor == 1 else Node("mul", (number(factor), node))


def _same_angle(left: Quantity, right: Quantity) -> bool | None:
    """90° against pi/2: equal only when one side says degrees and the other contains pi."""
    degree = frozenset({("angle", 1)})
    for one, other in ((left, right), (right, left)):
        in_degrees = one.unit is not None and one.unit.dimensions == degree
        in_radians = other.unit is None or other.unit.dimensions == frozenset({("rad", 1)})
        if in_degrees and in_radians and "\\pi" in other.text and one.node and other.node:
            radians = Node("mul", (one.node, Node("div", (Node("pi"), number(180)))))
            return agree(radians, other.node)
    return False


def same_value(gold: Quantity, answer: Quantity, scale: Fraction) -> Sameness:
    """Compare the values alone, exactly when both are rational."""
    assert gold.node is not None
    assert answer.node is not None
    left, right = _exact(gold.node), _exact(answer.node)
    if left is not None and right is not None:
        if left == right:
            return Sameness(True, "number", "equal numbers")
        close = _approximates(answer.text, scale, right, left) or _approximates(
            gold.text, Fraction(1), left, right
        )
        return Sameness(
            close, "number", "equal to the decimals given" if close else "different numbers"
        )
    if symbols(gold.node) or symbols(answer.node):
        same = agree(gold.node, answer.node)
        return Sameness(same, "algebra", _algebra_reason(same))
    return _same_constants(gold, answer, scale)


def _algebra_reason(same: bool | None) -> str:
    if same is None:
        return "the expressions could not be evaluated"
    return "equal expressions" if same else "different expressions"


def _same_constants(gold: Quantity, answer: Quantity, scale: Fraction) -> Sameness:
    assert gold.node is not None
    assert answer.node is not None
    same = agree(gold.node, answer.node)
    if same is not False:
        return Sameness(same, "algebra", _algebra_reason(same))
    for one, other, factor in ((answer, gold, scale), (gold, answer, Fraction(1))):
        value = _exact(one.node)
        tolerance = _tolerance(one.text, factor)
        if value is None or tolerance is None or other.node is None:
            continue
        try:
            exact = to_real(constant(other.node))
        except UndefinedError:
            continue
        if cut_or_rounded(exact, value, min(tolerance, abs(value) / 1000)):
            return Sameness(True, "number", "equal to the decimals given")
    return Sameness(False, "algebra", "different values")


def _approximates(text: str, scale: Fraction, value: Fraction, exact: Fraction) -> bool:
    """Whether a decimal gives a number that has no finite decimal form to six places."""
    tolerance = _tolerance(text, scale)
    if tolerance is None or _has_finite_decimals(exact):
        return False
    error = abs(exact) - abs(value)  # cut off: below one unit; rounded: within half a unit
    return -tolerance / 2 <= error < tolerance and abs(error) < abs(exact) / 1000


def _tolerance(text: str, scale: Fraction) -> Fraction | None:
    """One unit of the last decimal written, or None when fewer than six were written."""
    match = _LITERAL.fullmatch(text)
    if match is None or len(match["decimals"]) < DECIMALS_NEEDED:
        return None
    power = int(match["power"] or 0) - min(len(match["decimals"]), 200)
    return abs(scale) * Fraction(10) ** power


def _has_finite_decimals(value: Fraction) -> bool:
    rest = value.denominator
    if rest.bit_length() > 4000:
        return False
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    return rest == 1


@lru_cache(maxsize=4096)
def _exact(node: Node) -> Fraction | None:
    try:
        return exact_value(node)
    except InexactError:
        return None


@lru_cache(maxsize=4096)
def read_quantity(text: str) -> Quantity:
    """Take a normalised answer apart into value, percent sign and unit."""
    text = text.strip()
    value, unit = _split_unit(text)
    percent = value.endswith("%")
    value = value.rstrip("% ")
    return Quantity(_read_value(value), value, percent, unit)


def _split_unit(text: str) -> tuple[str, Unit | None]:
    if found := _UNIT_START.search(text):
        value, tail = text[: found.start()].strip(), text[found.start() :]
        unit = read_unit(tail)
        if value and unit and not (tail[0] == "°" and _OF_ANGLE.search(value)):
            return value, unit
    elif found := _PLAIN_UNIT.search(text):
        words = re.findall(r"[A-Za-z]+", found["unit"])
        unit = read_unit(found["unit"])
        single = found["space"] and is_single_letter_unit(found["unit"])
        if unit and (single or any(word in UNIT_WORDS for word in words)):
            return text[: found.start()].strip(), unit
    return text, None


def _read_value(text: str) -> Node | None:
    if _GROUPED.fullmatch(text):
        return number(Fraction(re.sub("[, ]", "", text)))
    if repeating := _REPEATING.fullmatch(text):
        return number(_repeating(repeating))
    word = bare_words(text)
    if word in NUMBER_WORDS:
        return number(NUMBER_WORDS[word])
    try:
        return read_expression(name_derivatives(text))
    except UnreadableError:
        return None


def _repeating(match: re.Match[str]) -> Fraction:
    """The value of a decimal with a repeating group."""
    again, fixed = match["again"][:50], match["fixed"][:50]
    value = Fraction(int((match["whole"] or "0") + fixed), 10 ** len(fixed))
    value += Fraction(int(again), (10 ** len(again) - 1) * 10 ** len(fixed))
    return -value if match["sign"] else value


def is_grouped_number(text: str) -> bool:
    """Whether a text may be one number whose digits are in groups of three."""
    return _GROUPED.match(text) is not None


def decimal_comma(text: str) -> str | None:
    """`0,5` read as 0.5, where the comma cannot group thousands."""
    return text.replace(",", ".") if _COMMA_DECIMAL.fullmatch(text) else None
