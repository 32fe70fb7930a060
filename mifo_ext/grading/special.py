"""Answers that are neither expressions nor collections: times, ratios, digits in a base."""

import re
from fractions import Fraction

from mifo_ext.grading.phrasing import without_modulus
from mifo_ext.grading.scalar import Sameness, decimal_comma, read_quantity, same_scalar
from mifo_ext.grading.units import Unit, read_compound
from mifo_ext.grading.words import bare_words

_CLOCK = re.compile(r"(\d{1,2}):(\d{2})(?:\s*([ap])\.?\s?m\.?)?")
_RATIO = re.compile(r"(?!\\\{)[^:<>=]+:[^:<>=]+(?::[^:<>=]+)*")
_BASED = re.compile(
    r"(?P<digits>-?[0-9A-Fa-f][0-9A-Fa-f ]*)"
    r"(?:_\s*\{?\s*(?:\\text\{\s*)?(?P<base>\d+|[a-z]{3,})[\s}]*)?"
)


def same_special(gold: str, answer: str) -> Sameness | None:
    """Clock times, ratios, decimal commas and residues."""
    if _RATIO.fullmatch(gold) and _RATIO.fullmatch(answer):
        return _same_ratios(gold.split(":"), answer.split(":"))
    for one, other, swapped in ((gold, answer, False), (answer, gold, True)):
        if _RATIO.fullmatch(one) and one.count(":") == 1 and not _CLOCK.fullmatch(one):
            fraction = "\\frac{{{}}}{{{}}}".format(*one.split(":"))
            return same_scalar(other, fraction) if swapped else same_scalar(fraction, other)
    if "." in gold and (point := decimal_comma(answer)) and "," not in gold:
        return same_scalar(gold, point)
    if based := _same_in_base(gold, answer):
        return based
    if (compound := read_compound(answer)) and not read_compound(gold):
        return _same_compound(gold, compound)
    residue = without_modulus(answer)
    if residue and "\\mod" not in gold:
        outcome = same_scalar(gold, residue)
        return outcome if outcome.same else None
    return None


def same_clock(gold: str, answer: str) -> bool | None:
    """Compare times of day; None when one of the texts is none."""
    times = [_CLOCK.fullmatch(bare_words(text)) for text in (gold, answer)]
    if not times[0] or not times[1]:
        return None
    first, second = ((int(time[1]), time[2], time[3] or "") for time in times if time)
    return first == second


def _same_in_base(gold: str, answer: str) -> Sameness | None:
    """`2516_8`: the question fixed the base, so the same digits without it are the answer."""
    written = _BASED.fullmatch(gold), _BASED.fullmatch(answer)
    if not any(found and found["base"] for found in written):
        return None
    if not all(written):
        return Sameness(False, "number", "digits in a base against something else")
    digits = {found["digits"].upper().replace(" ", "") for found in written if found}
    bases = {found["base"] for found in written if found and found["base"]}
    is_same = len(digits) == len(bases) == 1
    return Sameness(is_same, "number", "digits in a base")


def _same_compound(gold: str, readings: list[tuple[Fraction, Unit]]) -> Sameness:
    """A gold of one unit, or of none, against "2 hours 30 minutes"."""
    wanted = read_quantity(gold)
    for value, unit in readings:
        if wanted.unit is None or wanted.unit == unit:
            outcome = same_scalar(wanted.text, str(value))
            if outcome.same:
                return outcome
    return Sameness(False, "number", "a quantity in several units")


def _same_ratios(gold: list[str], answer: list[str]) -> Sameness:
    if len(gold) != len(answer):
        return Sameness(False, "structure", "ratios of different length")
    for g, a in zip(gold[1:], answer[1:], strict=True):
        outcome = same_scalar(f"({gold[0]})*({a})", f"({answer[0]})*({g})")
        if not outcome.same:
            return outcome
    return Sameness(True, "structure", "equal ratios")
