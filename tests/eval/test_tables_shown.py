"""Tables fit, lose no figure, and what is hostile reaches no terminal."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from mifo_ext.eval.results import Estimate
from mifo_ext.eval.table_text import (
    fitted,
    markdown,
    show_fitted,
    visible_block,
    visible_line,
)
from mifo_ext.eval.tables import (
    evaluation_tables,
)
from mifo_ext.report_tables import Report
from tests.support.table_runs import benchmark, run, suite


def printed(tables: list[Report], width: int) -> str:
    stream = io.StringIO()
    console = Console(file=stream, width=width, force_terminal=False)
    for table in tables:
        show_fitted(table, console)
    return stream.getvalue()


def all_cells(table: Report) -> list[str]:
    return [table.title, table.remark, *table.columns, *(c for row in table.rows for c in row)]


@pytest.mark.parametrize("names", [["mifo"], ["mifo-seed0", "grpo-seed0", "a/long-name" * 5]])
def test_every_table_fits_eighty_columns_without_losing_a_figure(names: list[str]) -> None:
    results = [suite(name) for name in names]
    tables = evaluation_tables(results)

    text = printed(tables, 80)

    assert max(map(len, text.splitlines())) <= 80
    words = text.split()
    for table in tables:
        for row in table.rows:
            for cell in row[2:]:
                assert all(word in words for word in cell.split())


def test_a_split_table_repeats_its_names_and_leaves_no_lonely_column() -> None:
    columns = ("name", *(f">{letter * 10}" for letter in "abcdef"))
    table = Report("t", columns, [["x", *"123456"]], remark="r")

    first, second = fitted(table, 74)  # five columns of ten would fit, one would be left over

    assert list(first.columns) == ["name", *(f">{letter * 10}" for letter in "abc")]
    assert list(second.columns) == ["name", *(f">{letter * 10}" for letter in "def")]
    assert first.remark == ""
    assert second.remark == "r"


@given(
    rows=st.lists(st.lists(st.text(max_size=12), min_size=4, max_size=4), min_size=1, max_size=4),
    width=st.integers(1, 100),
)
def test_splitting_keeps_every_cell_once(rows: list[list[str]], width: int) -> None:
    table = Report("t", ("name", ">a", ">b", ">c"), rows)

    parts = fitted(table, width)

    figures = [[cell for part in parts for cell in part.rows[i][1:]] for i in range(len(rows))]
    assert figures == [[visible_line(cell) for cell in row[1:]] for row in rows]


@given(st.text(st.characters(), max_size=60))
def test_what_is_shown_can_be_encoded_and_moves_no_cursor(text: str) -> None:
    line = visible_line(text)

    assert line.encode().decode() == line
    assert "\n" not in line
    assert not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in line)
    assert visible_line(line) == line
    assert [c for c in visible_block(text) if ord(c) < 32 and c not in "\n\t"] == []


def test_escapes_and_turned_text_are_shown_by_signs() -> None:
    assert visible_line("a\x1b[2J\n\u202eb\ud800\x7f\x9b") == "a␛[2J␊⟨U+202E⟩b⟨U+D800⟩␡⟨U+009B⟩"
    assert visible_block("a\r\nb\tc\rd") == "a\nb\tc␍d"


def test_hostile_names_reach_no_terminal() -> None:
    evil = "\x1b]0;owned\x07[red]x[/red]\u202e\ud800"
    hostile = run(evil, benchmark(evil, groups={evil: Estimate(0, 0, 0)}))
    tables = evaluation_tables([hostile], differences=[])

    text = printed(tables, 80)

    assert "\x1b" not in text
    assert "\x07" not in text
    assert "[red]x[/red]" in text
    assert not any("\x1b" in cell for table in tables for cell in all_cells(table))


def test_markdown_has_one_line_a_row_and_no_markup_of_its_cells() -> None:
    evil = "a|b\\|`c`\n<img src=x> *d* [e](http://f) _g_ www.h"
    table = Report("t", ("name", ">n"), [[evil, "1"]], remark="1. r")

    lines = markdown([table], title="# x", notes=["- y", "2) z", "[ ] w"]).splitlines()

    assert lines[0] == "# \\# x"
    assert lines[4] == "| name | n |"
    assert lines[5] == "| --- | ---: |"
    assert lines[6] == (
        "| a&#124;b&#92;&#124;&#96;c&#96;␊&lt;img src=x&gt; \\*d\\* [e\\](http&#58;//f) "
        "\\_g\\_ www&#46;h | 1 |"
    )
    assert lines[8] == "1\\. r"
    assert lines[12:] == ["- \\- y", "- 2\\) z", "- \\[ ] w"]


def test_an_underline_inside_a_name_stays_readable_in_markdown() -> None:
    table = Report("t", ("name",), [["mmlu_pro"]])

    assert "| mmlu_pro |" in markdown([table], title="x")
