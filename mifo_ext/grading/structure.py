"""The outer shape of an answer: list, set, tuple, interval, matrix or relation.

Elements stay text; comparing them is the business of `compare`.
"""

import re
from typing import Literal, NamedTuple

_AND = re.compile(
    r"(?:,\s*)?(?:\\text\s*\{\s*,?\s*(?:and|or)\s*,?\s*\}|\b(?:and|or)\b|\\(?:lor|land|vee|wedge)(?![A-Za-z])|\\text\s*\{\s*,\s*\})\s*,?"
)
_OR = re.compile(r"\\text\s*\{\s*,?\s*or\s*,?\s*\}|\bor\b|\\(?:lor|vee)(?![A-Za-z])")
_MATRIX = re.compile(
    r"(?P<factor>[^&]*?)[(\[]?\s*\\begin\s*\{(?:[pbBvV]?matrix|smallmatrix|array)\}"
    r"(?:\s*\{[clr|\s]*\})?(?P<rows>.*)\\end\s*\{[a-zA-Z]*\}\s*[)\]]?",
    re.DOTALL,
)
_RELATION = re.compile(r"\\(?:le|ge|ne|in|approx|equiv)(?![A-Za-z])|\\notin(?![A-Za-z])|[=<>]")
_NAME = re.compile(
    r"(?:\\?[A-Za-z]+|\\(?:dot|hat|bar|tilde|overline)\s*\{[^{}]*\})"
    r"(?:_(?:\{[^{}]*\}|\w)|'|\^\{?[*+-]1?\}?)*\s*(?:\([^()=]*\))?"
    r"|\\frac\s*\{\s*d[^{}]*\}\s*\{\s*d[^{}]*\}|D_\{\w+\}"
)
_ABSOLUTE = re.compile(r"\s*\|([^|]*)\|\s*")
_NOT_NAMES = frozenset({"\\pm", "\\mp", "\\infty", "\\pi", "e", "i", "\\emptyset", "\\R"})
_DERIVATIVE = re.compile(
    r"\\frac\s*\{\s*(?:d|\\partial)\s*(\w|\\[a-z]+)\s*\}\s*\{\s*(?:d|\\partial)\s*(\w|\\[a-z]+)\s*\}"
)

_BUILDER = re.compile(r"\\\{\s*[A-Za-z]\s*(?:\\in\s*\\R\s*)?[:|](.*)\\\}", re.DOTALL)
_POSITIVE = re.compile(r"\\R\s*(?:\^|_)\s*\{?\s*\+\s*\}?")
_LIST_OF_ROWS = "\\begin{{pmatrix}}{}\\end{{pmatrix}}"
_OUTWARD = re.compile(r"(?:\]([^\[\]]*)([\[\])]))|(?:([(\[])([^\[\]]*)\[)")
Kind = Literal["scalar", "list", "set", "tuple", "interval", "union", "matrix", "relation"]


class Shape(NamedTuple):
    """One level of structure."""

    kind: Kind
    items: tuple[str, ...]
    """Elements; of a relation, its sides; of a matrix, its entries row by row."""
    marks: tuple[str, ...] = ()
    """Of an interval its brackets, of a relation its signs, of a matrix (rows, columns)."""


class Span(NamedTuple):
    """One interval on the real line; ends are normalised text."""

    low: str
    low_closed: bool
    high: str
    high_closed: bool


def name_derivatives(text: str) -> str:
    r"""Turn `\frac{dx}{dt}` into one symbol."""
    return _DERIVATIVE.sub(lambda m: f"D_{{{m[1]}{m[2]}}}".replace("\\", ""), text)


def inward(text: str) -> str:
    """`]2,5[` in the notation `(2,5)`."""
    match = _OUTWARD.fullmatch(text)
    if match is None or text.count(",") + text.count(";") != 1:
        return text
    left = "(" if text[0] == "]" else text[0]
    right = ")" if text[-1] == "[" else text[-1]
    return left + text[1:-1] + right


