"""Figures with an honest interval: means over problems, pass@k, paired tests.

A benchmark is a draw of problems, and the samples of one problem resemble each other. Everything
here therefore takes one number per problem and treats problems, never samples, as independent
(Miller 2024, arXiv 2411.00640). `docs/statistics.md` has the formulas and the measured coverage.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit  # type: ignore[import-untyped]

from mifo_ext.eval.results import Estimate

CONFIDENCE = 0.95
ENUMERATED_AT_MOST = 16
"""A sign-flip test with so few nonzero differences goes through all 65,536 assignments."""


def mean_of(values: Sequence[float]) -> float:
    """Mean that does not depend on the order, to the last bit, nor leaves the values' range."""
    mean = math.fsum(values) / len(values)
    return float(min(max(values), max(min(values), mean)))


def mean_interval(per_problem: Sequence[float]) -> Estimate:
    """95 % interval of the mean solve rate over problems like these.

    Wilson's score interval on the effective number of problems. The design effect (variance
    between problems over that of right-or-wrong problems of the same mean) is shrunk towards 1 by
    one pseudo-problem, so that rates which are all equal, all 0 for example, still leave a width:
    thirty unsolved problems do not prove that the thirty-first is unsolvable.

    Args:
        per_problem: share of right samples of each problem, in [0, 1]; any order.

    Returns:
        The plain mean, and an interval inside [0, 1] that contains it. One problem is allowed and
        leaves nearly everything open.

    Raises:
        ValueError: no problem, or a share outside [0, 1].
    """
    _require_within(per_problem, name="per_problem", low=0.0, high=1.0)
    count = len(per_problem)
    mean = mean_of(per_problem)
    between = math.fsum((rate - mean) ** 2 for rate in per_problem)
    # Agresti and Coull's mean, since the plain one can be 0 or 1 and would have no variance.
    likely = (count * mean + 2) / (count + 4)
    pseudo = likely * (1 - likely)
    design_effect = (between + pseudo) / (count * mean * (1 - mean) + pseudo)
    return _score_interval(mean, count / design_effect, quantile=_quantile(count))


def average_interval(benchmarks: Sequence[Sequence[float]]) -> Estimate:
    """95 % interval of the unweighted mean of benchmark means.

    Args:
        benchmarks: for each benchmark, the share of right samples of each problem.

    Returns:
        The mean of means. Each half of the interval is the root of the sum of the benchmarks'
        squared halves, over their number (see `average_of`).

    Raises:
        ValueError: no benchmark, one without problems, or a share outside [0, 1].
    """
    return average_of([mean_interval(per_problem) for per_problem in benchmarks])


def average_of(estimates: Sequence[Estimate]) -> Estimate:
    """Unweighted mean of independent estimates.

    Variances of independent figures add up. Half-widths take the place of standard errors, the
    lower and the upper ones apart, so that a lopsided interval near 0 or 1 stays lopsided.

    Raises:
        ValueError: no estimate.
    """
    if not estimates:
        raise ValueError("`estimates` must hold at least one, but is empty.")
    value = mean_of([estimate.value for estimate in estimates])
    below = math.sqrt(math.fsum((each.value - each.low) ** 2 for each in estimates))
    above = math.sqrt(math.fsum((each.high - each.value) ** 2 for each in estimates))
    return Estimate(value, value - below / len(estimates), value + above / len(estimates))


def paired_interval(differences: Sequence[float]) -> Estimate:
    """95 % interval of a mean difference over problems that two runs both answered.

    Student's interval with one pseudo-problem more, which lies as far from the mean as the largest
    difference is from 0. Without any difference that distance is 1: n problems answered alike
    leave room for the next one to be won or lost outright, hence a half-width of about 2 / n.

    Args:
        differences: of the shares of right samples, in [-1, 1], one for each problem; any order.

    Returns:
        The plain mean, and an interval inside [-1, 1] that contains it and has a width.

    Raises:
        ValueError: no problem, or a difference outside [-1, 1].
    """
    _require_within(differences, name="differences", low=-1.0, high=1.0)
    count = len(differences)
    mean = mean_of(differences)
    largest = max(abs(difference) for difference in differences) or 1.0
    between = math.fsum((difference - mean) ** 2 for difference in differences)
    variance = (between + largest**2) / (count + 1)
    half = _quantile(count) * math.sqrt(variance / count)
    return Estimate(mean, max(-1.0, mean - half), min(1.0, mean + half))


