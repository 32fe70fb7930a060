"""The record that `grade` returns, and where it finds an answer."""

import sys
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mifo_ext.grading import VERDICTS, Grade, grade
from mifo_ext.grading.extract import closed_boxes


def test_a_right_answer_is_recorded_with_where_it_stood_and_how_it_was_compared() -> None:
    graded = grade("So it is $\\boxed{\\frac{2}{4}}$.", "\\frac{1}{2}")

    assert graded.verdict == "correct"
    assert graded.correct
    assert graded.extracted == "\\frac{2}{4}"
    assert graded.path == "number"
    assert graded.reason == "equal numbers"
    assert 0 < graded.seconds < 60


@pytest.mark.parametrize(
    ("response", "gold", "verdict", "path"),
    [
        ("\\boxed{42}", "42", "correct", "number"),
        ("\\boxed{41}", "42", "wrong", "number"),
        ("\\boxed{B}", "B", "correct", "letter"),
        ("\\boxed{\\text{East}}", "\\text{east}", "correct", "text"),
        ("\\boxed{(1,2)}", "(2,1)", "wrong", "structure"),
        ("\\boxed{x^2+2x+1}", "(x+1)^2", "correct", "algebra"),
        ("\\boxed{\\heartsuit}", "\\heartsuit", "correct", "string"),
        ("I do not know.", "42", "no_answer", "none"),
        ("\\boxed{42", "42", "no_answer", "none"),
        ("\\boxed{42}", "", "unparsable_gold", "none"),
        ("\\boxed{42}", "4\x002", "unparsable_gold", "none"),
    ],
)
def test_verdict_and_path(response: str, gold: str, verdict: str, path: str) -> None:
    graded = grade(response, gold)

    assert (graded.verdict, graded.path) == (verdict, path)


@pytest.mark.parametrize("answer", ["4\x002", "42\udc80", "42\x1b[0m"])
def test_control_characters_make_an_answer_wrong(answer: str) -> None:
    assert grade(f"\\boxed{{{answer}}}", "42").reason == "control characters in the answer"


def test_a_gold_may_be_a_number() -> None:
    assert grade("\\boxed{7}", 7).correct
    assert grade("\\boxed{\\frac{1}{2}}", 0.5).correct


def test_thinking_that_never_ends_is_no_answer() -> None:
    response = "I try \\boxed{42}"

    assert grade(response, "42").correct
    assert grade(response, "42", thinking=True).verdict == "no_answer"
    assert grade(response + "</think> \\boxed{42}", "42", thinking=True).correct
    assert grade("<think>" + response, "42").verdict == "no_answer"


def test_a_box_can_be_required() -> None:
    assert grade("The answer is 42.", "42").correct
    assert grade("The answer is 42.", "42", require_box=True).verdict == "no_answer"


def test_boxes_are_found_outermost_closed_and_not_empty() -> None:
    text = "\\boxed{} \\boxed{\\frac{1}{2}} \\fbox{\\boxed{3}} \\boxed 4 \\boxed5 \\boxed{6"

    assert [box.content for box in closed_boxes(text)] == ["\\frac{1}{2}", "\\boxed{3}", "4", "5"]


def test_escaped_braces_do_not_close_a_box() -> None:
    assert [box.content for box in closed_boxes("\\boxed{\\{1,2\\}}")] == ["\\{1,2\\}"]


def test_grading_in_a_thread_gives_the_same_verdicts() -> None:
    golds = ["\\frac{1}{2}", "x+1", "\\bar{\\foo} x", "(1,2)"]
    graded: list[Grade] = []

    threads = [
        threading.Thread(target=lambda: graded.extend(grade(f"\\boxed{{{g}}}", g) for g in golds))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [one.verdict for one in graded] == ["correct"] * 16


@settings(max_examples=300, deadline=20_000)
@given(st.text(max_size=200), st.text(max_size=60))
def test_any_text_is_graded_without_raising(response: str, gold: str) -> None:
    assert grade(response, gold).verdict in VERDICTS
    assert grade(f"\\boxed{{{response}}}", gold).verdict in VERDICTS


PIECES = (
    "\\frac{ { } ( ) [ ] ^ _ ! + - * / , = < > \\le 1 2 37 0.5 x y n \\pi \\sqrt{ \\text{ "
    "\\{ \\} \\pm \\cup \\infty % \\circ & \\\\ \\begin{pmatrix} \\end{pmatrix} e i | "
    "\\sin \\log : ° or"
)
LATEX = st.lists(st.sampled_from(PIECES.split()), max_size=25).map(" ".join)


@settings(max_examples=400, deadline=20_000)
@given(LATEX, LATEX)
def test_any_latex_is_graded_in_bounded_time_without_raising(gold: str, answer: str) -> None:
    graded = grade(f"\\boxed{{{answer}}}", gold)

    assert graded.verdict in VERDICTS
    assert graded.verdict != "error"


@given(st.integers(-(10**30), 10**30), st.integers(-(10**30), 10**30))
def test_integers_are_equal_only_to_themselves(gold: int, answer: int) -> None:
    assert grade(f"\\boxed{{{answer}}}", str(gold)).correct == (gold == answer)
    assert grade(f"\\boxed{{{gold:,}}}", str(gold)).correct


@given(st.fractions(max_denominator=10**6), st.fractions(max_denominator=10**6))
def test_fractions_are_equal_only_to_their_value(gold, answer) -> None:  # type: ignore[no-untyped-def]
    written = f"\\frac{{{3 * answer.numerator}}}{{{3 * answer.denominator}}}"

    assert grade(f"\\boxed{{{written}}}", str(gold)).correct == (gold == answer)
    assert grade(f"\\boxed{{{gold}}}", str(gold)).correct


def test_deep_nesting_does_not_reach_pythons_own_limit() -> None:
    limit = sys.getrecursionlimit()

    graded = grade("\\boxed{" + "(1+" * 240 + "1" + ")" * 240 + "}", "241")

    assert graded.verdict == "wrong"
    assert sys.getrecursionlimit() == limit