def split_top(text: str, separators: str) -> list[str]:
    """Split at separators outside all brackets. Mismatched brackets, as in [2,5), pair up."""
    parts: list[str] = []
    depth, start, position = 0, 0, 0
    while position < len(text):
        char = text[position]
        if char == "\\" and position + 1 < len(text):
            char = text[position + 1]
            position += 1
            if char not in "{}":
                position += 1
                continue
        if char in "([{":
            depth += 1
        elif char in ")]}":
            depth -= 1
        elif depth == 0 and char in separators:
            parts.append(text[start:position])
            start = position + 1
        position += 1
    parts.append(text[start:])
    return [part.strip() for part in parts]


def is_balanced(text: str) -> bool:
    """Whether brackets pair up, kinds aside."""
    depth = 0
    for char in text:
        depth += (char in "([{") - (char in ")]}")
        if depth < 0:
            return False
    return depth == 0


def shape(text: str) -> Shape:
    """The outermost structure of a normalised answer."""
    if text.strip() == "\\emptyset":
        return Shape("set", ())
    if matrix := _matrix(text):
        return matrix
    if not is_balanced(text):
        return Shape("scalar", (text,))
    listed = [part for part in split_top(_AND.sub(",", text), ",;") if part]
    if len(listed) > 1:
        return Shape(
            "union" if _OR.search(text) and _all_inequalities(listed) else "list", tuple(listed)
        )
    text = listed[0] if listed else text
    if relation := _relation(text):
        return relation
    if any(mark in text for mark in ("\\cup", "\\setminus")):
        parts = split_top(re.sub(r"\\cup(?![A-Za-z])", "\x1f", text), "\x1f")
        sets = [_bracketed(part) for part in parts]
        if len(parts) > 1 and all(found is not None and found.kind == "set" for found in sets):
            return Shape("set", tuple(item for found in sets if found for item in found.items))
        if len(parts) > 1:
            return Shape("union", tuple(parts))
    return _bracketed(text) or Shape("scalar", (text,))


def _all_inequalities(parts: list[str]) -> bool:
    return all(re.search(r"[<>]|\\(?:le|ge|ne)(?![A-Za-z])", part) for part in parts)


def _matrix(text: str) -> Shape | None:
    if text.startswith("[[") and text.endswith("]]"):
        text = _LIST_OF_ROWS.format(_row_text(text))
    match = _MATRIX.fullmatch(text)
    if match is None or "\\begin" in match["rows"] or not _is_factor(match["factor"]):
        return None
    rows = [row.split("&") for row in re.split(r"\\\\", match["rows"].replace("\\hline", ""))]
    rows = [row for row in rows if any(entry.strip() for entry in row)]
    if len({len(row) for row in rows}) != 1:
        return None
    factor = match["factor"].strip().rstrip("*").strip()
    entries = tuple(entry.strip() for row in rows for entry in row)
    if factor:
        entries = tuple(f"({'-1' if factor == '-' else factor})*({entry})" for entry in entries)
    return Shape("matrix", entries, (str(len(rows)), str(len(rows[0]))))


def _is_factor(text: str) -> bool:
    return is_balanced(text) and not _RELATION.search(text) and not re.search("[,;]", text)


def _row_text(text: str) -> str:
    """`[[1,2],[3,4]]` with the separators of a matrix environment."""
    return re.sub(r"\]\s*,\s*\[", r"\\\\", text[2:-2]).replace(",", "&")


def _relation(text: str) -> Shape | None:
    marked = _RELATION.sub(lambda m: f"\x1f{m.group()}\x1e", text)
    pieces = split_top(marked, "\x1f")
    if len(pieces) < 2:
        return None
    sides, signs = [pieces[0]], []
    for piece in pieces[1:]:
        sign, _, side = piece.partition("\x1e")
        signs.append(sign.lstrip("\\"))
        sides.append(side.strip())
    return Shape("relation", tuple(side.replace("\x1e", "") for side in sides), tuple(signs))


