"""Whether an extracted answer says the same as a gold, without any symbolic library."""

import re
from collections.abc import Callable, Sequence
from typing import TypeVar

from mifo_ext.grading.expression import Node, read_expression
from mifo_ext.grading.normalise import normalise, squeeze, strip_wrapping
from mifo_ext.grading.phrasing import bare_answer, without_modulus
from mifo_ext.grading.probe import proportional
from mifo_ext.grading.scalar import (
    Sameness,
    decimal_comma,
    is_grouped_number,
    plain_integer,
    same_scalar,
)
from mifo_ext.grading.structure import (
    Shape,
    Span,
    name_derivatives,
    name_of,
    shape,
    spans,
)
from mifo_ext.grading.tokens import Unreadable
from mifo_ext.grading.words import answer_letter, gold_letter, is_words, same_words

ITEMS_AT_MOST = 200
UNORDERED_AT_MOST = 40
_CLOCK = re.compile(r"(\d{1,2}):(\d{2})(?:\s*\\?(?:text)?\s*\{?\s*([ap])\.?\s?m\.?\s*\}?)?", re.IGNORECASE)
_RATIO = re.compile(r"[^:]+:[^:]+(?::[^:]+)*")
_Element = TypeVar("_Element")


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
    if is_words(left):
        return _same_words(left, right)
    bare = strip_wrapping(bare_answer(right))
    return same(strip_wrapping(bare_answer(left)), bare)


def same(gold: str, answer: str, *, depth: int = 0) -> Sameness:
    """Compare two normalised texts by structure, and their elements as single values."""
    if squeeze(gold) == squeeze(answer):
        return Sameness(True, "string", "the same text")
    if depth > 4:
        return Sameness(None, "structure", "nested too deep")
    gold, answer = _signs_expanded(gold), _signs_expanded(answer)
    if special := _special(gold, answer):
        return special
    if is_grouped_number(gold) or is_grouped_number(answer):
        outcome = same_scalar(gold, answer)
        if outcome.same:
            return outcome
    left, right = shape(gold), shape(answer)
    if max(len(left.items), len(right.items)) > ITEMS_AT_MOST:
        return Sameness(None, "structure", "too many elements")
    left, right = _without_names(left), _without_names(right)
    if left.kind == "relation" or right.kind == "relation":
        return _same_relations(gold, left, answer, right, depth)
    if left.kind == right.kind == "scalar":
        return same_scalar(left.items[0], right.items[0])
    if "union" in (left.kind, right.kind) or "interval" in (left.kind, right.kind):
        return _same_sets_of_reals(gold, answer, depth)
    return _same_collections(left, right, depth)


def _same_letter(letter: str, answer: str) -> Sameness:
    named = answer_letter(answer)
    if named is None:
        return Sameness(False, "letter", "no single option letter")
    return Sameness(named == letter, "letter", f"option {named}")


def _same_words(gold: str, answer: str) -> Sameness:
    is_same = same_words(gold, answer) or same_words(gold, bare_answer(answer))
    return Sameness(is_same, "text", "the same words" if is_same else "different words")


def _special(gold: str, answer: str) -> Sameness | None:
    """Clock times, ratios, decimal commas and residues."""
    clocks = _CLOCK.fullmatch(gold), _CLOCK.fullmatch(answer)
    if clocks[0] and clocks[1]:
        is_same = _clock(clocks[0]) == _clock(clocks[1])
        return Sameness(is_same, "string", "equal times" if is_same else "different times")
    if _RATIO.fullmatch(gold) and _RATIO.fullmatch(answer):
        return _same_ratios(gold.split(":"), answer.split(":"))
    for one, other, swapped in ((gold, answer, False), (answer, gold, True)):
        if _RATIO.fullmatch(one) and one.count(":") == 1 and not _CLOCK.fullmatch(one):
            fraction = "\\frac{{{}}}{{{}}}".format(*one.split(":"))
            return same(other, fraction) if swapped else same(fraction, other)
    if "." in gold and (point := decimal_comma(answer)) and "," not in gold:
        return same_scalar(gold, point)
    residue = without_modulus(answer)
    if residue and "\\mod" not in gold:
        outcome = same_scalar(gold, residue)
        return outcome if outcome.same else None
    return None


def _clock(match: re.Match[str]) -> tuple[int, str, str]:
    return int(match[1]), match[2], (match[3] or "").lower()


