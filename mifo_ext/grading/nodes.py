"""The tree of an expression."""

from fractions import Fraction
from typing import NamedTuple


class Node(NamedTuple):
    """A node of the expression: an operation, a symbol or a number."""

    kind: str
    """`number`, `symbol`, or the name of an operation or function."""
    parts: "tuple[Node, ...]" = ()
    value: Fraction = Fraction(0)
    """Of a number."""
    name: str = ""
    """Of a symbol."""


def number(value: int | Fraction) -> Node:
    """A number node."""
    return Node("number", value=Fraction(value))
