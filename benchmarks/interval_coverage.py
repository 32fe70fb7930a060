"""How often 95 % intervals of the evaluation hold the truth, beside the usual ones.

Solve rates of problems are drawn from a law whose mean is known, k samples of each problem from its
rate; then every method gives its interval. It needs numpy and scipy only:

    python benchmarks/interval_coverage.py                     # two tables in Markdown, a minute
    python benchmarks/interval_coverage.py --runs 4000 --seed 1

Dimensions:
    R  simulated evaluations
    N  problems
    B  bootstrap resamples
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.special import stdtrit  # type: ignore[import-untyped]

from mifo_ext.eval.estimates import mean_interval, paired_interval
from mifo_ext.eval.results import Estimate

Floats = NDArray[np.float64]
PROBLEMS = (30, 83, 500)
SAMPLES = (1, 8, 32)
RESAMPLES_B = 500


class Ends(NamedTuple):
    """Interval ends of every simulated evaluation, each of shape (R,)."""

    low: Floats
    high: Floats


class Rates(NamedTuple):
    """A law of solve rates with a mean that is known.

    Attributes:
        name: as the table has it.
        draw: from a generator and a shape to rates.
        mean: of the law.
    """

    name: str
    draw: Callable[[Generator, tuple[int, int]], Floats]
    mean: float


class Pairs(NamedTuple):
    """A law of the solve rates that two runs have on one problem.

    Attributes:
        name: as the table has it.
        draw: from a generator and a shape to the rates of either run.
        mean: of their difference.
    """

    name: str
    draw: Callable[[Generator, tuple[int, int]], tuple[Floats, Floats]]
    mean: float


def beta(first: float, second: float, *, name: str) -> Rates:
    """Beta-distributed rates; with both numbers below 1 they are U-shaped."""
    return Rates(
        name, lambda random, shape: random.beta(first, second, shape), first / (first + second)
    )


def rare(share: float, *, high: float, low: float, name: str) -> Rates:
    """A few problems of rate `high` among many of rate `low`."""

    def draw(random: Generator, shape: tuple[int, int]) -> Floats:
        return np.where(random.random(shape) < share, high, low)

    return Rates(name, draw, share * high + (1 - share) * low)


def alike(rates: Rates) -> Pairs:
    """Two runs of one model."""

    def draw(random: Generator, shape: tuple[int, int]) -> tuple[Floats, Floats]:
        drawn = rates.draw(random, shape)
        return drawn, drawn

    return Pairs(f"alike, {rates.name}", draw, 0.0)


def gain(size: float, first: float, second: float) -> Pairs:
    """One run gains most where rates are middling."""
    total = first + second
    mean = size * first * second / (total * (total + 1))

    def draw(random: Generator, shape: tuple[int, int]) -> tuple[Floats, Floats]:
        rates = random.beta(first, second, shape)
        return rates + size * rates * (1 - rates), rates

    return Pairs("gain in the middle", draw, mean)


def rare_gain(share: float) -> Pairs:
    """One run solves a few problems that the other cannot."""

    def draw(random: Generator, shape: tuple[int, int]) -> tuple[Floats, Floats]:
        return np.where(random.random(shape) < share, 0.9, 0.02), np.full(shape, 0.02)

    return Pairs(f"{100 * share:.0f} % of problems won", draw, share * 0.88)


RATES = (
    beta(0.3, 0.3, name="U (0.3, 0.3)"),
    beta(0.25, 0.75, name="AIME-like (0.25, 0.75)"),
    beta(1, 1, name="flat (1, 1)"),
    beta(5, 5, name="middle (5, 5)"),
    beta(4, 0.3, name="near 1 (4, 0.3)"),
    beta(0.5, 4, name="low (0.5, 4)"),
    beta(0.1, 2, name="near 0 (0.1, 2)"),
    rare(0.03, high=0.9, low=0.002, name="3 % of problems at 0.9"),
    rare(0.0, high=0.0, low=0.02, name="all problems at 0.02"),
)
PAIRS = (
    *(alike(rates) for rates in (RATES[1], RATES[0], RATES[6])),
    gain(0.4, 0.5, 0.7),
    rare_gain(0.05),
)


def student(values_RN: Floats) -> Ends:
    """Mean and Student's multiple of the standard error."""
    count = values_RN.shape[1]
    half = stdtrit(count - 1, 0.975) * values_RN.std(1, ddof=1) / np.sqrt(count)
    return Ends(values_RN.mean(1) - half, values_RN.mean(1) + half)


