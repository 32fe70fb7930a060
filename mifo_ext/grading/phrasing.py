"""Taking the words around an answer away: "the area is 42 because …" becomes 42."""

import re

_LEAD_TEXT = re.compile(r"\s*\\text\s*\{([^{}]*)\}\s*[:=]?\s*(?=\S)")
_LEAD_WORDS = re.compile(
    r"\s*(?:(?:the|final|our|your|correct|answer|result|solution|value|total|area|sum|"
    r"probability|number|length|is|are|of|thus|so|therefore|hence|we|get|have|equals|which|"
    r"approximately|about|roughly|exactly|then|and|option|choice)\b[\s:,=]*){1,12}(?=\S)",
    re.IGNORECASE,
)
_MEANING = re.compile(
    r"\b(?:not|no|less|greater|more|fewer|least|most|than|except|minus|negative|neither|nor|half|"
    r"either|between|before|after|above|below|under|over)\b|\d",
    re.IGNORECASE,
)
_EXPLAINS = re.compile(
    r"\s*[,;(]?\s*\\text\s*\{\s*[,;(]?\s*(?:because|since|as|where|when|for|if|which|so|by|"
    r"\(?(?:i\.e|that is|approximately|approx))\b",
    re.IGNORECASE,
)
_PLAIN_EXPLAINS = re.compile(
    r"\s*,?\s*\b(?:because|since|where|which|not|rather than|instead of)\b", re.IGNORECASE
)
_MODULUS = re.compile(r"(?:\(\s*)?\\mod\s*\{?\s*\d+\s*\}?(?:\s*\))?$")
_LEAD_APPROX = re.compile(r"\s*(?:\\approx|\\sim|\\simeq|=|:)\s*")


def bare_answer(text: str) -> str:
    """A normalised answer without introduction, explanation and modulus."""
    text = _cut_explanation(text)
    previous = None
    while previous != text:
        previous = text
        text = _LEAD_APPROX.sub("", text, count=1) if _LEAD_APPROX.match(text) else text
        text = _cut_lead(text)
    return text.strip()


def without_modulus(text: str) -> str | None:
    r"""`110 \pmod{1000}` names the residue 110: that text alone, or None."""
    match = _MODULUS.search(text)
    return text[: match.start()].strip() if match and match.start() else None


def _cut_explanation(text: str) -> str:
    for pattern in (_EXPLAINS, _PLAIN_EXPLAINS):
        match = pattern.search(text)
        if match and match.start():
            return text[: match.start()].strip()
    return text


def _cut_lead(text: str) -> str:
    match = _LEAD_TEXT.match(text)
    if match and not _MEANING.search(match[1]) and re.search(r"\w", text[match.end() :]):
        return text[match.end() :]
    words = _LEAD_WORDS.match(text)
    if words and re.search(r"[A-Za-z]{2}", words.group()) and text[words.end() :].strip():
        return text[words.end() :]
    return text
