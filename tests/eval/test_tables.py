"""Tables of an evaluation: names with their k, a terminal of 80 columns, hostile text."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from mifo_ext.eval.results import BenchmarkResult, Difference, Estimate, Lengths, RunResult
from mifo_ext.eval.table_text import (
    fitted,
    markdown,
    show_fitted,
    visible_block,
    visible_line,
)
from mifo_ext.eval.tables import (
    accuracy_table,
    differences_table,
    evaluation_tables,
    groups_table,
    lengths_table,
    passes_table,
)
from mifo_ext.report_tables import Report

TIMES = "\N{MULTIPLICATION SIGN}"
SUITE = (("aime24", 30, 32), ("amc83", 83, 32), ("math500", 500, 1), ("mmlu_pro", 12032, 1))


def benchmark(
    name: str,
    *,
    problems: int = 4,
    samples: int = 2,
    accuracy: float = 0.5,
    coverage: float = 1.0,
    groups: dict[str, Estimate] | None = None,
    rates: dict[str, float] | None = None,
) -> BenchmarkResult:
    powers = [2**i for i in range(samples.bit_length())]
    of_all = Lengths(problems * samples, 1234.5, 1000, 8000)
    return BenchmarkResult(
        benchmark=name,
        problems=problems,
        samples=samples,
        coverage=coverage,
        accuracy=Estimate(accuracy, accuracy - 0.125, accuracy + 0.125),
        passes=dict.fromkeys(powers, 0.75),
        majorities=dict.fromkeys(powers, 0.625),
        lengths={"all": of_all, "correct": of_all, "wrong": Lengths(0, None, None, None)},
        rates=rates
        if rates is not None
        else {"truncated": 0.25, "no_answer": 0, "timeout": 0.0004},
        groups=groups or {},
    )


def run(
    name: str = "mifo", *benchmarks: BenchmarkResult, grader: str = "strict", average: bool = True
) -> RunResult:
    return RunResult(name, grader, list(benchmarks), Estimate(0.5, 0.4, 0.6) if average else None)


def suite(name: str) -> RunResult:
    return run(name, *(benchmark(b, problems=n, samples=k) for b, n, k in SUITE))


def printed(tables: list[Report], width: int) -> str:
    stream = io.StringIO()
    console = Console(file=stream, width=width, force_terminal=False)
    for table in tables:
        show_fitted(table, console)
    return stream.getvalue()


def all_cells(table: Report) -> list[str]:
    return [table.title, table.remark, *table.columns, *(c for row in table.rows for c in row)]


def test_one_k_stands_in_the_headings() -> None:
    table = accuracy_table([run("mifo", benchmark("a", samples=8), average=False)])

    assert list(table.columns[:5]) == [
        *("benchmark", f">n {TIMES} k", ">avg@8 [95 %]", ">pass@8", ">maj@8"),
    ]
    assert table.rows[0][:5] == ["a", f"4 {TIMES} 8", "50.0 [37.5, 62.5]", "75.0", "62.5"]


def test_different_k_stand_in_the_cells() -> None:
    table = accuracy_table([suite("mifo")])

    figures = [row[2] for row in table.rows]

    assert figures == [
        "avg@32  50.0 [37.5, 62.5]",
        "avg@32  50.0 [37.5, 62.5]",
        "avg@1  50.0 [37.5, 62.5]",
        "avg@1  50.0 [37.5, 62.5]",
        "50.0 [40.0, 60.0]",
    ]
    assert table.columns[3] == ">pass@32"
    assert [row[3] for row in table.rows] == ["75.0", "75.0", "", "", ""]  # nothing for k = 1


def test_each_figure_of_several_runs_has_its_own_k_where_they_differ() -> None:
    one, two = run("one", benchmark("a", samples=1)), run("two", benchmark("a", samples=8))

    table = accuracy_table([one, two])

    assert table.rows[0] == ["a", "", "4", "avg@1  50.0 [37.5, 62.5]", "avg@8  50.0 [37.5, 62.5]"]


def test_several_runs_stand_side_by_side_with_their_average_last() -> None:
    table = accuracy_table([suite("one"), suite("two")])

    assert list(table.columns) == ["benchmark", "figure", ">n", ">one", ">two"]
    assert [row[:3] for row in table.rows] == [
        ["aime24", "avg@32", "30"],
        ["amc83", "avg@32", "83"],
        ["math500", "avg@1", "500"],
        ["mmlu_pro", "avg@1", "12,032"],
        ["average", "", ""],
    ]


def test_a_benchmark_that_a_run_was_not_asked_is_a_dash_and_averages_are_warned_of() -> None:
    one, two = run("one", benchmark("a"), benchmark("b")), run("two", benchmark("a"))

    table = accuracy_table([one, two])

    assert table.rows[1][3:] == ["50.0 [37.5, 62.5]", "—"]
    assert "averages do not compare" in table.remark


def test_other_failures_add_up_and_a_rare_one_is_not_shown_as_none() -> None:
    rates = {"truncated": 0.0, "no_answer": 0.5, "timeout": 0.0002, "error": 0.0002}

    table = accuracy_table([run("a", benchmark("b", rates=rates), average=False)])

    shown = dict(zip(table.columns, table.rows[0], strict=True))
    assert shown[">truncated %"] == "0"
    assert shown[">no answer %"] == "50.0"
    assert shown[">other %"] == "< 0.1"


def test_missing_samples_are_a_column_of_their_own() -> None:
    complete = accuracy_table([run("a", benchmark("b"))])
    incomplete = accuracy_table([run("a", benchmark("b", coverage=0.75))])

    assert ">there %" not in complete.columns
    assert incomplete.rows[0][list(incomplete.columns).index(">there %")] == "75.0"


def test_lengths_without_a_response_are_dashes() -> None:
    table = lengths_table([run("a", benchmark("b"))])

    assert table.rows == [["b", "8", "1,234", "1,000", "8,000", "1,234", "—", "25.0"]]


def test_groups_and_passes_are_empty_where_there_are_none() -> None:
    alone = run("a", benchmark("b", samples=1))

    assert groups_table([alone]).rows == []
    assert passes_table([alone]).rows == []
    assert [t.title for t in evaluation_tables([alone])] == [
        "Accuracy of a, graded by strict",
        "Response lengths in tokens",
    ]


def test_groups_carry_their_k() -> None:
    world = benchmark("world", samples=4, groups={"sum/6": Estimate(0.25, 0.125, 0.375)})

    table = groups_table([run("a", world)])

    assert table.rows == [["world", "sum/6", "avg@4", "25.0 [12.5, 37.5]"]]


def test_passes_name_every_k() -> None:
    table = passes_table([run("a", benchmark("b", samples=4), benchmark("c", samples=1))])

    assert list(table.columns) == [
        *("benchmark", ">pass@1", ">pass@2", ">pass@4", ">maj@1", ">maj@2", ">maj@4"),
    ]
    assert [row[0] for row in table.rows] == ["b"]


@pytest.mark.parametrize(
    ("p_holm", "cell"), [(0.049, "0.049 *"), (0.05, "0.050  "), (None, ""), (1e-9, "< 0.001 *")]
)
def test_only_a_holm_p_below_a_twentieth_is_marked(p_holm: float | None, cell: str) -> None:
    gain = Estimate(0.125, -0.0625, 0.25)

    table = differences_table([Difference("mifo", "grpo", "a", 30, gain, 0.01, p_holm)])

    assert table.title == "Difference from grpo"
    assert table.rows == [["mifo", "a", "30", "+12.5 [-6.2, +25.0]", "0.010", cell]]


def test_two_runs_of_one_name_are_refused_but_two_graders_of_one_run_are_not() -> None:
    strict, lenient = run("a", benchmark("b")), run("a", benchmark("b"), grader="lenient")

    with pytest.raises(ValueError, match="names of their own, but 'a'"):
        accuracy_table([strict, strict])
    assert list(accuracy_table([strict, lenient]).columns[3:]) == [">a (strict)", ">a (lenient)"]


def test_no_run_is_refused() -> None:
    with pytest.raises(ValueError, match="`results` must be one run or more, but is empty"):
        accuracy_table([])


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
