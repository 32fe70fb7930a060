"""Reading the unit behind a number."""

import re
from fractions import Fraction
from typing import NamedTuple

from mifo_ext.grading.tokens import word_set

_TABLE = """
length: mm 1/1000 | cm 1/100 | dm 1/10 | m 1 | km 1000 | inch 254/10000 | ft 3048/10000
  | yd 9144/10000 | mile 1609344/1000 | nm 1/1000000000 | um 1/1000000 | au 1 au | pc 1 pc
time: ms 1/1000 | s 1 | min 60 | h 3600 | day 86400 | week 604800 | month 1 month | year 1 year
mass: mg 1/1000000 | g 1/1000 | kg 1 | ton 1000 | lb 1 lb | oz 1 oz
volume: mL 1/1000 | L 1 | gallon 1 gallon | cup 1 cup
money: cent 1/100 | dollar 1
angle: ° 1 | rad 1 rad
"""
_ALIASES = {
    "mm": "millimeter millimetre", "cm": "centimeter centimetre", "m": "meter metre",
    "km": "kilometer kilometre", "inch": "in inches", "ft": "foot feet", "yd": "yard",
    "mile": "mi", "ms": "millisecond", "s": "sec second", "min": "minute", "h": "hr hour",
    "year": "yr", "mg": "milligram", "g": "gram", "kg": "kilogram", "ton": "tonne",
    "lb": "pound lbs", "oz": "ounce", "mL": "ml milliliter millilitre", "L": "l liter litre",
    "gallon": "gal", "cent": "¢ cents", "dollar": "usd USD bucks", "°": "degree deg",
    "rad": "radian", "N": "newton", "J": "joule", "W": "watt", "V": "volt", "A": "amp ampere",
    "K": "kelvin", "Hz": "hertz", "Pa": "pascal", "C": "coulomb", "eV": "ev", "mol": "mole",
    "M": "molar", "erg": "ergs", "dyne": "dyn", "mph": "mi/h",
}  # fmt: skip
_SINGLE_LETTERS = frozenset("msgNJWVAKChLM")
_PLAIN_WORDS = word_set(
    "square cubic sq cu units unit kJ MeV keV GeV kN MPa kPa GHz MHz kHz km/h "
    "people students apples coins cards ways marbles points times books tickets degrees "
    "dollars cents pages books balls eggs inches cm^2 kcal cal arcsec arcmin solar"
)
_TOKEN = re.compile(
    r"\s+|(?P<word>[A-Za-z°¢]+|%)|(?P<power>\^\s*\{?\s*(-?\d+)\s*\}?)|(?P<sign>[/*().-])"
)
_TEXT = re.compile(r"\\text\s*\{([^{}]*)\}")

_AND = re.compile(r"\b(?:and|,)\b|,")


class Unit(NamedTuple):
    """A product of powers of base units, and its size in them."""

    dimensions: frozenset[tuple[str, int]]
    size: Fraction


class _Base(NamedTuple):
    dimension: str
    size: Fraction


def _build() -> dict[str, _Base]:
    bases: dict[str, _Base] = {}
    for line in _TABLE.replace("\n  ", " ").strip().splitlines():
        dimension, _, entries = line.partition(":")
        for entry in entries.split("|"):
            name, size, *own = entry.split()
            bases[name] = _Base(own[0] if own else dimension, Fraction(size))
    for name, others in _ALIASES.items():
        base = bases.setdefault(name, _Base(name, Fraction(1)))
        for other in others.split():
            bases[other] = bases[f"{other}s"] = base
    for name in list(bases):
        if len(name) > 2:
            bases.setdefault(f"{name}s", bases[name])
    return bases


_BASES = _build()
UNIT_WORDS = frozenset(name for name in _BASES if len(name) > 1) | _PLAIN_WORDS
"""Words that are units wherever they stand behind a number."""


def is_single_letter_unit(text: str) -> bool:
    """Whether a text is a unit of one letter, such as the `m` of `10 m`."""
    return text in _SINGLE_LETTERS


def read_unit(text: str) -> Unit | None:
    r"""Read the tail of an answer, such as `\text{cm}^2` or `°`, as a unit.

    Returns:
        The unit, or None when the tail says something else. An empty tail is no unit: None.
    """
    text = _TEXT.sub(r" \1 ", text).strip().rstrip(".")
    if not text:
        return None
    dimensions: dict[str, int] = {}
    size = Fraction(1)
    sign, pending, last = 1, 1, ""
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            return None
        position = match.end()
        if word := match["word"]:
            if word in ("per", "over"):
                sign = -1
            elif word in ("square", "sq"):
                pending = 2
            elif word in ("cubic", "cu"):
                pending = 3
            elif word not in ("of", "the", "a"):
                base = _BASES.get(word) or _BASES.get(word.lower()) or _unknown(word)
                power, pending = sign * pending, 1
                dimensions[base.dimension] = dimensions.get(base.dimension, 0) + power
                size *= base.size**power
                last, last_size, last_sign = base.dimension, base.size, power
        elif match["power"]:
            if not last:
                return None
            power = int(match[3])
            dimensions[last] += last_sign * (power - 1)
            size *= last_size ** (last_sign * (power - 1)) if abs(power) < 10 else Fraction(1)
        elif match["sign"] == "/":
            sign = -1
    kept = frozenset((name, power) for name, power in dimensions.items() if power)
    return Unit(kept, size) if dimensions else None


def _unknown(word: str) -> _Base:
    """A thing that is counted: its plural is the same thing."""
    return _Base(word.lower().removesuffix("s"), Fraction(1))


_PIECE = re.compile(
    r"\s*(?:\\text\s*\{\s*(?:and|,)\s*\})?\s*,?\s*(?P<value>\d+(?:\.\d+)?)\s*"
    r"(?P<unit>\\text\s*\{[^{}]*\}|°|'{1,2}|[A-Za-z]+)"
)


def read_compound(text: str) -> list[tuple[Fraction, Unit]] | None:
    """Read "2 hours 30 minutes" as one quantity, expressed in each of its units.

    Returns:
        (value, unit) for every unit named; None when the text is no such quantity.
    """
    pieces: list[tuple[Fraction, Unit]] = []
    position = 0
    while position < len(text):
        match = _PIECE.match(text, position)
        if match is None:
            return None
        unit = read_unit(_AND.sub(" ", match["unit"]))
        if unit is None or (pieces and unit.dimensions != pieces[0][1].dimensions):
            return None
        pieces.append((Fraction(match["value"]), unit))
        position = match.end()
    if len(pieces) < 2:
        return None
    total = sum((value * unit.size for value, unit in pieces), Fraction(0))
    return [(total / unit.size, unit) for _, unit in pieces]
