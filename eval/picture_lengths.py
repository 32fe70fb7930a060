"""The picture of response lengths: correct and other responses, benchmark by benchmark."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import (
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    NullLocator,
    PercentFormatter,
)

from mifo_ext.eval.picture_parts import GREY, INK, drawable, dress_panel, panels
from mifo_ext.eval.record import GradeLine, Place, Sample
from mifo_ext.report_picture import PALETTE, save

_COLOURS = {"correct": PALETTE[0], "other": PALETTE[1]}
_BINS = 28
# From this ratio of longest to shortest on, equal steps of tokens would hide the short ones.
_LOGARITHMIC_FROM = 12


class TokenCounts(NamedTuple):
    """How long one run's responses to one benchmark are.

    Attributes:
        run: name of the run.
        benchmark: name of the benchmark.
        correct: tokens of each correct response.
        other: tokens of each of the others.
    """

    run: str
    benchmark: str
    correct: Sequence[int]
    other: Sequence[int]


def token_counts(
    run: str, samples: Iterable[Sample], grades: Iterable[GradeLine]
) -> list[TokenCounts]:
    """Sort response lengths by benchmark and by whether the response is right.

    Args:
        run: name of the run.
        samples: with their tokens.
        grades: by one grader; one for every sample.

    Raises:
        ValueError: a sample has no grade.
    """
    right: dict[Place, bool] = {grade.place: grade.verdict == "correct" for grade in grades}
    lengths: dict[str, dict[bool, list[int]]] = {}
    for sample in samples:
        if sample.place not in right:
            raise ValueError(
                f"`grades` must hold every sample, but {sample.place} is missing. Grade it first."
            )
        kinds = lengths.setdefault(sample.benchmark, {True: [], False: []})
        kinds[right[sample.place]].append(sample.tokens)
    return [
        TokenCounts(run, benchmark, correct=kinds[True], other=kinds[False])
        for benchmark, kinds in lengths.items()
    ]


def lengths_picture(counts: Sequence[TokenCounts], path: Path, *, cap: int | None = None) -> None:
    """Draw how long correct and other responses are, one panel a benchmark.

    Args:
        counts: of one run, drawn as histograms; of several, as ranges of each run.
        path: where the PNG goes.
        cap: most new tokens a response could have; marked in every panel.

    Raises:
        ValueError: `counts` is empty.
    """
    if not counts:
        raise ValueError("`counts` must be one benchmark or more, but is empty. Sample one first.")
    runs = list(dict.fromkeys(one.run for one in counts))
    benchmarks = list(dict.fromkeys(one.benchmark for one in counts))
    height = 2.4 if len(runs) == 1 else 0.9 + 0.42 * len(runs)
    figure, axes = panels(len(benchmarks), height_in=height)
    for benchmark, axis in zip(benchmarks, axes, strict=True):
        drawn = [one for one in counts if one.benchmark == benchmark]
        dress_panel(axis, title=benchmark, x_label="tokens of the response")
        _token_axis(axis, counts, cap=cap)
        if len(runs) == 1:
            _histograms(axis, drawn[0])
        else:
            _ranges(axis, drawn, runs=runs)
    _legend(figure, cap=cap, histograms=len(runs) == 1)
    save(figure, path)


def _token_axis(axis: Any, counts: Sequence[TokenCounts], *, cap: int | None) -> None:
    """The same axis in every panel, so that benchmarks compare."""
    every = [tokens for one in counts for tokens in (*one.correct, *one.other)]
    shortest, longest = max(min(every, default=1), 1), max([*every, cap or 1, 1])
    if longest / shortest >= _LOGARITHMIC_FROM:
        axis.set_xscale("log")
        decades = math.log10(longest / shortest)
        steps = (1, 2, 5) if decades < 1.7 else (1, 3) if decades < 3.2 else (1,)
        axis.xaxis.set_major_locator(LogLocator(subs=steps))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.set_xlim(shortest / 1.15, longest * 1.15)
    else:
        axis.set_xlim(0, longest * 1.06)
        axis.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda tokens, _: f"{tokens:,.0f}"))
    if cap is not None:
        axis.axvline(cap, color=GREY, linestyle=":", linewidth=1.5, zorder=2)


def _histograms(axis: Any, counts: TokenCounts) -> None:
    low, high = axis.get_xlim()
    logarithmic = axis.get_xscale() == "log"
    edges = np.geomspace(low, high, _BINS) if logarithmic else np.linspace(low, high, _BINS)
    total = len(counts.correct) + len(counts.other)
    for kind, tokens in (("other", counts.other), ("correct", counts.correct)):
        if tokens:
            colour = _COLOURS[kind]
            # A response of no token at all stands with the shortest: a log axis has no zero.
            axis.hist(
                np.maximum(tokens, low),
                bins=edges,
                weights=np.full(len(tokens), 1 / total),
                histtype="stepfilled",
                facecolor=(colour, 0.22),
                edgecolor=colour,
                linewidth=1.6,
                zorder=3,
            )
    axis.yaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=None))
    axis.set_ylabel("of all responses", color=INK, fontsize=9)
    axis.set_ylim(bottom=0)
    counted = f"{len(counts.correct):,} correct, {len(counts.other):,} others"
    axis.set_title(counted, loc="right", fontsize=8, color=GREY)


def _ranges(axis: Any, drawn: Sequence[TokenCounts], *, runs: Sequence[str]) -> None:
    for one in drawn:
        row = runs.index(one.run)
        for kind, tokens, shift in (("correct", one.correct, -0.16), ("other", one.other, 0.16)):
            if not tokens:
                continue
            p5, quarter, median, three_quarters, p95 = np.percentile(
                np.maximum(tokens, 1), [5, 25, 50, 75, 95]
            )
            place, colour = row + shift, _COLOURS[kind]
            axis.plot([p5, p95], [place, place], color=colour, linewidth=1.2, zorder=3)
            axis.plot(
                [quarter, three_quarters],
                [place, place],
                color=colour,
                linewidth=5.5,
                solid_capstyle="butt",
                alpha=0.55,
                zorder=3,
            )
            axis.plot(median, place, "o", color=colour, markersize=5, zorder=4)
    axis.set_ylim(len(runs) - 0.5, -0.5)
    axis.set_yticks(range(len(runs)), [drawable(run, longest=22) for run in runs], fontsize=8)
    axis.grid(visible=False, axis="y")


def _legend(figure: Any, *, cap: int | None, histograms: bool) -> None:
    handles: list[Any] = [
        Patch(facecolor=(colour, 0.22), edgecolor=colour, label=f"{kind} responses")
        for kind, colour in _COLOURS.items()
    ]
    if not histograms:
        handles.append(Line2D([], [], color=INK, marker="o", linestyle="none", label="median"))
        handles.append(Line2D([], [], color=GREY, linewidth=5.5, label="middle half"))
        handles.append(Line2D([], [], color=GREY, linewidth=1.2, label="5th to 95th percentile"))
    if cap is not None:
        handles.append(
            Line2D([], [], color=GREY, linestyle=":", linewidth=1.5, label=f"cap, {cap:,}")
        )
    figure.legend(handles=handles, loc="outside upper left", ncols=3, frameon=False, fontsize=9)