def pass_at(k: int, *, right: int, drawn: int) -> float:
    """Chance that at least one of k samples is right, without bias, from more samples.

    Args:
        k: samples that one would look at, from 1 to `drawn`.
        right: samples that were right, from 0 to `drawn`.
        drawn: samples of this problem.

    Returns:
        1 - C(drawn - right, k) / C(drawn, k): the share of k-subsets that hold a right sample.

    Raises:
        ValueError: a number outside its range; pass@k cannot be had from fewer than k samples.
    """
    if not 0 <= right <= drawn:
        raise ValueError(f"`right` must be in [0, {drawn}] for {drawn} samples, but is {right}.")
    if not 1 <= k <= drawn:
        raise ValueError(
            f"`k` must be in [1, {drawn}] for {drawn} samples, but is {k}. Draw more samples."
        )
    # The subtraction in whole numbers: 1 minus a share near 1 would lose digits.
    subsets = math.comb(drawn, k)
    return (subsets - math.comb(drawn - right, k)) / subsets


def permutation_p(differences: Sequence[float], *, seed: int, resamples: int = 9_999) -> float:
    """Two-sided p of a mean difference, by swapping the two runs within problems.

    If the runs were alike, each problem's difference could as well have the other sign. Only the
    proportions of the differences matter, so weighted ones are welcome.

    Args:
        differences: one for each problem; zeros do not count either way.
        seed: of the resamples, in any order of the problems the same result.
        resamples: random assignments of signs, when there are more than `ENUMERATED_AT_MOST`
            nonzero differences; with fewer all assignments are gone through.

    Returns:
        Share of assignments whose sum is as far from 0 as the observed one; with resamples
        (count + 1) / (resamples + 1), which is never 0. 1 for runs without any difference.

    Raises:
        ValueError: no difference, one that is not finite, or no resample.
    """
    _require_within(differences, name="differences", low=-math.inf, high=math.inf)
    if resamples < 1:
        raise ValueError(f"`resamples` must be at least 1, but is {resamples}.")
    sizes = np.sort(np.abs([difference for difference in differences if difference]))
    # Sums that are equal on paper differ by rounding; they are ties.
    tolerance = 1e-10 * float(sizes.sum())
    observed = abs(math.fsum(differences)) - tolerance
    if len(sizes) <= ENUMERATED_AT_MOST:
        return float(np.mean(np.abs(_every_sum(sizes)) >= observed))
    sums = _random_sums(sizes, seed=seed, resamples=resamples)
    return (int(np.sum(np.abs(sums) >= observed)) + 1) / (resamples + 1)


def holm(ps: Sequence[float]) -> list[float]:
    """Correct p-values for their number, after Holm (1979).

    Args:
        ps: in [0, 1], any order.

    Returns:
        Corrected ones in the same order: the smallest times their number m, the next times m - 1
        and so on, never below a smaller one's and never above 1.

    Raises:
        ValueError: a p outside [0, 1].
    """
    for p in ps:
        if not 0 <= p <= 1:
            raise ValueError(f"`ps` must be in [0, 1], but one is {p}.")
    corrected = [0.0] * len(ps)
    reached = 0.0
    for rank, index in enumerate(sorted(range(len(ps)), key=lambda place: ps[place])):
        reached = max(reached, min(1.0, (len(ps) - rank) * ps[index]))
        corrected[index] = reached
    return corrected


def _score_interval(share: float, count: float, *, quantile: float) -> Estimate:
    """Wilson's interval of a share; `count` need not be whole."""
    squared = quantile * quantile / count
    centre = (share + squared / 2) / (1 + squared)
    half = math.sqrt(squared * (share * (1 - share) + squared / 4)) / (1 + squared)
    # By rounding alone the ends may pass 0, 1 or the share itself.
    low = min(share, max(0.0, centre - half))
    return Estimate(share, low, max(share, min(1.0, centre + half)))


def _quantile(count: int) -> float:
    """Student's 97.5 % point; the pseudo-problem makes up for the degree the mean takes."""
    return float(stdtrit(count, (1 + CONFIDENCE) / 2))


def _require_within(values: Sequence[float], *, name: str, low: float, high: float) -> None:
    if not values:
        raise ValueError(f"`{name}` must hold at least one problem, but is empty.")
    for value in values:
        if not (math.isfinite(value) and low <= value <= high):
            raise ValueError(f"`{name}` must be numbers in [{low}, {high}], but one is {value}.")


def _every_sum(sizes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums under all assignments of signs, 2 to the power of their number."""
    sums = np.zeros(1)
    for size in sizes:
        sums = np.concatenate([sums - size, sums + size])
    return sums


def _random_sums(sizes: NDArray[np.float64], *, seed: int, resamples: int) -> NDArray[np.float64]:
    """Sums under random signs, in memory for the sums alone.

    Differences of shares take few values: of c equal ones, the number with a plus is binomial.
    """
    random = np.random.default_rng(seed)
    sums = np.zeros(resamples)
    for size, count in zip(*np.unique(sizes, return_counts=True), strict=True):
        sums += size * (2 * random.binomial(count, 0.5, size=resamples) - count)
    return sums
