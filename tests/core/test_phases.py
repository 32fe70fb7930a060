"""Shares of a run and phases, in whole steps."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mifo_ext.core.phases import last_step_of_first_phase, phase_of, steps_of

SHARES = st.floats(0, 1, exclude_min=True, exclude_max=True)


@pytest.mark.parametrize(
    ("share_or_steps", "steps"), [(0.5, 20), (0.26, 10), (0.001, 1), (1.0, 1), (200.0, 200)]
)
def test_below_one_is_a_share_of_the_run_and_from_one_up_are_steps(
    share_or_steps: float, steps: int
) -> None:
    assert steps_of(share_or_steps, total_steps=40) == steps


@pytest.mark.parametrize(
    ("switch_at", "total_steps", "last"),
    [(0.5, 40, 20), (0.25, 10, 2), (3.0, 10, 3), (9.0, 10, 9), (0.01, 10, 1), (0.99, 10, 9)],
)
def test_the_last_step_before_the_switch(switch_at: float, total_steps: int, last: int) -> None:
    assert last_step_of_first_phase(switch_at, total_steps=total_steps) == last


@given(SHARES, st.integers(2, 1000))
def test_a_share_leaves_steps_to_both_phases(share: float, total_steps: int) -> None:
    last = last_step_of_first_phase(share, total_steps=total_steps)

    assert 1 <= last < total_steps
    assert abs(last - share * total_steps) <= 1


@pytest.mark.parametrize("switch_at", [0.0, -1.0, 1.5, float("nan")])
def test_a_switch_that_is_neither_share_nor_step_is_refused(switch_at: float) -> None:
    with pytest.raises(ValueError, match=r"must be a share in \(0, 1\) or a whole number of steps"):
        last_step_of_first_phase(switch_at, total_steps=10)


@pytest.mark.parametrize(("switch_at", "total_steps"), [(10.0, 10), (11.0, 10), (0.5, 1), (0.5, 0)])
def test_a_second_phase_that_would_never_begin_is_refused(
    switch_at: float, total_steps: int
) -> None:
    with pytest.raises(ValueError, match=f"but is {switch_at} in a run of {total_steps} steps"):
        last_step_of_first_phase(switch_at, total_steps=total_steps)


def test_a_step_belongs_to_the_phase_it_lies_in() -> None:
    order = ["sft", "rl"]
    named = [phase_of(step, order=order, last_of_first=2) for step in range(1, 5)]
    assert named == ["sft", "sft", "rl", "rl"]


def test_one_phase_goes_on_to_the_end() -> None:
    assert phase_of(99, order=["sft"], last_of_first=1) == "sft"
