"""Cutting a normalised answer into the tokens of an algebraic expression."""

import re
from fractions import Fraction
from typing import NamedTuple


def word_set(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


FUNCTIONS = word_set(
    "arcsinh arccosh arctanh arcsec arccsc arccot arcsin arccos arctan asin acos atan "
    "sinh cosh tanh sin cos tan sec csc cot log ln lg exp sqrt abs max min gcd lcm floor ceil "
    "factorial"
)
_ALIASES = {"asin": "arcsin", "acos": "arccos", "atan": "arctan", "ln": "log"}
_GREEK_NAMES = word_set("pi alpha beta gamma delta epsilon theta lambda omega sigma phi rho tau")
_WORDS = sorted(FUNCTIONS | _GREEK_NAMES, key=len, reverse=True)
_TOKEN = re.compile(
    r"(?P<space>\s+)"
    r"|(?P<number>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,4}(?![\d.A-Za-z]))?)"
    r"|(?P<command>\\[A-Za-z]+)"
    r"|(?P<brace>\\[{}])"
    rf"|(?P<word>{'|'.join(_WORDS)})"
    r"|(?P<letter>[A-Za-z])"
    r"|(?P<sign>[-+*/^_!%(){}\[\]|,=<>'°])"
)
_LONG_WORD = re.compile(r"[A-Za-z]{4,}")

DIGITS_AT_MOST = 4000
"""Longer integers are not converted: Python refuses them above 4,300 digits."""


class UnreadableError(ValueError):
    """The text is not an expression this parser knows."""


class Token(NamedTuple):
    """One token; `kind` is a group name of the token pattern, with the functions apart."""

    kind: str
    text: str
    spaced: bool
    """Whether white space stands before it."""


def tokenize(text: str) -> list[Token]:
    """The tokens of a normalised answer.

    Raises:
        UnreadableError: at a character or a word that belongs to no expression.
    """
    _refuse_words(text)
    tokens: list[Token] = []
    position, spaced = 0, False
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise UnreadableError(f"character {text[position]!r}")
        position = match.end()
        kind = str(match.lastgroup)
        if kind == "space":
            spaced = True
            continue
        tokens.append(_named(kind, match.group(), spaced))
        spaced = False
    return tokens


def number_value(text: str) -> Fraction:
    """The exact value of a number token; the exponent has at most five digits."""
    if len(text) > DIGITS_AT_MOST:
        raise UnreadableError("number with too many digits")
    return Fraction(text.rstrip(".") if "e" not in text.lower() else text.replace(".e", "e"))


def _named(kind: str, text: str, spaced: bool) -> Token:
    if kind == "command":
        name = text[1:]
        if name in FUNCTIONS:
            return Token("function", _ALIASES.get(name, name), spaced)
        return Token("command", name, spaced)
    if kind == "word":
        if text in FUNCTIONS:
            return Token("function", _ALIASES.get(text, text), spaced)
        return Token("command", text, spaced)
    if kind == "brace":
        return Token("sign", "{" if text == "\\{" else "}", spaced)
    return Token(kind, text, spaced)


def _refuse_words(text: str) -> None:
    """Prose is not a product of its letters."""
    for match in _LONG_WORD.finditer(text):
        start = match.start()
        if start and text[start - 1] == "\\":
            continue
        rest = re.sub("|".join(_WORDS), "", match.group())
        if len(rest) >= 4:
            raise UnreadableError(f"word {match.group()!r}")
