import math
from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mifo_ext.eval.estimates import (
    average_interval,
    average_of,
    holm,
    mean_interval,
    mean_of,
    paired_interval,
    pass_at,
    permutation_p,
)
from mifo_ext.eval.results import Estimate

SHARES = st.lists(st.floats(0, 1), min_size=1, max_size=40)
DIFFERENCES = st.lists(st.floats(-1, 1), min_size=1, max_size=40)


def wilson(share: float, count: float, quantile: float) -> tuple[float, float]:
    """The roots of (share - x)² = q² x (1 - x) / count, solved as a polynomial."""
    square = quantile**2 / count
    ends = np.roots([1 + square, -2 * share - square, share**2]).real
    return float(min(ends)), float(max(ends))


def test_thirty_unsolved_problems_leave_room_for_the_thirty_first() -> None:
    estimate = mean_interval([0.0] * 30)

    # Wilson on 30 problems: from 0 to q² / (30 + q²), with Student's q = 2.042.
    q = stats.t.ppf(0.975, 30)
    assert estimate == pytest.approx((0.0, 0.0, q * q / (30 + q * q)))
    assert estimate.high == pytest.approx(0.122, abs=5e-4)


def test_right_or_wrong_problems_get_wilsons_interval_over_problems() -> None:
    estimate = mean_interval([1.0] * 12 + [0.0] * 8)

    low, high = wilson(0.6, 20, stats.t.ppf(0.975, 20))
    assert estimate == pytest.approx((0.6, low, high))


def test_effective_problems_count_with_one_pseudo_problem() -> None:
    # Mean 1/2, squared distances 4 * (1/4)² = 1/4; the pseudo-problem has variance 1/4, right or
    # wrong problems would have 4 * 1/4: design effect (1/4 + 1/4) / (1 + 1/4) = 0.4.
    estimate = mean_interval([0.25, 0.75, 0.25, 0.75])

    low, high = wilson(0.5, 4 / 0.4, stats.t.ppf(0.975, 4))
    assert estimate == pytest.approx((0.5, low, high))


def test_the_pseudo_problem_has_the_variance_of_the_mean_and_four_more_problems() -> None:
    # Mean 1/8, squared distances (3/8)² + 3 (1/8)² = 0.1875. With two problems right and two wrong
    # more: 2.5 / 8 = 0.3125. Right or wrong problems would have 4 * 1/8 * 7/8 = 0.4375.
    estimate = mean_interval([0.5, 0.0, 0.0, 0.0])

    pseudo = 0.3125 * 0.6875
    design_effect = (0.1875 + pseudo) / (0.4375 + pseudo)
    low, high = wilson(0.125, 4 / design_effect, stats.t.ppf(0.975, 4))
    assert estimate == pytest.approx((0.125, low, high))


def test_alike_problems_get_a_narrower_interval_than_right_or_wrong_ones() -> None:
    alike, split = mean_interval([0.5] * 30), mean_interval([0.0, 1.0] * 15)

    assert alike.high - alike.low < 0.3 * (split.high - split.low)


def test_one_right_sample_hardly_moves_the_interval_of_unsolved_problems() -> None:
    none, one = mean_interval([0.0] * 30), mean_interval([1 / 32] + [0.0] * 29)

    assert 0.6 * none.high < one.high < none.high


def test_a_single_problem_leaves_nearly_everything_open() -> None:
    assert mean_interval([1.0]).low < 0.01
    assert mean_interval([0.0]).high > 0.99


@given(SHARES)
def test_interval_holds_its_value_and_stays_between_0_and_1(per_problem: list[float]) -> None:
    value, low, high = mean_interval(per_problem)

    assert 0 <= low <= value <= high <= 1
    assert low < high
    assert value == pytest.approx(np.mean(per_problem))


@given(SHARES, st.randoms(use_true_random=False))
def test_order_of_problems_never_matters(per_problem: list[float], random: object) -> None:
    shuffled = list(per_problem)
    random.shuffle(shuffled)  # type: ignore[attr-defined]

    assert mean_interval(shuffled) == mean_interval(per_problem)
    assert paired_interval(shuffled) == paired_interval(per_problem)
    signed = [share - 0.5 for share in per_problem]
    mixed = [share - 0.5 for share in shuffled]
    assert permutation_p(mixed, seed=1, resamples=99) == permutation_p(signed, seed=1, resamples=99)