def _bracketed(text: str) -> Shape | None:
    if text.startswith("\\{") and text.endswith("\\}"):
        inner = text[2:-2].strip()
        if is_balanced(inner.replace("\\{", "").replace("\\}", "")):
            return Shape("set", tuple(split_top(_AND.sub(",", inner), ",;")) if inner else ())
    if len(text) < 3 or text[0] not in "([" or text[-1] not in ")]":
        return None
    inner = text[1:-1]
    items = tuple(split_top(inner, ",;"))
    if len(items) < 2 or not is_balanced(inner):
        return None
    if len(items) == 2 and (text[0], text[-1]) != ("(", ")"):
        return Shape("interval", items, (text[0], text[-1]))
    return Shape("tuple", items)


def name_of(side: str) -> str | None:
    """A side of a relation that is nothing but a name, such as `x`, `f(x)` or `m_{max}`."""
    side = side.strip()
    if (group := _bracketed(side)) is not None and group.kind == "tuple":
        names = [name_of(item) for item in group.items]
        return f"({','.join(name for name in names if name)})" if all(names) else None
    if side in _NOT_NAMES or not _NAME.fullmatch(side):
        return None
    return re.sub(r"[\s{}\\]", "", side)


def is_real_line(text: str) -> bool:
    r"""Whether a text names real numbers without brackets: `\R`, `\R \setminus …`, `\{x: …\}`."""
    return text.startswith("\\R") or _BUILDER.fullmatch(text) is not None


def spans(text: str) -> list[Span] | None:
    """An answer as intervals of the real line, from brackets or from inequalities."""
    text = text.strip()
    if builder := _BUILDER.fullmatch(text):
        return spans(builder[1])
    if _POSITIVE.fullmatch(text):
        return [Span("0", False, "\\infty", False)]
    if text in ("\\R", "(-\\infty,\\infty)"):
        return [Span("-\\infty", False, "\\infty", False)]
    found = shape(text)
    if found.kind == "union":
        parts = [spans(part) for part in found.items]
        if all(part is not None for part in parts):
            return [span for part in parts if part for span in part]
        return None
    if found.kind == "interval" or (found.kind == "tuple" and len(found.items) == 2):
        low, high = found.items
        return [Span(low, text[0] == "[", high, text[-1] == "]")]
    if found.kind == "set":
        return [Span(item, True, item, True) for item in found.items]
    if found.kind == "relation":
        return _inequality(found)
    return _without(text)


def _without(text: str) -> list[Span] | None:
    r"""`\R \setminus \{a\}` as two half-lines."""
    match = re.fullmatch(r"\\R\s*(?:\\setminus|-|\\backslash)\s*\\\{(.*)\\\}", text)
    return _around(match[1]) if match and "," not in match[1] else None


def _around(point: str) -> list[Span]:
    return [Span("-\\infty", False, point, False), Span(point, False, "\\infty", False)]


def _inequality(relation: Shape) -> list[Span] | None:
    sides, signs = relation.items, relation.marks
    if signs == ("in",) and name_of(sides[0]):
        return spans(sides[1])
    if signs == ("ne",) and name_of(sides[0]):
        return _around(sides[1])
    if any(sign not in ("<", ">", "le", "ge") for sign in signs):
        return None
    if len(signs) == 1:
        if name_of(sides[1]) and not name_of(sides[0]):
            sides, signs = sides[::-1], (_flip(signs[0]),)
        if (inside := _ABSOLUTE.fullmatch(sides[0])) and signs[0] in ("<", "le"):
            closed = signs[0] == "le"
            return (
                [Span(f"-({sides[1]})", closed, sides[1], closed)] if name_of(inside[1]) else None
            )
        if not name_of(sides[0]):
            return None
        closed = signs[0] in ("le", "ge")
        if signs[0] in ("<", "le"):
            return [Span("-\\infty", False, sides[1], closed)]
        return [Span(sides[1], closed, "\\infty", False)]
    if len(signs) != 2 or not name_of(sides[1]):
        return None
    if signs[0] in (">", "ge"):
        sides, signs = sides[::-1], (_flip(signs[1]), _flip(signs[0]))
    if not {*signs} <= {"<", "le"}:
        return None
    return [Span(sides[0], signs[0] == "le", sides[2], signs[1] == "le")]


def _flip(sign: str) -> str:
    return {"<": ">", ">": "<", "le": "ge", "ge": "le"}[sign]
