"""The picture of one run: four panels over its steps, drawn without a display."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from mifo_ext.report_accuracy import UNSOLVED_BELOW, Band, bands
from mifo_ext.report_read import Curve, Run
from mifo_ext.report_tables import headline

# Okabe and Ito's palette: told apart with every common kind of colour blindness.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
FLUSH_COLOUR = "#8A8A8A"
_INK = "#333333"
_MARKERS = "osD^vP*"


def colours(names: Iterable[str]) -> dict[str, str]:
    """One colour for each name, in the order given."""
    return dict(zip(dict.fromkeys(names), itertools.cycle(PALETTE), strict=False))


def run_picture(run: Run, path: Path) -> None:
    """Draw accuracy, buffer, SFT loss and held share over the run's steps.

    Args:
        run: what to draw; a panel whose metrics the run lacks says so.
        path: where the PNG goes.
    """
    figure = new_figure(width_in=12.5, height_in=8.4)
    axes = figure.subplots(2, 2)
    _accuracy_panel(axes[0, 0], bands(run.accuracies()))
    _buffer_panel(axes[0, 1], run)
    _loss_panel(axes[1, 0], run)
    _held_panel(axes[1, 1], run)
    for axis in axes.flat:
        axis.set_xlim(-0.02 * run.last_step, 1.02 * max(run.last_step, 1))
    figure.suptitle(literal(headline(run)), x=0.01, ha="left", fontsize=15, weight="bold")
    save(figure, path)


def new_figure(*, width_in: float, height_in: float) -> Any:
    """An empty figure that keeps titles, labels and legends apart."""
    figure = Figure(figsize=(width_in, height_in), dpi=130, layout="constrained")
    engine: Any = figure.get_layout_engine()
    engine.set(w_pad=0.12, h_pad=0.12, wspace=0.04, hspace=0.05)
    return figure


def save(figure: Any, path: Path) -> None:
    """Write the figure as PNG, replacing an older one only when the new one is whole."""
    half = path.with_suffix(".half.png")
    FigureCanvasAgg(figure).print_png(half)
    half.replace(path)


def dress(axis: Any, *, title: str, unit: str) -> None:
    """Give a panel its title, labels and a light grid."""
    axis.set_title(literal(title), loc="left", fontsize=12, color=_INK, weight="bold")
    axis.set_xlabel("training step", color=_INK)
    axis.set_ylabel(literal(unit), color=_INK)
    axis.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True, steps=[1, 2, 5, 10]))
    axis.grid(axis="y", color="#E5E5E5", linewidth=0.8)
    axis.set_axisbelow(True)
    axis.tick_params(colors=_INK, length=3)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axis.spines[side].set_color("#999999")


def in_percent(axis: Any) -> None:
    """Show shares in [0, 1] as per cent, with room for marks at both ends."""
    axis.set_ylim(-0.03, 1.03)
    axis.yaxis.set_major_formatter(PercentFormatter(xmax=1))


def legend_below(axis: Any, *, columns: int) -> None:
    """Put the legend under the panel, where it hides no line."""
    axis.legend(
        loc="upper left",
        bbox_to_anchor=(0, -0.17),
        ncols=columns,
        frameon=False,
        fontsize=9,
        borderaxespad=0,
        handlelength=2.6,
        columnspacing=1.4,
    )


def draw_band(axis: Any, band: Band, *, colour: str, marker: str) -> None:
    """Draw one band's accuracy: dashed and hollow when it was unsolved before training."""
    axis.plot(
        *band.curve,
        color=colour,
        marker=marker,
        markersize=6,
        linewidth=2,
        linestyle="--" if band.unsolved else "-",
        markerfacecolor="white" if band.unsolved else colour,
        label=literal(band.label + (" *" if band.unsolved else "")),
        clip_on=False,
        zorder=3,
    )


def _accuracy_panel(axis: Any, drawn: Sequence[Band]) -> None:
    dress(axis, title="Accuracy on validation questions", unit="answered right")
    in_percent(axis)
    if not drawn:
        _say(axis, "this run has not validated")
        return
    by_skill = colours(band.skill for band in drawn)
    markers = dict(zip(by_skill, itertools.cycle(_MARKERS), strict=False))
    for band in drawn:
        draw_band(axis, band, colour=by_skill[band.skill], marker=markers[band.skill])
    if any(band.unsolved for band in drawn):
        note = f"* below {UNSOLVED_BELOW:.0%} before training"
        axis.set_title(note, loc="right", fontsize=9, color="#777777")
    legend_below(axis, columns=3)


def _buffer_panel(axis: Any, run: Run) -> None:
    dress(axis, title="Hard questions waiting in the buffer", unit="questions, after the step")
    size = run.curve("interleave/buffer/size")
    if not size.steps:
        _say(axis, "this recipe has no buffer")
        return
    axis.fill_between(*size, step="post", color=PALETTE[0], alpha=0.18, linewidth=0)
    axis.step(*size, where="post", color=PALETTE[0], linewidth=1.8, label="waiting")
    axis.set_ylim(0, max([*size.values, 1]) * 1.12)
    axis.yaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 4, 5, 8, 10]))
    for number, step in enumerate(run.flushes):
        label = "SFT interval (the oldest leave)" if number == 0 else None
        axis.axvline(step, color=FLUSH_COLOUR, linestyle=":", linewidth=1.6, label=label)
    legend_below(axis, columns=2)


def _loss_panel(axis: Any, run: Run) -> None:
    intervals = bool(run.curve("interleave/buffer/size").steps)
    title = "SFT intervals" if intervals else "SFT on demonstrations"
    dress(axis, title=title, unit="SFT loss (nats), mean over its updates")
    loss = run.curve("interleave/sft/loss")
    if not loss.steps:
        _say(axis, "no SFT interval in this run" if intervals else "no step of SFT in this run")
        return
    label = "loss of one interval" if intervals else "loss of one step"
    _points(axis, loss, colour=PALETTE[1], marker="o", label=label)
    axis.set_ylim(0, max([*loss.values, 1e-9]) * 1.15)
    legend_below(axis, columns=2)


def _held_panel(axis: Any, run: Run) -> None:
    dress(axis, title="Parameters held still during SFT", unit="share")
    lines = {
        "held, of all": "held_fraction",
        "same as last time (Jaccard)": "jaccard",
        "SFT's squared gradient on them": "gradient_share",
    }
    found = {label: run.curve(f"interleave/hold/{name}") for label, name in lines.items()}
    in_percent(axis)
    if not any(curve.steps for curve in found.values()):
        _say(axis, "no parameters were held in this run")
        return
    for (label, curve), colour, marker in zip(found.items(), PALETTE, _MARKERS, strict=False):
        if curve.steps:
            _points(axis, curve, colour=colour, marker=marker, label=label)
    legend_below(axis, columns=2)


def _points(axis: Any, curve: Curve, *, colour: str, marker: str, label: str) -> None:
    axis.plot(
        *curve,
        color=colour,
        marker=marker,
        markersize=6,
        linewidth=1.8,
        label=label,
        clip_on=False,
        zorder=3,
    )


def _say(axis: Any, text: str) -> None:
    """Write why a panel is empty in its middle."""
    axis.tick_params(labelleft=False, length=0)
    axis.set_ylabel("")
    axis.grid(visible=False)
    axis.text(0.5, 0.5, text, transform=axis.transAxes, ha="center", va="center", color="#777777")


def literal(text: str) -> str:
    """A name as it is: matplotlib reads formulas between dollars and hides what starts with "_"."""
    return (" " if text.startswith("_") else "") + text.replace("$", r"\$")
