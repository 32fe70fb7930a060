"""Many recipes side by side: one row each, where a column each would be too wide to read."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mifo_ext.report_accuracy import UNSOLVED_BELOW, Band
from mifo_ext.report_compare import Comparison, written
from mifo_ext.report_picture import PALETTE, dress, literal, new_figure, save
from mifo_ext.report_tables import Report

ROWS_FROM = 4
"""From this many recipes on they are rows."""


def recipes_tables(compared: Comparison) -> list[Report]:
    """Accuracy at the last common step by recipe, and how far each ends from the reference.

    Args:
        compared: the runs; the reference is the last recipe.
    """
    steps = next(iter(next(iter(compared.curves.values())).values())).curve.steps
    remark = (
        f"Per cent right after step {steps[-1]}, mean over seeds. Levels share a column when they "
        "started alike. "
        f"* below {UNSOLVED_BELOW:.0%} before training: next to no rollout is right, so RL alone "
        "has nothing to learn from."
    )
    gaps = (
        "Points, paired by seed, with their 95 % interval: over seeds (t), or with one seed over "
        "its questions alone (Newcombe), which leaves out how runs of other seeds differ."
    )
    bands = [f">{_label(band)}" for band in compared.bands]
    return [
        Report(
            "Accuracy by recipe",
            ("recipe", ">seeds", ">demonstrations", *bands),
            [_before(compared), *(_accuracies(compared, name) for name in compared.recipes)],
            remark,
        ),
        Report(
            f"Difference from {compared.reference}",
            ("recipe", *bands),
            [_gaps(compared, name) for name in compared.recipes if name != compared.reference],
            gaps,
        ),
        *(_on_the_way(compared, place, bands) for place in range(1, len(steps) - 1)),
    ]


def recipes_picture(compared: Comparison, path: Path) -> None:
    """Draw where each recipe ends: a dot a seed, a bar for their mean, a line for the start.

    Args:
        compared: what to draw.
        path: where the PNG goes.
    """
    recipes = compared.recipes
    figure = new_figure(width_in=12.5, height_in=1.6 + 0.3 * len(recipes))
    axes = figure.subplots(1, len(compared.bands), sharey=True, squeeze=False)[0]
    for axis, band in zip(axes, compared.bands, strict=True):
        _ends_panel(axis, compared, band)
    axes[0].set_yticks(range(len(recipes)), [literal(name) for name in recipes])
    axes[0].invert_yaxis()
    save(figure, path)


def _ends_panel(axis: Any, compared: Comparison, band: Band) -> None:
    dress(axis, title=_label(band), unit="")
    axis.set_xlabel("per cent right; dotted: before", color="#333333")
    axis.grid(axis="y", color="#EEEEEE")
    for place, recipe in enumerate(compared.recipes):
        ends = [100 * value for value in compared.after(recipe, band.sources).values()]
        colour = PALETTE[1] if recipe == compared.reference else PALETTE[0]
        axis.plot(ends, [place] * len(ends), "o", color=colour, alpha=0.55, markersize=6)
        mean = statistics.fmean(ends)
        axis.plot([mean, mean], [place - 0.32, place + 0.32], color=colour, linewidth=3)
    axis.axvline(100 * band.curve.values[0], color="#8A8A8A", linestyle=":")
    axis.set_xlim(-3, 103)


def _on_the_way(compared: Comparison, place: int, bands: Sequence[str]) -> Report:
    """Accuracy at a step before the last, where forgetting may show that RL mends later."""
    rows = []
    for recipe, seeds in compared.runs.items():
        curves = [
            [compared.curve(recipe, seed, band.sources) for seed in seeds]
            for band in compared.bands
        ]
        means = (statistics.fmean(curve.values[place] for curve in own) for own in curves)
        rows.append([recipe, *(f"{100 * mean:.1f}" for mean in means)])
    step = compared.bands[0].curve.steps[place]
    return Report(f"On the way: after step {step}", ("recipe", *bands), rows)


def _label(band: Band) -> str:
    return band.label + (" *" if band.unsolved else "")


def _before(compared: Comparison) -> list[str]:
    starts = [
        statistics.fmean(compared.curve(*key, band.sources).values[0] for key in compared.curves)
        for band in compared.bands
    ]
    return ["before training", "", "", *(f"{100 * start:.1f}" for start in starts)]


def _accuracies(compared: Comparison, recipe: str) -> list[str]:
    ends = [
        statistics.fmean(compared.after(recipe, band.sources).values()) for band in compared.bands
    ]
    return [
        recipe,
        str(len(compared.runs[recipe])),
        _demonstrations(compared, recipe),
        *(f"{100 * end:.1f}" for end in ends),
    ]


def _demonstrations(compared: Comparison, recipe: str) -> str:
    """How many the runs used, "384 to 448"."""
    used = sorted(
        int(run.metrics[run.last_step].get("interleave/samples/sft", 0))
        for run in compared.runs[recipe].values()
    )
    return f"{used[0]:,}" if used[0] == used[-1] else f"{used[0]:,} to {used[-1]:,}"


def _gaps(compared: Comparison, recipe: str) -> list[str]:
    return [recipe, *(written(compared.gain(recipe, band.sources)) for band in compared.bands)]
