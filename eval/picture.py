"""The pictures of an evaluation's accuracy and of pass@k, drawn without a display."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator, PercentFormatter

from mifo_ext.eval.picture_parts import (
    INK,
    Style,
    drawable,
    dress_panel,
    panels,
    plain_frame,
    styles,
)
from mifo_ext.eval.results import BenchmarkResult, Estimate, RunResult
from mifo_ext.eval.table_cells import benchmarks_of, find, run_names
from mifo_ext.report_picture import in_percent, new_figure, save

_ROW_IN = 0.22


def accuracy_picture(results: Sequence[RunResult], path: Path) -> None:
    """Draw each benchmark's accuracy with its 95 % interval, one colour a run.

    Args:
        results: one run or several; benchmarks are rows, the average the last.
        path: where the PNG goes.

    Raises:
        ValueError: no run, or two of the same name and grader.
    """
    names = run_names(results)
    rows = _accuracy_rows(results)
    height = sum(_row_height(len(names)) for _ in rows)
    figure = new_figure(width_in=9.5, height_in=max(1.7 + height, 2.6))
    axis = figure.subplots()
    by_name = styles(names)
    for i, row in enumerate(rows):
        for j, (name, estimate) in enumerate(zip(names, row.estimates, strict=True)):
            if estimate is not None:
                place = i + (j - (len(names) - 1) / 2) * (0.72 / len(names))
                _draw_estimate(axis, estimate, place=place, style=by_name[name])
    _dress_rows(axis, rows)
    _legend_above(figure, axis, names, by_name)
    save(figure, path)


def passes_picture(results: Sequence[RunResult], path: Path) -> None:
    """Draw pass@k (solid) and maj@k (dashed) against k, one panel a benchmark.

    Args:
        results: one run or several; benchmarks with one sample a problem are left out.
        path: where the PNG goes.

    Raises:
        ValueError: no run, two of the same name and grader, or no benchmark with k above 1.
    """
    names = run_names(results)
    benchmarks = [
        benchmark
        for benchmark in benchmarks_of(results)
        if any((one := find(run, benchmark)) and one.samples > 1 for run in results)
    ]
    if not benchmarks:
        raise ValueError(
            "`results` must hold a benchmark with several samples a problem, but every k is 1. "
            "Leave this picture out."
        )
    figure, axes = panels(len(benchmarks), height_in=2.6)
    by_name = styles(names)
    for benchmark, axis in zip(benchmarks, axes, strict=True):
        dress_panel(axis, title=benchmark, x_label="samples a problem, k")
        found = [find(run, benchmark) for run in results]
        for name, one in zip(names, found, strict=True):
            if one is not None:
                _draw_passes(axis, one, style=by_name[name])
        _sample_axis(axis, max(one.samples for one in found if one))
    _passes_legend(figure, names, by_name)
    save(figure, path)


class _Row(NamedTuple):
    label: str
    estimates: list[Estimate | None]


def _accuracy_rows(results: Sequence[RunResult]) -> list[_Row]:
    rows = []
    for benchmark in benchmarks_of(results):
        found = [find(run, benchmark) for run in results]
        samples = "/".join(dict.fromkeys(str(one.samples) for one in found if one))
        problems = "/".join(dict.fromkeys(f"{one.problems:,}" for one in found if one))
        label = f"{drawable(benchmark)}\navg@{samples}, n = {problems}"
        rows.append(_Row(label, [one.accuracy if one else None for one in found]))
    if any(run.average for run in results):
        rows.append(_Row("average", [run.average for run in results]))
    return rows


def _row_height(runs: int) -> float:
    return max(0.5, _ROW_IN * runs + 0.14)


def _draw_estimate(axis: Any, estimate: Estimate, *, place: float, style: Style) -> None:
    ends = [[max(estimate.value - estimate.low, 0)], [max(estimate.high - estimate.value, 0)]]
    axis.errorbar(
        [estimate.value],
        [place],
        xerr=ends,
        color=style.colour,
        marker=style.marker,
        markersize=6,
        linewidth=1.8,
        capsize=2.5,
        clip_on=False,
        zorder=3,
    )
    axis.annotate(
        f"{100 * estimate.value:.1f}",
        (max(estimate.high, estimate.value), place),
        xytext=(6, 0),
        textcoords="offset points",
        va="center",
        fontsize=8,
        color=style.colour,
        annotation_clip=False,
    )


def _dress_rows(axis: Any, rows: Sequence[_Row]) -> None:
    highest = max((one.high for row in rows for one in row.estimates if one), default=1)
    # A base model that solves little would else be a column of dots at the left edge.
    axis.set_xlim(-0.005, min(max(math.ceil(highest * 11) / 10, 0.1), 1) + 0.005)
    axis.xaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=0))
    axis.set_ylim(len(rows) - 0.5, -0.5)
    axis.set_yticks(range(len(rows)), [row.label for row in rows], fontsize=9)
    for edge in range(1, len(rows)):
        last = rows[edge].label == "average"
        axis.axhline(edge - 0.5, color="#999999" if last else "#EEEEEE", linewidth=0.9, zorder=1)
    axis.set_xlabel("answered right, with the 95 % interval", color=INK)
    axis.grid(axis="x", color="#E5E5E5", linewidth=0.8)
    plain_frame(axis)
    axis.tick_params(axis="y", length=0)


def _legend_above(
    figure: Any, axis: Any, names: Sequence[str], by_name: Mapping[str, Style]
) -> None:
    if len(names) == 1:
        axis.set_title(drawable(names[0]), loc="left", fontsize=12, weight="bold", color=INK)
        return
    handles = [
        Line2D([], [], color=style.colour, marker=style.marker, label=drawable(name))
        for name, style in by_name.items()
    ]
    figure.legend(handles=handles, loc="outside upper left", ncols=2, frameon=False, fontsize=9)


def _draw_passes(axis: Any, result: BenchmarkResult, *, style: Style) -> None:
    for values, line, face in (
        (result.passes, "-", style.colour),
        (result.majorities, "--", "white"),
    ):
        samples = sorted(values)
        axis.plot(
            samples,
            [values[j] for j in samples],
            color=style.colour,
            linestyle=line,
            linewidth=1.8,
            marker=style.marker,
            markersize=5,
            markerfacecolor=face,
            clip_on=False,
            zorder=3,
        )


def _sample_axis(axis: Any, most: int) -> None:
    axis.set_xscale("log", base=2)
    ticks = [2**power for power in range(most.bit_length())]
    axis.xaxis.set_major_locator(FixedLocator(ticks))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda samples, _: f"{samples:.0f}"))
    axis.set_xlim(0.93, most * 1.07)
    in_percent(axis)
    axis.set_ylabel("of problems", color=INK, fontsize=9)


def _passes_legend(figure: Any, names: Sequence[str], by_name: Mapping[str, Style]) -> None:
    colour = INK if len(names) > 1 else by_name[names[0]].colour
    handles = [
        Line2D([], [], color=colour, linestyle="-", label="pass@k: one of k is right"),
        Line2D([], [], color=colour, linestyle="--", label="maj@k: the majority is right"),
    ]
    if len(names) > 1:
        handles += [
            Line2D([], [], color=style.colour, marker=style.marker, label=drawable(name))
            for name, style in by_name.items()
        ]
    figure.legend(handles=handles, loc="outside upper left", ncols=2, frameon=False, fontsize=9)
