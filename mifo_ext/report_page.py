"""One HTML file that holds tables and pictures and needs nothing beside it."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path

from mifo_ext.report_tables import Report

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 72rem; margin: 2rem auto;
       padding: 0 1rem; }
img { max-width: 100%; }
table { border-collapse: collapse; margin: .5rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .8rem; text-align: left; border-bottom: 1px solid #ddd; }
th { border-bottom: 2px solid #888; }
.right { text-align: right; }
.scroll { overflow-x: auto; }
.remark { color: #555; font-size: .9rem; }
"""


def write_page(
    path: Path, *, title: str, tables: Sequence[Report], picture: Path, notes: Sequence[str]
) -> None:
    """Write the page, replacing an older one only when the new one is whole.

    Args:
        path: where the HTML goes.
        title: its heading.
        tables: shown in this order, every cell as text.
        picture: a PNG, put into the page itself.
        notes: sentences under the tables.
    """
    image = base64.b64encode(picture.read_bytes()).decode("ascii")
    remarks = "".join(f'<p class="remark">{escape(note)}</p>' for note in notes)
    page = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>{escape(title)}</h1>
<img src="data:image/png;base64,{image}" alt="The curves behind the tables below">
{"".join(_table(table) for table in tables)}
{remarks}
</body>
</html>
"""
    half = path.with_suffix(".half.html")
    half.write_text(page, encoding="utf-8")
    half.replace(path)


def _table(table: Report) -> str:
    sides = [' class="right"' if column.startswith(">") else "" for column in table.columns]
    head = "".join(
        f"<th{side}>{escape(column.lstrip('>'))}</th>"
        for side, column in zip(sides, table.columns, strict=True)
    )
    body = "".join(
        "<tr>"
        + "".join(f"<td{side}>{escape(cell)}</td>" for side, cell in zip(sides, row, strict=True))
        + "</tr>\n"
        for row in table.rows
    )
    remark = f'<p class="remark">{escape(table.remark)}</p>' if table.remark else ""
    return (
        f'<h2>{escape(table.title)}</h2>\n<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"\n<tbody>\n{body}</tbody></table></div>\n{remark}\n"
    )
