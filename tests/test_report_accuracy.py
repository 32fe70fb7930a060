"""Intervals, bands and sparklines by numbers worked out by hand."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mifo_ext.report_accuracy import bands, difference_interval, mean_curve, wilson_interval
from mifo_ext.report_read import Curve, read_run
from mifo_ext.report_tables import sparkline
from tests.support.reported_runs import acc, write_run


def test_wilson_interval_of_half_of_ten() -> None:
    # z = 1.96, z^2 = 3.8415: centre 0.5,
    # half-width 1.96 * sqrt(0.25 / 10 + 3.8415 / 400) / 1.38415 = 0.2634.
    low, high = wilson_interval(0.5, 10)

    assert (round(low, 4), round(high, 4)) == (0.2366, 0.7634)


@given(right=st.integers(0, 50), count=st.integers(1, 50))
def test_wilson_interval_holds_the_share_and_mirrors(right: int, count: int) -> None:
    share = min(right, count) / count
    low, high = wilson_interval(share, count)
    mirrored = wilson_interval(1 - share, count)

    assert 0 <= low <= share + 1e-12
    assert share - 1e-12 <= high <= 1
    assert mirrored.low == pytest.approx(1 - high, abs=1e-9)


@pytest.mark.parametrize(
    ("share", "count", "message"),
    [
        (1.1, 5, r"`share` must be in \[0, 1\], but is 1.1"),
        (0.5, 0, "`count` must be at least 1, but is 0"),
    ],
)
def test_wilson_interval_refuses(share: float, count: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        wilson_interval(share, count)


def test_the_interval_of_a_difference_is_newcombes() -> None:
    # 7 and 3 of 10 right. Wilson [0.3968, 0.8922] and [0.1078, 0.6032];
    # 0.4 -+ hypot(0.7 - 0.3968, 0.6032 - 0.3) and hypot(0.8922 - 0.7, 0.3 - 0.1078).
    low, high = difference_interval(0.7, 0.3, 10)

    assert (round(low, 3), round(high, 3)) == (-0.029, 0.672)


@given(right=st.integers(0, 20), other=st.integers(0, 20))
def test_the_interval_of_a_difference_holds_it_and_turns_round_with_it(
    right: int, other: int
) -> None:
    low, high = difference_interval(right / 20, other / 20, 20)
    turned = difference_interval(other / 20, right / 20, 20)

    assert -1 - 1e-9 <= low <= (right - other) / 20 <= high <= 1 + 1e-9
    assert turned == pytest.approx((-high, -low))


def test_bands_part_a_skill_where_it_was_unsolved(tmp_path: Path) -> None:
    start = {2: 0.6, 3: 0.05, 6: 0.049, 8: 0.0}
    rows = {acc(f"world/sum/{level}"): value for level, value in start.items()}
    run = read_run(write_run(tmp_path / "run", {0: rows}))

    reached, unsolved = bands(run.accuracies())

    assert (reached.label, reached.unsolved) == ("sum 2\N{EN DASH}3", False)
    assert (unsolved.label, unsolved.unsolved) == ("sum 6, 8", True)
    assert reached.curve.values == pytest.approx([0.325])


def test_a_mean_curve_has_the_steps_that_all_share() -> None:
    mean = mean_curve([Curve([0, 1, 2], [0.0, 0.5, 1.0]), Curve([0, 2], [1.0, 0.0])])

    assert mean == Curve([0, 2], [0.5, 0.5])


def test_a_sparkline_rises_with_its_values() -> None:
    assert sparkline(Curve([0, 1, 2], [0.0, 0.5, 1.0]), low=0, high=1) == "▁▅█"
    assert sparkline(Curve([0, 1], [3.0, 3.0])) == "▁▁"
    assert sparkline(Curve([], [])) == ""
    assert len(sparkline(Curve(list(range(1000)), [float(i) for i in range(1000)]))) == 24


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=60), st.integers(2, 30))
def test_a_sparkline_never_exceeds_its_width(values: list[float], width: int) -> None:
    drawn = sparkline(Curve(list(range(len(values))), values), width=width)

    assert len(drawn) == min(len(values), width)
