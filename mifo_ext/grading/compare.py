"""Whether an extracted answer says the same as a gold, without any symbolic library."""

import re
from functools import partial

from mifo_ext.grading.collection import same_collections
from mifo_ext.grading.normalise import normalise, squeeze, strip_wrapping
from mifo_ext.grading.phrasing import bare_answer
from mifo_ext.grading.relations import same_relations, same_sets_of_reals, without_names
from mifo_ext.grading.scalar import Sameness, is_grouped_number, plain_integer, same_scalar
from mifo_ext.grading.special import same_clock, same_special
from mifo_ext.grading.structure import inward, is_real_line, shape
from mifo_ext.grading.words import (
    answer_letter,
    gold_letter,
    is_words,
    means_nothing,
    same_words,
)

ITEMS_AT_MOST = 200
DEPTH_AT_MOST = 4


def compare(gold: str, answer: str) -> Sameness:
    """Compare two short texts as they stand in a benchmark and in a response.

    Returns:
        `same` is None when no layer could decide; a symbolic library may be asked then.
    """
    left, right = normalise(gold), normalise(answer)
    if not right:
        return Sameness(False, "string", "nothing but markup")
    if (g := plain_integer(left)) is not None and (a := plain_integer(right)) is not None:
        return Sameness(g == a, "number", "equal numbers" if g == a else "different numbers")
    letter = gold_letter(left)
    if letter is not None:
        return _same_letter(letter, right)
    if squeeze(left) == squeeze(right):
        return Sameness(True, "string", "the same text")
    if (clock := same_clock(left, right)) is not None:
        return Sameness(clock, "string", "equal times" if clock else "different times")
    if is_words(left) or (is_words(right) and means_nothing(left)):
        return _same_words(left, right)
    bare = strip_wrapping(bare_answer(right))
    return same(strip_wrapping(bare_answer(left)), bare)


def same(gold: str, answer: str, *, depth: int = 0) -> Sameness:
    """Compare two normalised texts by structure, and their elements as single values."""
    if squeeze(gold) == squeeze(answer):
        return Sameness(True, "string", "the same text")
    if depth > DEPTH_AT_MOST:
        return Sameness(None, "structure", "nested too deep")
    gold, answer = inward(_signs_expanded(gold)), inward(_signs_expanded(answer))
    if special := same_special(gold, answer):
        return special
    if is_grouped_number(gold) or is_grouped_number(answer):
        outcome = same_scalar(gold, answer)
        if outcome.same:
            return outcome
    left, right = shape(gold), shape(answer)
    if max(len(left.items), len(right.items)) > ITEMS_AT_MOST:
        return Sameness(None, "structure", "too many elements")
    deeper = partial(same, depth=depth + 1)
    left, right = without_names(left), without_names(right)
    if left.kind == "relation" or right.kind == "relation":
        return same_relations(gold, left, answer, right, deeper)
    if left.kind == right.kind == "scalar":
        return same_scalar(left.items[0], right.items[0])
    if (
        is_real_line(gold)
        or is_real_line(answer)
        or "union" in (left.kind, right.kind)
        or "interval" in (left.kind, right.kind)
    ):
        return same_sets_of_reals(gold, answer, deeper)
    return same_collections(left, right, deeper)


def _same_letter(letter: str, answer: str) -> Sameness:
    named = answer_letter(answer)
    if named is None:
        return Sameness(False, "letter", "no single option letter")
    return Sameness(named == letter, "letter", f"option {named}")


def _same_words(gold: str, answer: str) -> Sameness:
    is_same = same_words(gold, answer) or same_words(gold, bare_answer(answer))
    return Sameness(is_same, "text", "the same words" if is_same else "different words")


def _signs_expanded(text: str) -> str:
    r"""`3 \pm 1` as the list of both readings."""
    if "\\pm" not in text and "\\mp" not in text:
        return text
    upper = re.sub(r"\\pm(?![A-Za-z])", "+", re.sub(r"\\mp(?![A-Za-z])", "-", text))
    lower = re.sub(r"\\pm(?![A-Za-z])", "-", re.sub(r"\\mp(?![A-Za-z])", "+", text))
    return f"{upper}, {lower}"
