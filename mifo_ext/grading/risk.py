"""What is never handed to a symbolic library."""

import re

CHARACTERS_AT_MOST = 1000
DEPTH_AT_MOST = 25
_BIG_OPERATORS = re.compile(
    r"\\(?:sum|prod|int|iint|iiint|oint|lim|limsup|liminf|bigcup|bigcap)(?![A-Za-z])"
)
_TOWER = re.compile(r"\^\s*(?:\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\^|\([^()]*\^|[^\s{(]\s*\^)")
_LONG_EXPONENT = re.compile(r"\^\s*\{?\s*[+-]?\s*\d[\d,]{6,}|[eE][+-]?\d{5,}")
_FIGURE = re.compile(r"\\(?:angle|triangle|parallel|perp|odot|square)(?![A-Za-z])")
_APART = re.compile(r"\d +\d|\d\.\d+\.\d")
_LONG_NUMBER = re.compile(r"\d{300,}")
_FACTORIAL = re.compile(r"(\d+)\s*\)?\s*!|!\s*\)?\s*!|[})]\s*!")
_BINOMIAL = re.compile(r"\\binom\s*\{?[^{}]*\d{5,}")
FACTORIAL_AT_MOST = 2000
_MARKUP = re.compile(r"\\(?:begin|end)\s*\{[a-z]*\}|_\{[^{}]*\}|\\[A-Za-z]+")
_UPRIGHT = re.compile(r"\\text\s*\{[^{}]*[A-Za-z]{2}")
_WORD = re.compile(r"[A-Za-z]{4,}")


def risk_of(text: str) -> str | None:
    """Why a text must not reach a symbolic library, or None when it may."""
    if len(text) > CHARACTERS_AT_MOST:
        return f"longer than {CHARACTERS_AT_MOST} characters"
    if _UPRIGHT.search(text) or _WORD.search(_MARKUP.sub(" ", text)):
        return "prose"
    if _depth(text) > DEPTH_AT_MOST:
        return f"nested deeper than {DEPTH_AT_MOST}"
    for pattern, reason in (
        (_BIG_OPERATORS, "a sum, product, integral or limit"),
        (_TOWER, "a tower of powers"),
        (_LONG_EXPONENT, "an exponent of more than six digits"),
        (_FIGURE, "a geometric figure"),
        (_APART, "numbers side by side"),
        (_LONG_NUMBER, "a number of hundreds of digits"),
        (_BINOMIAL, "a large binomial"),
    ):
        if pattern.search(text):
            return reason
    for match in _FACTORIAL.finditer(text):
        if match[1] is None or len(match[1]) > 4 or int(match[1]) > FACTORIAL_AT_MOST:
            return "a large factorial"
    return None


def _depth(text: str) -> int:
    depth = deepest = 0
    for char in text:
        depth += (char in "([{") - (char in ")]}")
        deepest = max(deepest, depth)
    return deepest