def _same_ratios(gold: list[str], answer: list[str]) -> Sameness:
    if len(gold) != len(answer):
        return Sameness(False, "structure", "ratios of different length")
    for g, a in zip(gold[1:], answer[1:], strict=True):
        outcome = same_scalar(f"({gold[0]})*({a})", f"({answer[0]})*({g})")
        if not outcome.same:
            return outcome
    return Sameness(True, "structure", "equal ratios")


def _signs_expanded(text: str) -> str:
    r"""`3 \pm 1` as the list of both readings."""
    if "\\pm" not in text and "\\mp" not in text:
        return text
    upper = re.sub(r"\\pm(?![A-Za-z])", "+", re.sub(r"\\mp(?![A-Za-z])", "-", text))
    lower = re.sub(r"\\pm(?![A-Za-z])", "-", re.sub(r"\\mp(?![A-Za-z])", "+", text))
    return f"{upper}, {lower}"


def _without_names(found: Shape) -> Shape:
    """Drop the names of assignments: `x=5, y=-3` is a tuple, `x=1, x=2` and `x=1, 2` a list."""
    if found.kind == "list":
        parts = [shape(item) for item in found.items]
        names = [name_of(p.items[0]) if _is_assignment(p) else None for p in parts]
        if names[0] is None:
            return found
        values = [p.items[-1] if name else p_text for p, name, p_text in zip(parts, names, found.items, strict=True)]
        given = [name for name in names if name]
        if len(set(given)) == 1:
            return Shape("list", tuple(values))
        if len(given) == len(names) == len(set(given)) and all(len(name) <= 6 for name in given):
            if any("(" in name for name in given):
                return found
            ordered = sorted(zip(given, values, strict=True))
            return Shape("tuple", tuple(value for _, value in ordered), tuple(n for n, _ in ordered))
    if found.kind == "tuple" and all(_is_assignment(shape(item)) for item in found.items):
        return _without_names(Shape("list", found.items))
    return found


def _is_assignment(found: Shape) -> bool:
    return (
        found.kind == "relation"
        and set(found.marks) == {"="}
        and name_of(found.items[0]) is not None
    )


def _same_relations(gold: str, left: Shape, answer: str, right: Shape, depth: int) -> Sameness:
    if _has_inequality(left) or _has_inequality(right):
        return _same_sets_of_reals(gold, answer, depth)
    if left.kind != "relation":
        return same(gold, _value_of(right), depth=depth + 1)
    if right.kind != "relation":
        if not _is_assignment(left):
            return Sameness(False, "structure", "an expression where an equation is wanted")
        return same(left.items[-1], answer, depth=depth + 1)
    if left.marks == right.marks == ("in",):
        return same(left.items[1], right.items[1], depth=depth + 1)
    if _is_assignment(left) and _is_assignment(right):
        names = name_of(left.items[0]), name_of(right.items[0])
        if names[0] == names[1] or ("y" in names and any("(" in str(name) for name in names)):
            return same(left.items[-1], right.items[-1], depth=depth + 1)
    if len(left.items) == len(right.items) == 2:
        return _same_equations(left, right, positive=False)
    return Sameness(None, "structure", "chains of equations")


def _value_of(relation: Shape) -> str:
    """What an answer such as `x = 2 + 3 = 5` or `\\sqrt 2 \\approx 1.41` states."""
    if "approx" in relation.marks:
        cut = relation.marks.index("approx")
        sides, signs = relation.items[: cut + 1], relation.marks[:cut]
        if cut == 0 and name_of(relation.items[0]):
            return relation.items[-1]
        return sides[-1] if not signs or set(signs) <= {"="} else relation.items[-1]
    return relation.items[-1]


def _has_inequality(found: Shape) -> bool:
    return found.kind == "relation" and any(s in ("<", ">", "le", "ge", "ne") for s in found.marks)


def _same_equations(left: Shape, right: Shape, *, positive: bool) -> Sameness:
    try:
        nodes = [_difference(found) for found in (left, right)]
    except Unreadable as error:
        return Sameness(None, "algebra", f"not an equation of expressions: {error}")
    is_same = proportional(nodes[0], nodes[1], positive=positive)
    return Sameness(is_same, "algebra", "equivalent equations" if is_same else "different equations")


def _difference(relation: Shape) -> Node:
    sides = [read_expression(name_derivatives(side)) for side in relation.items]
    if relation.marks[0] in (">", "ge"):
        sides.reverse()
    return Node("add", (sides[0], Node("neg", (sides[1],))))


