"""Training questions that stand in a benchmark are found, and no others."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mifo_ext.data.overlap import Benchmarks, normal_form


@pytest.mark.parametrize(
    "copy",
    [
        "What is $x - 1$ if $x=2$?",
        "what is x-1 if x=2",
        "What is\n  \\( x \\, - 1 \\) if x = 2 ?".replace("\\(", "$").replace("\\)", "$"),
        "\uff37hat is $\\left x-1\\right$ if x=2?",
    ],
)
def test_looks_do_not_hide_a_copy(copy: str) -> None:
    assert normal_form(copy) == normal_form("What is $x-1$ if $x=2$?")


@pytest.mark.parametrize("other", ["x+1", "x-2", "y-1", "x-1!", "\\leftarrow x-1"])
def test_signs_that_carry_meaning_stay(other: str) -> None:
    assert normal_form(other) != normal_form("x-1")


def test_the_benchmark_is_named() -> None:
    benchmarks = Benchmarks({"aime": ["1+1?"], "math": ["2+2?", "1+1"]})

    assert benchmarks.holding("1 + 1?") == "aime"
    assert benchmarks.holding("$2+2$") == "math"
    assert benchmarks.holding("3+3?") is None


def test_shared_words_find_near_copies_only_when_asked() -> None:
    test = {"math": ["Tom has four red apples and a pear."]}
    near = "Ann says: Tom has four red apples, how many?"
    same_end = "Ann has four red apples and a pear."

    assert Benchmarks(test).holding(near) is None
    assert Benchmarks(test, shared_words=7).holding(same_end) == "math"
    assert Benchmarks(test, shared_words=5).holding(near) == "math"
    assert Benchmarks(test, shared_words=6).holding(near) is None


def test_a_run_of_no_words_is_refused() -> None:
    with pytest.raises(ValueError, match="`shared_words` must be at least 1, but is 0"):
        Benchmarks({}, shared_words=0)


@given(st.lists(st.text(max_size=12), max_size=5), st.text(max_size=12))
def test_a_question_is_held_exactly_when_a_normal_form_is_equal(
    listed: list[str], question: str
) -> None:
    held = Benchmarks({"b": listed}).holding(question) is not None

    assert held == (normal_form(question) in {normal_form(other) for other in listed})