@given(SHARES)
def test_counting_wrong_answers_mirrors_the_interval(per_problem: list[float]) -> None:
    right, wrong = mean_interval(per_problem), mean_interval([1 - one for one in per_problem])

    assert (wrong.low, wrong.high) == pytest.approx((1 - right.high, 1 - right.low), abs=1e-9)


@pytest.mark.parametrize("wrong", [[], [1.01], [-0.1], [float("nan")]])
def test_shares_outside_0_to_1_are_refused(wrong: list[float]) -> None:
    with pytest.raises(ValueError, match="`per_problem` must"):
        mean_interval(wrong)


def test_average_adds_squared_halves_on_either_side() -> None:
    # Below: sqrt(0.3² + 0.4²) / 2 = 0.25; above: sqrt(0.05² + 0.12²) / 2 = 0.065.
    halves = [Estimate(0.4, 0.1, 0.45), Estimate(0.6, 0.2, 0.72)]

    assert average_of(halves) == pytest.approx((0.5, 0.25, 0.565))


def test_average_weighs_benchmarks_alike_whatever_their_size() -> None:
    assert average_interval([[1.0], [0.0] * 9]).value == 0.5


@given(st.lists(SHARES, min_size=1, max_size=5))
def test_average_stays_between_0_and_1(benchmarks: list[list[float]]) -> None:
    value, low, high = average_interval(benchmarks)

    assert -1e-12 <= low <= value <= high <= 1 + 1e-12


def test_average_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="`estimates` must hold at least one"):
        average_of([])


def test_paired_interval_is_students_with_one_pseudo_problem() -> None:
    # Mean 0.1, squared distances 3 * 0.01 + 0.09 = 0.12; the largest difference is 0.4:
    # variance (0.12 + 0.16) / 5 = 0.056.
    estimate = paired_interval([0.4, 0.0, 0.0, 0.0])

    half = stats.t.ppf(0.975, 4) * math.sqrt(0.056 / 4)
    assert estimate == pytest.approx((0.1, 0.1 - half, 0.1 + half))


def test_no_difference_at_all_still_has_a_width() -> None:
    estimate = paired_interval([0.0] * 30)

    # Variance 1 / 31 over 30 problems.
    half = stats.t.ppf(0.975, 30) / math.sqrt(31 * 30)
    assert estimate == pytest.approx((0.0, -half, half))


@given(DIFFERENCES)
def test_paired_interval_holds_its_value_and_mirrors(values: list[float]) -> None:
    value, low, high = paired_interval(values)

    assert -1 <= low <= value <= high <= 1
    assert paired_interval([-one for one in values]) == pytest.approx((-value, -high, -low))


def test_differences_outside_their_range_are_refused() -> None:
    with pytest.raises(ValueError, match=r"`differences` must be numbers in \[-1"):
        paired_interval([1.5])


def test_mean_of_equal_values_is_that_value() -> None:
    assert mean_of([0.1] * 3) == 0.1


@pytest.mark.parametrize("drawn", [1, 2, 5, 7])
def test_pass_at_k_is_the_share_of_subsets_with_a_right_sample(drawn: int) -> None:
    for right, k in product(range(drawn + 1), range(1, drawn + 1)):
        samples = [True] * right + [False] * (drawn - right)
        subsets = list(combinations(samples, k))

        assert pass_at(k, right=right, drawn=drawn) == pytest.approx(
            sum(any(subset) for subset in subsets) / len(subsets), abs=1e-15
        )


@given(st.data())
def test_pass_at_k_agrees_with_the_hypergeometric_law_and_grows_with_k(
    data: st.DataObject,
) -> None:
    drawn = data.draw(st.integers(1, 128))
    right = data.draw(st.integers(0, drawn))
    series = [pass_at(k, right=right, drawn=drawn) for k in range(1, drawn + 1)]

    law = stats.hypergeom.sf(0, drawn, right, np.arange(1, drawn + 1))
    assert series == pytest.approx(law.tolist(), abs=1e-9)
    assert series == sorted(series)
    assert series[0] == pytest.approx(right / drawn)
    assert series[-1] == (right > 0)


