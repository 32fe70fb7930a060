"""Runs of several recipes side by side, paired by seed."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from scipy.stats import t as student_t  # type: ignore[import-untyped]

from mifo_ext.report_accuracy import (
    UNSOLVED_BELOW,
    Band,
    Interval,
    bands,
    difference_interval,
    mean_curve,
)
from mifo_ext.report_picture import (
    PALETTE,
    colours,
    dress,
    in_percent,
    literal,
    new_figure,
    save,
)
from mifo_ext.report_read import Accuracy, Curve, Run
from mifo_ext.report_tables import Report

_COLUMNS = 3


class Mean(NamedTuple):
    """A mean over seeds.

    Attributes:
        value: the mean.
        interval: 95 % t-interval; None with fewer than two seeds.
    """

    value: float
    interval: Interval | None


@dataclass(frozen=True)
class Comparison:
    """What several runs have in common, ready to be compared.

    Attributes:
        runs: by recipe and seed, recipes in the order given; the last recipe is the reference.
        curves: accuracy curves of each run by data source, at the steps that all runs validated.
        bands: bands of difficulty, from the mean over all runs.
        notes: what was left out, one sentence each.
    """

    runs: dict[str, dict[int | None, Run]]
    curves: dict[tuple[str, int | None], dict[str, Accuracy]]
    bands: list[Band]
    notes: tuple[str, ...]

    @property
    def recipes(self) -> list[str]:
        """Recipes in the order given."""
        return list(self.runs)

    @property
    def reference(self) -> str:
        """The recipe that the others are compared with."""
        return self.recipes[-1]

    def curve(self, recipe: str, seed: int | None, sources: frozenset[str]) -> Curve:
        """Mean accuracy of one run over `sources`."""
        accuracies = self.curves[recipe, seed]
        return mean_curve([accuracies[source].curve for source in sorted(sources)])

    def after(self, recipe: str, sources: frozenset[str]) -> dict[int | None, float]:
        """Accuracy over `sources` at the last common step, by seed."""
        return {seed: self.curve(recipe, seed, sources).values[-1] for seed in self.runs[recipe]}

    def gain(self, recipe: str, sources: frozenset[str]) -> Mean:
        """How far `recipe` ends above the reference; with one seed, the interval is questions'."""
        ends, others = self.after(recipe, sources), self.after(self.reference, sources)
        mean = paired_difference(ends, others)
        (seed, *_) = (seed for seed in ends if seed in others)
        count = self._questions(recipe, seed, sources)
        if mean.interval is None and count and max(ends[seed], others[seed]) <= 1:
            return mean._replace(interval=difference_interval(ends[seed], others[seed], count))
        return mean

    def _questions(self, recipe: str, seed: int | None, sources: frozenset[str]) -> int:
        """Questions over `sources`; 0 if unknown, or groups are unequal."""
        counts = {self.curves[recipe, seed][source].questions for source in sources}
        return len(sources) * (counts.pop() or 0) if len(counts) == 1 else 0


def comparison(runs: Sequence[Run]) -> Comparison:
    """Line runs up by recipe and seed.

    Args:
        runs: two or more; each validated at a step that all others validated too.

    Raises:
        ValueError: two runs have the same recipe and seed, or nothing is common to all.
    """
    by_recipe: dict[str, dict[int | None, Run]] = {}
    for run in runs:
        twin = by_recipe.setdefault(run.recipe, {}).setdefault(run.seed, run)
        if twin is not run:
            raise ValueError(
                f"Each recipe and seed must be given once, but `{twin.folder}` and `{run.folder}` "
                "have the same. A folder's name says which it is: <recipe>-seed<n>."
            )
    found = {(run.recipe, run.seed): _by_source(run) for run in runs}
    sources = sorted(set.intersection(*(set(accuracies) for accuracies in found.values())))
    steps = [set(accuracies[s].curve.steps) for accuracies in found.values() for s in sources]
    common = set.intersection(*steps) if steps else set()
    if not common:
        raise ValueError(
            f"The {len(runs)} runs must share a validated step and a `data_source`, but share none."
        )
    curves = {
        key: {source: _at(accuracies[source], common) for source in sources}
        for key, accuracies in found.items()
    }
    average = [
        next(iter(curves.values()))[source]._replace(
            curve=mean_curve([accuracies[source].curve for accuracies in curves.values()])
        )
        for source in sources
    ]
    return Comparison(by_recipe, curves, bands(average), _notes(runs, sources, max(common)))


def seed_mean(values: Sequence[float]) -> Mean:
    """The mean over seeds with its 95 % t-interval.

    Args:
        values: one a seed, at least one.
    """
    value = statistics.fmean(values)
    if len(values) < 2:
        return Mean(value, None)
    error = statistics.stdev(values) / math.sqrt(len(values))
    half = float(student_t.ppf(0.975, len(values) - 1)) * error
    return Mean(value, Interval(value - half, value + half))


def paired_difference(values: dict[int | None, float], reference: dict[int | None, float]) -> Mean:
    """Mean over shared seeds of `values - reference`.

    Raises:
        ValueError: they share no seed.
    """
    shared = [seed for seed in values if seed in reference]
    if not shared:
        raise ValueError(
            f"The recipes must share a seed, but have {list(values)} and {list(reference)}."
        )
    return seed_mean([values[seed] - reference[seed] for seed in shared])


