"""The hard-example buffer: what is hard, and who waits."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mifo_ext.core.interleave import Totals
from mifo_ext.core.outcomes import Observation, Outcome, is_hard
from tests.support.buffers import ROLLOUTS, buffer, names, outcome, outcomes


@pytest.mark.parametrize(
    ("correct", "received", "hard"),
    [(0, 8, True), (1, 8, True), (2, 8, False), (8, 8, False), (0, 7, False), (0, 0, False)],
)
def test_hard_is_an_accuracy_at_most_p_over_a_complete_group(
    correct: int, received: int, hard: bool
) -> None:
    assert is_hard(Outcome("q", correct, received, 8), hard_at_most=0.125) is hard


@given(st.integers(1, 100).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_an_accuracy_equal_to_p_is_hard_also_where_floats_are_inexact(group: Any) -> None:
    correct, received = group

    assert is_hard(Outcome("q", correct, received, received), hard_at_most=correct / received)


def test_all_questions_are_hard_at_one_and_only_hopeless_ones_at_zero() -> None:
    assert is_hard(outcome("q", ROLLOUTS), hard_at_most=1.0)
    assert is_hard(outcome("q", 0), hard_at_most=0.0)
    assert not is_hard(outcome("q", 1), hard_at_most=0.0)


@pytest.mark.parametrize("counts", [(-1, 8, 8), (5, 4, 8), (0, 9, 8), (0, 0, 0)])
def test_an_impossible_outcome_is_refused(counts: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="question 'q' has"):
        Outcome("q", *counts)


def test_a_step_is_sorted_into_hard_incomplete_and_without_demonstration() -> None:
    waiting = buffer(4, without="c")

    seen = waiting.observe(
        [
            outcome("a", 0),
            outcome("b", 1),
            outcome("c", 0),
            outcome("d", 2),
            outcome("e", 0, received=7),
        ],
        step=1,
    )

    assert seen == Observation(
        questions=5,
        hard=3,
        incomplete=1,
        added=2,
        repeated=0,
        eased=0,
        without_demonstration=1,
        returned=0,
        twice_in_batch=0,
        histogram=(2, 1, 1, 0, 0, 0, 0, 0, 0),
    )
    assert names(waiting.waiting) == "ab"
    assert not waiting.ready


def test_a_question_hard_again_keeps_its_place_and_takes_the_newest_accuracy() -> None:
    waiting = buffer(5)
    waiting.observe(outcomes("ab", 0), step=1)

    seen = waiting.observe(outcomes("ca", 1), step=3)

    assert (seen.hard, seen.added, seen.repeated) == (2, 1, 1)
    assert names(waiting.waiting) == "abc"
    first = waiting.waiting[0]
    assert (first.correct, first.first_step, first.newest_step) == (1, 1, 3)


def test_a_waiting_question_that_is_no_longer_hard_stays_and_is_counted() -> None:
    waiting = buffer()
    waiting.observe(outcomes("a", 0), step=1)

    seen = waiting.observe(outcomes("a", 6), step=2)

    assert (seen.hard, seen.eased) == (0, 1)
    assert [(item.question_id, item.correct) for item in waiting.waiting] == [("a", 6)]


def test_an_incomplete_group_says_nothing_about_a_waiting_question() -> None:
    waiting = buffer()
    waiting.observe(outcomes("a", 1), step=1)

    seen = waiting.observe([outcome("a", 5, received=6)], step=2)

    assert (seen.incomplete, seen.eased, seen.repeated) == (1, 0, 0)
    assert waiting.waiting[0].correct == 1
    assert waiting.waiting[0].newest_step == 1


def test_a_question_twice_in_a_batch_is_judged_group_by_group_and_waits_once() -> None:
    waiting = buffer()

    # Mixed together, 2 of 16 would be hard; 2 of 8 is not, 0 of 8 is.
    seen = waiting.observe([outcome("a", 2), outcome("a", 0), outcome("a", 1)], step=1)

    assert (seen.questions, seen.twice_in_batch) == (3, 2)
    assert (seen.hard, seen.added, seen.repeated) == (2, 1, 1)
    assert [(item.question_id, item.correct) for item in waiting.waiting] == [("a", 1)]


@pytest.mark.parametrize(("correct", "size"), [(0, 5), (8, 0)])
def test_a_step_where_all_or_none_are_hard_is_no_special_case(correct: int, size: int) -> None:
    waiting = buffer(2)

    seen = waiting.observe(outcomes("abcde", correct), step=1)

    assert seen.hard == len(waiting) == size
    assert waiting.ready is (size > 0)


def test_a_step_without_any_group_changes_nothing() -> None:
    waiting = buffer()

    seen = waiting.observe([], step=1)

    assert seen == Observation(0, 0, 0, 0, 0, 0, 0, 0, 0, ())
    assert waiting.totals == Totals()


@pytest.mark.parametrize("step", [5, 4])
def test_a_step_is_not_counted_twice(step: int) -> None:
    waiting = buffer()
    waiting.observe(outcomes("a"), step=5)
    before = waiting.state_dict()

    with pytest.raises(ValueError, match=f"`step` must be after 5, but is {step}"):
        waiting.observe(outcomes("b"), step=step)
    assert waiting.state_dict() == before


def test_groups_of_different_sizes_are_refused_and_change_nothing() -> None:
    waiting = buffer()
    before = waiting.state_dict()

    with pytest.raises(ValueError, match=r"`expected` must be the same .* but is \[4, 8\]"):
        waiting.observe([outcome("a"), Outcome("b", 0, 4, 4)], step=1)
    assert waiting.state_dict() == before
