"""The report of an evaluation as one HTML file: tables, pictures, and a browser of samples.

The file needs nothing beside it and asks no network. What it shows comes from models and data
files, so nothing of it can become markup or script: tables are escaped, samples lie in a JSON
block whose text reaches the page only as text nodes, and a content security policy names the one
script and the one style that count, by their hashes.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
from markupsafe import Markup

from mifo_ext.eval.shown import Shown
from mifo_ext.eval.table_text import visible_block, visible_line, visible_table
from mifo_ext.report_tables import Report

WITHHELD = "not shown: this benchmark asks not to publish its questions"
_HERE = Path(__file__).parent
_MEDIA = {".png": "image/png", ".svg": "image/svg+xml"}
# Inside a script element only these can end it, comment it out, or end a line of it.
_NOT_IN_SCRIPT = str.maketrans(
    {character: f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}
)


class _Picture(NamedTuple):
    source: str
    name: str


class _Column(NamedTuple):
    heading: str
    right: bool


def write_page(
    path: Path,
    *,
    title: str,
    tables: Sequence[Report],
    pictures: Sequence[Path] = (),
    samples: Sequence[Shown] = (),
    samples_remark: str = "",
    notes: Sequence[str] = (),
    provenance: Mapping[str, object] | None = None,
    private: frozenset[str] = frozenset(),
) -> None:
    """Write the page, replacing an older one only when the new one is whole.

    Args:
        path: where the HTML goes.
        title: its heading.
        tables: shown in this order, every cell as text.
        pictures: PNG or SVG files, put into the page itself; a file's name says what it shows.
        samples: for the browser; none leaves it out.
        samples_remark: what a reader of the samples has to know, such as how they were chosen.
        notes: sentences after the tables.
        provenance: versions, settings and hashes; anything but text is written as JSON.
        private: benchmarks whose questions, golds and responses the page must not hold.

    Raises:
        ValueError: a picture is neither PNG nor SVG.
        FileNotFoundError: a picture is missing.
    """
    style = _part("page.css")
    script = _part("browser.js")
    page = _template().render(
        policy=_policy(style=style, script=script),
        style=Markup(style),
        script=Markup(script),
        title=visible_line(title),
        tables=[_table(table) for table in tables],
        pictures=[_picture(picture) for picture in pictures],
        data=Markup(samples_json(samples, private=private)),
        has_samples=bool(samples),
        samples_remark=visible_line(samples_remark),
        private=sorted(visible_line(name) for name in private & {s.benchmark for s in samples}),
        notes=[visible_line(note) for note in notes],
        provenance=_provenance(provenance or {}),
    )
    _write_whole(path, page)


def samples_json(samples: Sequence[Shown], *, private: frozenset[str] = frozenset()) -> str:
    """Samples as JSON that can stand in a script element of an HTML page.

    Args:
        samples: anything may be in their texts.
        private: benchmarks of which only verdicts and lengths are written.

    Returns:
        `{"samples": [{…}, …]}`, without `<`, `>`, `&` and Unicode's line ends.
    """
    rows = [_row(sample, withheld=sample.benchmark in private) for sample in samples]
    text = json.dumps({"samples": rows}, ensure_ascii=False, separators=(",", ":"))
    return text.translate(_NOT_IN_SCRIPT)


def _row(sample: Shown, *, withheld: bool) -> dict[str, Any]:
    row: dict[str, Any] = sample._asdict()
    if withheld:
        # A reason may quote the gold, and the extracted answer of a correct response is the gold.
        hidden = dict.fromkeys(("question", "gold", "response", "reason", "extracted"), WITHHELD)
        row = {**row, **hidden}
    return {
        name: visible_block(value) if isinstance(value, str) else value
        for name, value in row.items()
    }


def _policy(*, style: str, script: str) -> str:
    return (
        "default-src 'none'; img-src data:; "
        f"style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


def _part(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")


def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.from_string(_part("page.html.jinja"))


def _table(table: Report) -> dict[str, Any]:
    shown = visible_table(table)
    return {
        "title": shown.title,
        "columns": [_Column(name.lstrip(">"), name.startswith(">")) for name in shown.columns],
        "rows": shown.rows,
        "remark": shown.remark,
    }


def _picture(path: Path) -> _Picture:
    media = _MEDIA.get(path.suffix.lower())
    if media is None:
        raise ValueError(
            f"`pictures` must be {' or '.join(_MEDIA)} files, but one is {path.name!r}. "
            "Write it in one of these formats."
        )
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    return _Picture(f"data:{media};base64,{data}", visible_line(path.stem.replace("-", " ")))


def _provenance(values: Mapping[str, object]) -> list[tuple[str, str]]:
    return [
        (
            visible_line(name),
            visible_block(
                value
                if isinstance(value, str)
                else json.dumps(value, ensure_ascii=False, indent=1, default=str)
            ),
        )
        for name, value in values.items()
    ]


def _write_whole(path: Path, text: str) -> None:
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".half", dir=path.parent)
    half = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
        half.chmod(0o644)  # a temporary file is its owner's alone; a report is for showing
        half.replace(path)
    except BaseException:
        half.unlink(missing_ok=True)
        raise
