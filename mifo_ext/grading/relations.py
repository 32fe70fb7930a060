"""Comparing relations: assignments, equations, inequalities, and sets of real numbers."""

from mifo_ext.grading.collection import SameTexts, all_same, match_up
from mifo_ext.grading.expression import read_expression
from mifo_ext.grading.nodes import Node
from mifo_ext.grading.probe import proportional
from mifo_ext.grading.scalar import Sameness
from mifo_ext.grading.structure import Shape, Span, name_derivatives, name_of, shape, spans
from mifo_ext.grading.tokens import UnreadableError


def without_names(found: Shape) -> Shape:
    """Drop the names of assignments: `x=5, y=-3` is a tuple, `x=1, x=2` and `x=1, 2` a list."""
    if found.kind == "list":
        parts = [shape(item) for item in found.items]
        names = [name_of(p.items[0]) if _is_assignment(p) else None for p in parts]
        if names[0] is None:
            return found
        values = [
            p.items[-1] if name else p_text
            for p, name, p_text in zip(parts, names, found.items, strict=True)
        ]
        given = [name for name in names if name]
        if len(set(given)) == 1:
            return Shape("list", tuple(values))
        if len(given) == len(names) == len(set(given)) and all(len(name) <= 6 for name in given):
            if any("(" in name for name in given):
                return found
            ordered = sorted(zip(given, values, strict=True))
            return Shape(
                "tuple", tuple(value for _, value in ordered), tuple(n for n, _ in ordered)
            )
    if found.kind == "tuple" and all(_is_assignment(shape(item)) for item in found.items):
        return without_names(Shape("list", found.items))
    return found


def _is_assignment(found: Shape) -> bool:
    return (
        found.kind == "relation"
        and set(found.marks) == {"="}
        and name_of(found.items[0]) is not None
    )


def same_relations(gold: str, left: Shape, answer: str, right: Shape, same: SameTexts) -> Sameness:
    """Compare two texts of which at least one is a relation.

    An assignment such as `x = 5` stands for its value wherever the other side has no name.
    """
    if ("in",) in (left.marks, right.marks) or _has_inequality(left) or _has_inequality(right):
        return same_sets_of_reals(gold, answer, same)
    if left.kind != "relation":
        return same(gold, _value_of(right))
    if right.kind != "relation":
        if not _is_assignment(left):
            return Sameness(False, "structure", "an expression where an equation is wanted")
        return same(left.items[-1], answer)
    if _is_assignment(left) and _is_assignment(right):
        names = name_of(left.items[0]), name_of(right.items[0])
        if names[0] == names[1] or ("y" in names and any("(" in str(name) for name in names)):
            return same(left.items[-1], right.items[-1])
    if len(left.items) == len(right.items) == 2:
        return _same_equations(left, right, positive=False)
    return Sameness(None, "structure", "chains of equations")


def _value_of(relation: Shape) -> str:
    r"""What an answer such as `x = 2 + 3 = 5` or `\sqrt 2 \approx 1.41` states."""
    if "approx" in relation.marks:
        cut = relation.marks.index("approx")
        sides, signs = relation.items[: cut + 1], relation.marks[:cut]
        if cut == 0 and name_of(relation.items[0]):
            return relation.items[-1]
        return sides[-1] if not signs or set(signs) <= {"="} else relation.items[-1]
    if name_of(relation.items[-1]) and not name_of(relation.items[0]):
        return relation.items[0]
    return relation.items[-1]


def _has_inequality(found: Shape) -> bool:
    return found.kind == "relation" and any(s in ("<", ">", "le", "ge", "ne") for s in found.marks)


def _same_equations(left: Shape, right: Shape, *, positive: bool) -> Sameness:
    try:
        nodes = [_difference(found) for found in (left, right)]
    except UnreadableError as error:
        return Sameness(None, "algebra", f"not an equation of expressions: {error}")
    is_same = proportional(nodes[0], nodes[1], positive=positive)
    return Sameness(
        is_same, "algebra", "equivalent equations" if is_same else "different equations"
    )


def _difference(relation: Shape) -> Node:
    sides = [read_expression(name_derivatives(side)) for side in relation.items]
    if relation.marks[0] in (">", "ge"):
        sides.reverse()
    return Node("add", (sides[0], Node("neg", (sides[1],))))


def same_sets_of_reals(gold: str, answer: str, same: SameTexts) -> Sameness:
    """Compare intervals, unions of them and inequalities in one variable."""
    left, right = spans(gold), spans(answer)
    if left is None or right is None:
        unread = answer if right is None else gold
        if left is right or shape(unread).kind == "relation":
            return _same_inequalities(gold, answer)
        return Sameness(False, "structure", "intervals against something else")
    if _variables_differ(gold, answer):
        return Sameness(False, "structure", "inequalities in different variables")
    if len(left) != len(right):
        return Sameness(False, "structure", "different numbers of intervals")
    return match_up(left, right, lambda a, b: _same_span(a, b, same))


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


def _same_span(left: Span, right: Span, same: SameTexts) -> Sameness:
    if (left.low_closed, left.high_closed) != (right.low_closed, right.high_closed):
        return Sameness(False, "structure", "open against closed")
    return all_same((left.low, left.high), (right.low, right.high), same)
