"""Answers, groups and choices of a row."""

import dataclasses

from mifo_ext.eval.loading import load, problem_id
from tests.support.benchmark_files import (
    CONTENT,
    LAYOUTS,
    PAIRS,
    SUMS,
    Row,
    Write,
    golds,
    luffy,
    plain,
    told,
)

FRUIT = dataclasses.replace(SUMS, name="fruit", kind="letter", rows=2, groups=("category",))


def test_rows_without_a_question_or_an_answer_are_told_all_at_once(write: Write) -> None:
    rows = [*plain([("", "1"), ("1+1?", "2"), ("1+2?", " ")]), {"problem": "x?", "answer": None}]
    message = told(SUMS, write(rows))
    assert "row 1 has no question; row 3 has no answer; row 4 has no answer" in message


def test_many_problems_are_counted_not_listed(write: Write) -> None:
    message = told(SUMS, write(plain([("1?", "")] * 13)))
    assert "row 10 has no answer; and 3 more" in message
    assert "row 11" not in message


def test_a_gold_that_cannot_be_graded_against_is_refused(write: Write) -> None:
    message = told(SUMS, write(plain([*PAIRS[:2], ("1+3?", "\\frac{")])))
    assert "row 3: '\\\\frac{' " in message


def test_rules_that_changed_golds_are_on_record(write: Write) -> None:
    loaded = load(SUMS, path=write(plain([("a?", "4.5e33"), ("b?", "336^\\circ"), ("c?", "7")])))
    assert golds(loaded) == ["4.5 \\times 10^{33}", "336", "7"]
    rules = [problem.gold_rules for problem in loaded.problems]
    assert rules == [("e_notation",), ("degree_number",), ()]
    assert "Golds cleaned: 2 of 3 (e_notation 1, degree_number 1)." in loaded.notes


def test_several_answers_are_one_list_and_tolerances_are_told(write: Write) -> None:
    rows: list[Row] = [
        {"question": "a?", "final_answer": ["$1$", "$2$"], "error": None},
        {"question": "b?", "final_answer": ["3"], "error": "1e-2"},
        {"question": "c?", "final_answer": ["4"], "error": ""},
    ]
    loaded = load(SUMS, path=write(rows))
    assert golds(loaded) == ["1, 2", "3", "4"]
    assert "1 rows state a tolerance (`error`) that no grader applies." in loaded.notes


def test_a_list_of_one_answer_is_cleaned_by_the_named_rules(write: Write) -> None:
    loaded = load(SUMS, path=write(LAYOUTS["OlympiadBench"]))
    assert [problem.gold_rules for problem in loaded.problems] == [("outer_dollars",)] * 3


def test_unknown_columns_are_told_with_the_known_ones(write: Write) -> None:
    message = told(SUMS, write([{"frage": "1?", "antwort": "1"}]))
    assert "must have a column for the question (question, problem, " in message
    assert "but has frage, antwort. Rename its columns." in message


def test_the_group_is_the_first_column_that_a_file_has(write: Write) -> None:
    rows = [row | {"level": 2} for row in plain()]
    assert {p.group for p in load(SUMS, path=write(rows)).problems} == {"2"}
    rows = [row | {"subject": "Sums"} for row in rows]
    assert {p.group for p in load(SUMS, path=write(rows)).problems} == {"Sums"}
    assert {p.group for p in load(SUMS, path=write(plain())).problems} == {""}


def test_letters_are_compared_as_letters(write: Write) -> None:
    rows = [
        {"question": f"{n}?", "options": ["x", "y"], "answer": "B", "category": "law"}
        for n in range(2)
    ]
    loaded = load(FRUIT, path=write(rows))
    assert golds(loaded) == ["B", "B"]
    assert {(p.kind, p.group, p.gold_rules) for p in loaded.problems} == {("letter", "law", ())}
    assert "\nA. x\nB. y\n" in loaded.problems[0].question


def test_options_that_stand_in_the_question_are_told(write: Write) -> None:
    loaded = load(FRUIT, path=write(luffy([("x? A. 1 B. 2", "(b)"), ("y? A. 1 B. 2", "A")], "f")))
    assert golds(loaded) == ["B", "A"]
    assert "data.jsonl has no column of options: its questions are asked as they stand." in (
        loaded.notes
    )


def test_a_letter_benchmark_refuses_a_gold_that_is_no_letter(write: Write) -> None:
    assert "row 1: '2' is no letter" in told(FRUIT, write(plain(PAIRS[:2])))


def test_a_row_with_contradicting_choices_is_told_by_its_number(write: Write) -> None:
    good = {"question": "0?", "options": ["x", "y"], "answer": "A", "answer_index": 0}
    assert "row 2: `answer` and `answer_index`" in told(
        FRUIT, write([good, good | {"question": "1?", "answer_index": 1}])
    )


def test_a_benchmark_that_repeats_questions_itself_keeps_them(write: Write) -> None:
    repeating = dataclasses.replace(SUMS, rows=4, repeats=True)
    loaded = load(repeating, path=write(plain([*PAIRS, PAIRS[0]])))
    first = problem_id("1+1?")
    assert [p.id for p in loaded.problems if p.id.startswith(first)] == [first, f"{first}-2"]
    assert loaded.content == CONTENT