def percentile_bootstrap(values_RN: Floats, random: Generator) -> Ends:
    """Problems resampled; the same resamples for every evaluation, to save time."""
    count = values_RN.shape[1]
    weights_BN = random.multinomial(count, [1 / count] * count, size=RESAMPLES_B) / count
    low, high = np.quantile(values_RN @ weights_BN.T, [0.025, 0.975], axis=1)
    return Ends(low, high)


def wilson_effective(values_RN: Floats) -> Ends:
    """Wilson on p(1 - p) / SE² problems, on all of them where that is 0 / 0."""
    count = values_RN.shape[1]
    share, spread = values_RN.mean(1), values_RN.var(1, ddof=1)
    flat = spread < 1e-12
    effective = np.where(flat, count, share * (1 - share) * count / np.where(flat, 1, spread))
    effective = np.maximum(effective, 1)
    squared = 1.96**2 / effective
    half = np.sqrt(squared * (share * (1 - share) + squared / 4)) / (1 + squared)
    centre = (share + squared / 2) / (1 + squared)
    return Ends(centre - half, centre + half)


def pooled(values_RN: Floats, samples: int) -> Ends:
    """Wilson as if all samples were independent: the common mistake."""
    share = values_RN.mean(1)
    squared = np.full_like(share, 1.96**2 / (values_RN.shape[1] * samples))
    half = np.sqrt(squared * (share * (1 - share) + squared / 4)) / (1 + squared)
    centre = (share + squared / 2) / (1 + squared)
    return Ends(centre - half, centre + half)


def ours(values_RN: Floats, interval: Callable[[list[float]], Estimate]) -> Ends:
    """What the evaluation reports."""
    ends = np.array([interval(row)[1:] for row in values_RN.tolist()])
    return Ends(ends[:, 0], ends[:, 1])


def describe(ends: Ends, truth: float, *, lowest: float) -> str:
    """Coverage in percent and mean width in points, cut to what is possible."""
    low, high = np.maximum(ends.low, lowest), np.minimum(ends.high, 1.0)
    covered = (low <= truth + 1e-12) & (truth - 1e-12 <= high)
    return f"{100 * covered.mean():.1f} ({100 * (high - low).mean():.1f})"


def mean_row(
    rates: Rates, *, problems: int, samples: int, runs: int, random: Generator
) -> list[str]:
    """One row of the table of means."""
    drawn_RN = rates.draw(random, (runs, problems))
    values_RN = random.binomial(samples, drawn_RN) / samples
    methods = (
        pooled(values_RN, samples),
        student(values_RN),
        percentile_bootstrap(values_RN, random),
        wilson_effective(values_RN),
        ours(values_RN, mean_interval),
    )
    cells = [describe(ends, rates.mean, lowest=0.0) for ends in methods]
    return [rates.name, str(problems), str(samples), *cells]


def paired_row(
    pairs: Pairs, *, problems: int, samples: int, runs: int, random: Generator
) -> list[str]:
    """One row of the table of differences."""
    first_RN, second_RN = pairs.draw(random, (runs, problems))
    values_RN = (random.binomial(samples, first_RN) - random.binomial(samples, second_RN)) / samples
    methods = (
        student(values_RN),
        percentile_bootstrap(values_RN, random),
        ours(values_RN, paired_interval),
    )
    cells = [describe(ends, pairs.mean, lowest=-1.0) for ends in methods]
    return [pairs.name, str(problems), str(samples), *cells]


def print_table(heading: list[str], rows: list[list[str]]) -> None:
    """In Markdown."""
    for line in (heading, ["---", *("--:" for _ in heading[1:])], *rows):
        print(f"| {' | '.join(line)} |")
    print()


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=2000, help="simulated evaluations a row")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    random = np.random.default_rng(options.seed)
    sizes = [(problems, samples) for problems in PROBLEMS for samples in SAMPLES]

    print(
        f"95 % intervals, {options.runs} simulations a row: coverage in % (mean width in points)\n"
    )
    heading = ["solve rates", "problems", "k"]
    rows = [
        mean_row(law, problems=n, samples=k, runs=options.runs, random=random)
        for law in RATES
        for n, k in sizes
    ]
    methods = ["samples pooled", "Student", "bootstrap", "Wilson, n_eff", "`mean_interval`"]
    print_table([*heading, *methods], rows)
    paired_rows = [
        paired_row(law, problems=n, samples=k, runs=options.runs, random=random)
        for law in PAIRS
        for n, k in sizes
    ]
    heading[0] = "two runs"
    print_table([*heading, "Student", "bootstrap", "`paired_interval`"], paired_rows)


if __name__ == "__main__":
    main()