def _same_sets_of_reals(gold: str, answer: str, depth: int) -> Sameness:
    left, right = spans(gold), spans(answer)
    if left is None or right is None:
        return _same_inequalities(gold, answer)
    if _variables_differ(gold, answer):
        return Sameness(False, "structure", "inequalities in different variables")
    if len(left) != len(right):
        return Sameness(False, "structure", "different numbers of intervals")
    return _match_up(left, right, lambda a, b: _same_span(a, b, depth))


def _variables_differ(gold: str, answer: str) -> bool:
    names = []
    for text in (gold, answer):
        found = shape(text)
        if found.kind != "relation":
            return False
        names.append({name_of(side) for side in found.items} - {None})
    return bool(names[0] and names[1]) and not names[0] & names[1]


def _same_inequalities(gold: str, answer: str) -> Sameness:
    left, right = shape(gold), shape(answer)
    if left.kind != right.kind or len(left.items) != 2 or len(right.items) != 2:
        return Sameness(None, "structure", "not intervals of one variable")
    strict = [{"<", ">"} & set(found.marks) != set() for found in (left, right)]
    if strict[0] != strict[1]:
        return Sameness(False, "structure", "strict against not strict")
    return _same_equations(left, right, positive=True)


def _same_span(left: Span, right: Span, depth: int) -> Sameness:
    if (left.low_closed, left.high_closed) != (right.low_closed, right.high_closed):
        return Sameness(False, "structure", "open against closed")
    return _all_same((left.low, left.high), (right.low, right.high), depth)


def _same_collections(left: Shape, right: Shape, depth: int) -> Sameness:
    kinds = {left.kind, right.kind}
    if "matrix" in kinds:
        if kinds != {"matrix"}:
            return Sameness(None, "structure", "a matrix against something else")
        if left.marks != right.marks:
            return Sameness(False, "structure", "matrices of different shape")
        return _all_same(left.items, right.items, depth)
    if "set" in kinds and "tuple" in kinds:
        return Sameness(False, "structure", "a set against a tuple")
    if len(left.items) != len(right.items) and "set" not in kinds:
        return Sameness(False, "structure", "different numbers of elements")
    if "scalar" in kinds:
        grouped = next(s.items[0] for s in (left, right) if s.kind == "scalar")
        return Sameness(None if "\\" in grouped else False, "structure", "one value against several")
    if "tuple" in kinds:
        return _all_same(left.items, right.items, depth)
    if "set" in kinds:
        left, right = (_distinct(found, depth) for found in (left, right))
        if len(left.items) != len(right.items):
            return Sameness(False, "structure", "different numbers of elements")
    return _match_up(list(left.items), list(right.items), lambda a, b: same(a, b, depth=depth + 1))


def _distinct(found: Shape, depth: int) -> Shape:
    kept: list[str] = []
    for item in found.items[:UNORDERED_AT_MOST]:
        if not any(same(item, other, depth=depth + 1).same for other in kept):
            kept.append(item)
    return found._replace(items=(*kept, *found.items[UNORDERED_AT_MOST:]))


def _all_same(gold: tuple[str, ...], answer: tuple[str, ...], depth: int) -> Sameness:
    if len(gold) != len(answer):
        return Sameness(False, "structure", "different numbers of elements")
    undecided = False
    for g, a in zip(gold, answer, strict=True):
        outcome = same(g, a, depth=depth + 1)
        if outcome.same is False:
            return Sameness(False, "structure", f"element {a!r}: {outcome.reason}")
        undecided = undecided or outcome.same is None
    return Sameness(None if undecided else True, "structure", "equal element by element")


def _match_up(
    gold: Sequence[_Element],
    answer: Sequence[_Element],
    same_element: Callable[[_Element, _Element], Sameness],
) -> Sameness:
    """Pair the elements of two collections without regard to order.

    Equality is transitive, so the first partner found is as good as any other.
    """
    if len(gold) > UNORDERED_AT_MOST:
        return Sameness(None, "structure", "too many elements")
    left_over = list(answer)
    undecided = False
    for g in gold:
        outcomes = [same_element(g, a).same for a in left_over]
        if True in outcomes:
            left_over.pop(outcomes.index(True))
        elif None in outcomes:
            undecided = True
        else:
            return Sameness(False, "structure", "an element without a partner")
    return Sameness(None if undecided else True, "structure", "equal up to order")
