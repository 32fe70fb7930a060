"""Intervals hold the truth as often as they say: `benchmarks/interval_coverage.py` in small."""

import numpy as np
import pytest

from mifo_ext.eval.estimates import average_interval, mean_interval, paired_interval

RUNS = 1000
# With a coverage of 95 %, 1,000 runs show less than 93 % once in 300 times; the seeds are fixed.
AT_LEAST = 0.93


@pytest.mark.parametrize(
    ("first", "second"), [(0.3, 0.3), (0.25, 0.75), (0.1, 2), (4, 0.3), (5, 5)]
)
@pytest.mark.parametrize("samples", [1, 8, 32])
def test_mean_intervals_cover_thirty_problems(first: float, second: float, samples: int) -> None:
    random = np.random.default_rng(7)
    rates = random.beta(first, second, (RUNS, 30))
    shares = random.binomial(samples, rates) / samples
    truth = first / (first + second)

    covered = [low <= truth <= high for _, low, high in map(mean_interval, shares.tolist())]

    assert AT_LEAST <= np.mean(covered) <= 0.99


def test_a_few_solvable_problems_among_hopeless_ones_are_not_ruled_out() -> None:
    # Most draws of thirty hold one such problem or none: Student's interval covers 58 %.
    random = np.random.default_rng(7)
    rates = np.where(random.random((RUNS, 30)) < 0.03, 0.9, 0.002)
    shares = random.binomial(32, rates) / 32
    truth = 0.03 * 0.9 + 0.97 * 0.002

    covered = [low <= truth <= high for _, low, high in map(mean_interval, shares.tolist())]

    assert np.mean(covered) >= AT_LEAST


@pytest.mark.parametrize("samples", [1, 8, 32])
def test_paired_intervals_cover_a_gain_and_no_gain(samples: int) -> None:
    random = np.random.default_rng(7)
    rates = random.beta(0.5, 0.7, (RUNS, 30))
    better = rates + 0.4 * rates * (1 - rates)
    truth = 0.4 * 0.5 * 0.7 / (1.2 * 2.2)
    base = random.binomial(samples, rates) / samples

    for other, difference in ((better, truth), (rates, 0.0)):
        values = random.binomial(samples, other) / samples - base
        ends = [paired_interval(row) for row in values.tolist()]
        covered = [low <= difference <= high for _, low, high in ends]
        assert AT_LEAST <= np.mean(covered) <= 0.99


def test_the_average_covers_too() -> None:
    random = np.random.default_rng(7)
    laws = ((0.25, 0.75, 30, 32), (1.0, 1.0, 83, 32), (4.0, 1.0, 100, 1))
    draws = [
        random.binomial(k, random.beta(a, b, (RUNS, problems))) / k for a, b, problems, k in laws
    ]
    truth = np.mean([a / (a + b) for a, b, _, _ in laws])

    ends = [average_interval([draw[run].tolist() for draw in draws]) for run in range(RUNS)]

    assert AT_LEAST <= np.mean([low <= truth <= high for _, low, high in ends]) <= 0.985