def comparison_tables(compared: Comparison) -> list[Report]:
    """Accuracy at the last common step: by band of difficulty, then group by group."""
    some = next(iter(compared.curves.values()))
    by_band = [
        ([band.skill, band.levels + (" *" if band.unsolved else "")], band.sources)
        for band in compared.bands
    ]
    accuracies = sorted(some.values(), key=lambda item: (item.group.skill, item.group.level or 0))
    by_group = [
        (
            [item.group.skill, "" if item.group.level is None else str(item.group.level)],
            frozenset([item.group.source]),
        )
        for item in accuracies
    ]
    step = max(max(item.curve.steps) for item in some.values())
    seeds = ", ".join(f"{recipe}: {len(runs)}" for recipe, runs in compared.runs.items())
    remark = (
        f"Per cent right, mean over seeds ({seeds}); before training, and after step {step}. "
        "Differences are paired by seed, with their 95 % interval: over seeds (t), or with one "
        "seed over its questions alone (Newcombe), which leaves out how runs of other seeds differ."
    )
    star = (
        f" * below {UNSOLVED_BELOW:.0%} before training, on average over the runs: next to no "
        "rollout is right, so RL alone has nothing to learn from."
    )
    return [
        _table("Accuracy by band of difficulty", compared, by_band, remark + star),
        _table("Accuracy by skill and level", compared, by_group, remark),
    ]


def comparison_picture(compared: Comparison, path: Path) -> None:
    """Draw a panel for each band: thin lines are seeds, thick ones the recipe's mean.

    Args:
        compared: what to draw.
        path: where the PNG goes.
    """
    columns = min(_COLUMNS, len(compared.bands))
    rows = math.ceil(len(compared.bands) / columns)
    figure = new_figure(width_in=4.4 * columns + 0.6, height_in=3.5 * rows + 0.9)
    axes = figure.subplots(rows, columns, squeeze=False)
    by_recipe = colours(compared.recipes)
    for axis, band in itertools.zip_longest(axes.flat, compared.bands):
        if band is None:
            axis.set_axis_off()
        else:
            _band_panel(axis, compared, band, by_recipe)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=4, frameon=False, fontsize=11)
    save(figure, path)


def _band_panel(axis: Any, compared: Comparison, band: Band, by_recipe: dict[str, str]) -> None:
    tail = f" (below {UNSOLVED_BELOW:.0%} before)" if band.unsolved else ""
    dress(axis, title=band.label + tail, unit="answered right")
    in_percent(axis)
    for recipe, colour in by_recipe.items():
        curves = [compared.curve(recipe, seed, band.sources) for seed in compared.runs[recipe]]
        for curve in curves if len(curves) > 1 else []:
            axis.plot(*curve, color=colour, linewidth=0.9, alpha=0.5, clip_on=False)
        style = "-" if colour == PALETTE[0] else "--"
        label = literal(f"{recipe} ({len(curves)} seed{'s' * (len(curves) > 1)})")
        mean = mean_curve(curves)
        axis.plot(*mean, color=colour, linewidth=2.6, linestyle=style, label=label, clip_on=False)


def _table(
    title: str,
    compared: Comparison,
    rows: Sequence[tuple[list[str], frozenset[str]]],
    remark: str,
) -> Report:
    others = [recipe for recipe in compared.recipes if recipe != compared.reference]
    differences = [f">{recipe} - {compared.reference}" for recipe in others]
    after_columns = [f">{recipe}" for recipe in compared.recipes]
    cells = []
    for names, sources in rows:
        starts = [compared.curve(*key, sources).values[0] for key in compared.curves]
        after = {recipe: compared.after(recipe, sources) for recipe in compared.recipes}
        gains = [compared.gain(recipe, sources) for recipe in others]
        cells.append(
            [
                *names,
                f"{100 * statistics.fmean(starts):.1f}",
                *(f"{100 * statistics.fmean(values.values()):.1f}" for values in after.values()),
                *(written(gain) for gain in gains),
            ]
        )
    return Report(
        title, ("skill", ">level", ">before", *after_columns, *differences), cells, remark
    )


def written(difference: Mean) -> str:
    """A difference of shares in points, with its interval."""
    points = f"{round(100 * difference.value, 1) + 0.0:+.1f}"  # + 0.0: no "-0.0"
    if difference.interval is None:
        return points
    low, high = difference.interval
    return f"{points} [{100 * low:+.1f}, {100 * high:+.1f}]"


def _by_source(run: Run) -> dict[str, Accuracy]:
    accuracies = run.accuracies()
    if not accuracies:
        raise ValueError(
            f"`{run.folder}` must have validated at least once, but has not. Set trainer.test_freq "
            "and trainer.val_before_train."
        )
    return {accuracy.group.source: accuracy for accuracy in accuracies}


def _at(accuracy: Accuracy, steps: set[int]) -> Accuracy:
    kept = [(s, v) for s, v in zip(*accuracy.curve, strict=True) if s in steps]
    return accuracy._replace(curve=Curve([s for s, _ in kept], [v for _, v in kept]))


def _notes(runs: Sequence[Run], sources: Sequence[str], step: int) -> tuple[str, ...]:
    notes = [f"{run.folder.name}: {note}" for run in runs for note in run.notes]
    notes += [
        f"{run.folder.name} was trained to step {run.last_step}; it is compared at step {step}."
        for run in runs
        if run.last_step > step
    ]
    missing = sorted({s for run in runs for s in _by_source(run)} - set(sources))
    if missing:
        notes.append(f"Not in every run, so left out: {', '.join(missing)}.")
    return tuple(notes)