@pytest.mark.parametrize(("k", "right", "drawn"), [(5, 1, 4), (0, 1, 4), (1, 5, 4), (1, -1, 4)])
def test_pass_at_k_needs_k_samples(k: int, right: int, drawn: int) -> None:
    with pytest.raises(ValueError, match=r"`(k|right)` must be in \["):
        pass_at(k, right=right, drawn=drawn)


def test_sign_flips_by_hand() -> None:
    # Sums of ±1 ±1 ±1: 3, 1, 1, 1, -1, -1, -1, -3. Two of eight are as far out as 3.
    assert permutation_p([1.0, 1.0, 1.0], seed=0) == 0.25
    assert permutation_p([1.0, 1.0, -1.0], seed=0) == 1.0
    # Zeros change nothing: they have no sign.
    assert permutation_p([0.0, 1.0, 0.0, 1.0, 1.0], seed=0) == 0.25


@settings(max_examples=30)
@given(st.lists(st.integers(-8, 8).map(lambda eighths: eighths / 8), min_size=1, max_size=8))
def test_few_differences_are_enumerated(values: list[float]) -> None:
    flips = product([1, -1], repeat=len(values))
    sums = [sum(sign * one for sign, one in zip(signs, values, strict=True)) for signs in flips]
    expected = np.mean([abs(one) >= abs(sum(values)) for one in sums])

    assert permutation_p(values, seed=0) == pytest.approx(expected)


def test_rounding_makes_no_difference_between_tied_sums() -> None:
    # The sum is 1.4 one way and 1.4000000000000001 the other; only all plus and all minus reach it.
    assert permutation_p([0.1, 0.4, 0.9], seed=0) == 0.25
    assert permutation_p([0.1, 0.2, -0.3], seed=0) == 1.0


def test_sign_flips_agree_with_scipy() -> None:
    values = np.random.default_rng(3).normal(0.2, 0.5, 12).clip(-1, 1)

    theirs = stats.permutation_test(
        (values,), np.mean, permutation_type="samples", n_resamples=np.inf
    )

    assert permutation_p(values.tolist(), seed=0) == pytest.approx(theirs.pvalue)


@pytest.mark.parametrize("kind", ["distinct", "grid"])
def test_resamples_agree_with_the_enumeration(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(5)
    values = random.normal(0.2, 0.5, 14) if kind == "distinct" else random.integers(-2, 4, 14) / 4
    exact = permutation_p(values.tolist(), seed=0)
    monkeypatch.setattr("mifo_ext.eval.estimates.ENUMERATED_AT_MOST", 0)

    drawn = permutation_p(values.tolist(), seed=0, resamples=19_999)

    # Standard error of a share near `exact` over 20,000 resamples, times 4.
    assert drawn == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 20_000))
    assert drawn != exact


def test_resampled_p_is_seeded_and_never_0() -> None:
    values = [0.5] * 100

    assert permutation_p(values, seed=0, resamples=99) == 0.01
    mixed = [0.5, -0.4] * 20
    assert permutation_p(mixed, seed=1) == permutation_p(mixed, seed=1)
    assert permutation_p(mixed, seed=1) != permutation_p(mixed, seed=2)


def test_no_difference_has_p_1() -> None:
    assert permutation_p([0.0] * 50, seed=0) == 1.0


@pytest.mark.parametrize("values", [[], [float("nan")]])
def test_permutation_test_refuses_what_is_no_number(values: list[float]) -> None:
    with pytest.raises(ValueError, match="`differences` must"):
        permutation_p(values, seed=0)


def test_permutation_test_refuses_no_resamples() -> None:
    with pytest.raises(ValueError, match="`resamples` must be at least 1, but is 0"):
        permutation_p([1.0], seed=0, resamples=0)


def test_holm_by_hand() -> None:
    # 3 * 0.01 = 0.03; 2 * 0.02 = 0.04; 1 * 0.03 = 0.03, but not below 0.04.
    assert holm([0.03, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([0.04]) == [0.04]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_never_lowers_a_p_nor_changes_their_order(ps: list[float]) -> None:
    corrected = holm(ps)
    assert all(p <= own <= 1 for p, own in zip(ps, corrected, strict=True))
    by_p = [own for _, own in sorted(zip(ps, corrected, strict=True))]
    assert by_p == sorted(by_p)


def test_holm_refuses_what_is_no_p() -> None:
    with pytest.raises(ValueError, match=r"`ps` must be in \[0, 1\], but one is 1.2"):
        holm([0.1, 1.2])
