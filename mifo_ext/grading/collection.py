"""Comparing collections: tuples and matrices in order, lists and sets in any order."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from mifo_ext.grading.scalar import Sameness, read_quantity
from mifo_ext.grading.structure import Shape

UNORDERED_AT_MOST = 40

SameTexts = Callable[[str, str], Sameness]
"""Compares two elements; what `compare` passes down for the level below."""

_Element = TypeVar("_Element")


def same_collections(left: Shape, right: Shape, same: SameTexts) -> Sameness:
    """Compare two shapes of which at least one has several elements."""
    kinds = {left.kind, right.kind}
    if "matrix" in kinds:
        if kinds == {"matrix", "tuple"}:
            return _same_vector(left, right, same)
        if kinds != {"matrix"}:
            plain = next(s for s in (left, right) if s.kind != "matrix")
            undecided = None if any("\\begin" in item for item in plain.items) else False
            return Sameness(undecided, "structure", "a matrix against something else")
        if left.marks != right.marks:
            return Sameness(False, "structure", "matrices of different shape")
        return all_same(left.items, right.items, same)
    if "set" in kinds and "tuple" in kinds:
        return Sameness(False, "structure", "a set against a tuple")
    if len(left.items) != len(right.items) and "set" not in kinds:
        return Sameness(False, "structure", "different numbers of elements")
    if kinds == {"set", "scalar"} and len(left.items) == len(right.items) == 1:
        return same(left.items[0], right.items[0])
    if "scalar" in kinds:
        single = next(s.items[0] for s in (left, right) if s.kind == "scalar")
        is_value = read_quantity(single).node is not None
        return Sameness(False if is_value else None, "structure", "one value against several")
    if "tuple" in kinds:
        return all_same(left.items, right.items, same)
    if "set" in kinds:
        left, right = (_distinct(found, same) for found in (left, right))
        if len(left.items) != len(right.items):
            return Sameness(False, "structure", "different numbers of elements")
    return match_up(list(left.items), list(right.items), same)


def _same_vector(left: Shape, right: Shape, same: SameTexts) -> Sameness:
    """A column of a matrix environment is the vector that a tuple writes in one line."""
    matrix = left if left.kind == "matrix" else right
    if matrix.marks[1] != "1":
        return Sameness(False, "structure", "a matrix against a tuple")
    return all_same(left.items, right.items, same)


def _distinct(found: Shape, same: SameTexts) -> Shape:
    kept: list[str] = []
    for item in found.items[:UNORDERED_AT_MOST]:
        if not any(same(item, other).same for other in kept):
            kept.append(item)
    return found._replace(items=(*kept, *found.items[UNORDERED_AT_MOST:]))


def all_same(gold: tuple[str, ...], answer: tuple[str, ...], same: SameTexts) -> Sameness:
    """Compare element by element, in order."""
    if len(gold) != len(answer):
        return Sameness(False, "structure", "different numbers of elements")
    undecided = False
    for g, a in zip(gold, answer, strict=True):
        outcome = same(g, a)
        if outcome.same is False:
            return Sameness(False, "structure", f"element {a!r}: {outcome.reason}")
        undecided = undecided or outcome.same is None
    return Sameness(None if undecided else True, "structure", "equal element by element")


def match_up(
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
