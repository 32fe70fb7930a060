"""What stands in the tables of an evaluation."""

import pytest

from mifo_ext.eval.results import Difference, Estimate
from mifo_ext.eval.tables import (
    accuracy_table,
    differences_table,
    evaluation_tables,
    groups_table,
    lengths_table,
    passes_table,
)
from tests.support.table_runs import benchmark, run, suite

TIMES = "\N{MULTIPLICATION SIGN}"


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
