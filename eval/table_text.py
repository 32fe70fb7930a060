"""Tables of an evaluation as text: safe to print, narrow enough for a terminal, or Markdown.

Names, answers and responses come from files and models, so every one of them is shown as text:
nothing in them moves a cursor, turns a line around or becomes markup.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from rich.cells import cell_len
from rich.console import Console

from mifo_ext.report_tables import Report, show

# Control characters (terminal escapes begin with one), marks that change the reading direction,
# Unicode's own line ends, and halves of surrogate pairs, which have no UTF-8.
_HIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)
_HEADING_WIDTH, _NAME_WIDTH = 11, 28
_LINES_SHOWN = 4
_BREAKS = re.compile(r"(?<=[-_/. ,])")
_MARKDOWN = {
    **{character: f"&#{ord(character)};" for character in "|\\`"},
    **{"&": "&amp;", "<": "&lt;", ">": "&gt;"},
    **{character: f"\\{character}" for character in "*~#$"},
}
_BLOCK_START = re.compile(r"^(\d*)([-+=\[.)])")


def visible_line(text: str) -> str:
    """Show what a terminal or a page would obey or hide, in one line.

    Args:
        text: anything, lone surrogates included.

    Returns:
        The text with each such character replaced by a sign for it: `␛`, `␊`, `⟨U+202E⟩`.
    """
    return _HIDDEN.sub(lambda match: _sign(match[0]), text)


def visible_block(text: str) -> str:
    """The same for a text of many lines: its line ends and tabs stay.

    Args:
        text: anything, lone surrogates included.
    """
    return _HIDDEN.sub(
        lambda match: match[0] if match[0] in "\n\t" else _sign(match[0]),
        text.replace("\r\n", "\n"),
    )


def visible_table(table: Report) -> Report:
    """A table whose title, headings, cells and remark are each one line of visible text."""
    return Report(
        title=visible_line(table.title),
        columns=[visible_line(column) for column in table.columns],
        rows=[[visible_line(cell) for cell in row] for row in table.rows],
        remark=visible_line(table.remark),
    )


def fitted(table: Report, width: int) -> list[Report]:
    """Split a table into narrower ones rather than squeeze its columns.

    Args:
        table: its first columns up to the first that is flush right name the row, and are repeated.
        width: of the terminal, in character cells.

    Returns:
        Tables with the same rows and, together, all columns. A single column that is too wide
        beside the names gets a table of its own.
    """
    table = _wrapped(visible_table(table))
    widths = [
        max(_text_width(cell) for cell in [heading.lstrip(">"), *(row[i] for row in table.rows)])
        for i, heading in enumerate(table.columns)
    ]
    names = _name_columns(table.columns)
    others = range(len(names), len(table.columns))
    parts = _filled(others, names=names, widths=widths, width=width)
    # As few parts as possible, then as even as possible: no part of one lonely column.
    narrower = parts
    while len(narrower) == len(parts) > 1 and width > 0:
        parts = narrower
        width -= 1
        narrower = _filled(others, names=names, widths=widths, width=width)
    return _parts(table, parts)


def show_fitted(table: Report, console: Console) -> None:
    """Print a table, in several parts where the console is too narrow for it in one."""
    for part in fitted(table, console.width):
        show(part, console)


def markdown(tables: Sequence[Report], *, title: str, notes: Sequence[str] = ()) -> str:
    """Write tables as GitHub Markdown, every cell as text.

    Args:
        tables: in this order; their headings become headings of level two.
        title: of the whole.
        notes: sentences, a list at the end.
    """
    blocks = [f"# {_escaped(title)}", *(_markdown_table(table) for table in tables)]
    if notes:
        lines = "\n".join(f"- {_block_safe(_escaped(note))}" for note in notes)
        blocks.append(f"## Notes\n\n{lines}")
    return "\n\n".join(blocks) + "\n"


def _sign(character: str) -> str:
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)  # Unicode's pictures of the control characters
    return "\N{SYMBOL FOR DELETE}" if code == 0x7F else f"⟨U+{code:04X}⟩"


def _name_columns(columns: Sequence[str]) -> list[int]:
    count = 0
    while count < len(columns) and not columns[count].startswith(">"):
        count += 1
    return list(range(max(count, 1)))


def _filled(
    columns: Iterable[int], *, names: Sequence[int], widths: Sequence[int], width: int
) -> list[list[int]]:
    """Fill parts with columns from the left, each as full as the width allows."""
    parts = [list(names)]
    for column in columns:
        wider = [*parts[-1], column]
        if len(parts[-1]) > len(names) and _table_width([widths[i] for i in wider]) > width:
            parts.append([*names, column])
        else:
            parts[-1] = wider
    return parts


def _table_width(widths: Sequence[int]) -> int:
    """What rich needs for columns of these widths: a blank on both sides of each and a divider."""
    return sum(widths) + 3 * len(widths) - 1


def _text_width(text: str) -> int:
    return max(cell_len(line) for line in text.split("\n"))


def _parts(table: Report, parts: Sequence[Sequence[int]]) -> list[Report]:
    last = len(parts) - 1
    return [
        Report(
            title=table.title if number == 0 else f"{table.title} (continued)",
            columns=[table.columns[i] for i in part],
            rows=[[row[i] for i in part] for row in table.rows],
            remark=table.remark if number == last else "",
        )
        for number, part in enumerate(parts)
    ]


def _wrapped(table: Report) -> Report:
    """Break long names into lines; a name that is the same as in the row above is left out."""
    names = _name_columns(table.columns)
    columns = []
    for i, column in enumerate(table.columns):
        side = ">" if column.startswith(">") else ""
        widest = max((cell_len(row[i]) for row in table.rows), default=0)
        columns.append(side + _lines(column.lstrip(">"), width=max(_HEADING_WIDTH, widest)))
    rows = [
        [_lines(cell, width=_NAME_WIDTH) if i in names else cell for i, cell in enumerate(row)]
        for row in table.rows
    ]
    if len(names) > 1:
        above = [None, *(row[0] for row in rows)]
        rows = [
            ["" if row[0] == last else row[0], *row[1:]]
            for row, last in zip(rows, above, strict=False)
        ]
    return replace(table, columns=columns, rows=rows)


def _lines(text: str, *, width: int) -> str:
    """Break a name where its parts meet; of a very long one, the middle is left out."""
    lines = [""]
    for piece in _BREAKS.split(text):
        for part in _chopped(piece, width):
            if cell_len(lines[-1] + part.rstrip()) <= width:
                lines[-1] += part
            else:
                lines.append(part)
    if len(lines) > _LINES_SHOWN:
        head = _LINES_SHOWN // 2
        lines = [*lines[:head], "…", *lines[len(lines) - (_LINES_SHOWN - head - 1) :]]
    return "\n".join(line.rstrip() for line in lines)


def _chopped(piece: str, width: int) -> list[str]:
    parts = [""]
    for character in piece:
        if cell_len(parts[-1] + character) > width:
            parts.append("")
        parts[-1] += character
    return parts


def _markdown_table(table: Report) -> str:
    sides = ["---:" if column.startswith(">") else "---" for column in table.columns]
    headings = [_escaped(column.lstrip(">")) for column in table.columns]
    rows = [headings, sides, *([_escaped(cell) for cell in row] for row in table.rows)]
    body = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    remark = f"\n\n{_block_safe(_escaped(table.remark))}" if table.remark else ""
    return f"## {_escaped(table.title)}\n\n{body}{remark}"


def _escaped(text: str) -> str:
    plain = visible_line(text).strip()
    marked = "".join(_MARKDOWN.get(character, character) for character in plain)
    # An underline inside a word is text; so is an address once its first dots are written as codes.
    marked = re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", marked)
    marked = marked.replace("](", "\\](").replace("][", "\\][")
    return marked.replace("://", "&#58;//").replace("www.", "www&#46;")


def _block_safe(escaped: str) -> str:
    """A paragraph's first characters must not make it a list, a task or a heading."""
    return _BLOCK_START.sub(r"\1\\\2", escaped)
