"""What the pictures of an evaluation share: panels, colours, names that any font can draw."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

from matplotlib.font_manager import FontProperties, findfont, get_font

from mifo_ext.eval.table_text import visible_line
from mifo_ext.report_picture import colours, literal, new_figure

INK, GREY = "#333333", "#777777"
_MARKERS = "osD^vP*"
_NAME_LONGEST = 38
_PANELS_ABREAST = 3
_PANEL_WIDTH_IN = 4.1


class Style(NamedTuple):
    """How a run is drawn in every picture."""

    colour: str
    marker: str


class Panels(NamedTuple):
    """A figure and as many of its panels as were asked for."""

    figure: Any
    axes: list[Any]


def styles(names: Sequence[str]) -> dict[str, Style]:
    """A colour and a marker for each run: one of them is enough to tell it."""
    markers = itertools.cycle(_MARKERS)
    return {name: Style(colour, next(markers)) for name, colour in colours(names).items()}


def panels(count: int, *, height_in: float) -> Panels:
    """A figure of small panels, three abreast at most.

    Args:
        count: of panels, at least one.
        height_in: of one panel, its title and axis included.
    """
    abreast = 2 if count == 4 else min(count, _PANELS_ABREAST)
    rows = math.ceil(count / abreast)
    figure = new_figure(
        width_in=max(_PANEL_WIDTH_IN * abreast, 6), height_in=height_in * rows + 0.6
    )
    axes = list(figure.subplots(rows, abreast, squeeze=False).flat)
    for spare in axes[count:]:
        spare.set_visible(False)
    return Panels(figure, axes[:count])


def dress_panel(axis: Any, *, title: str, x_label: str) -> None:
    """Give a panel its title, the label of its x axis and a light grid."""
    axis.set_title(drawable(title), loc="left", fontsize=11, color=INK, weight="bold")
    axis.set_xlabel(x_label, color=INK, fontsize=9)
    axis.grid(color="#E5E5E5", linewidth=0.8)
    plain_frame(axis)


def plain_frame(axis: Any) -> None:
    """Leave of the frame only the two sides that carry numbers."""
    axis.set_axisbelow(True)
    axis.tick_params(colors=INK, length=3, labelsize=9)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axis.spines[side].set_color("#999999")


def drawable(name: str, *, longest: int = _NAME_LONGEST) -> str:
    """A name as a picture can show it: no formula, no missing glyph, not too long.

    Args:
        name: anything.
        longest: characters; the middle of a longer name is left out, since runs differ at the end.
    """
    text = visible_line(name)
    if len(text) > longest:
        tail = longest // 2
        text = f"{text[: longest - tail - 1]}…{text[-tail:]}"
    # A glyph that the font lacks is a warning of matplotlib's, and an error where those count.
    return literal("".join(c if _has_glyph(c) else "\N{WHITE SQUARE}" for c in text))


@cache
def _has_glyph(character: str) -> bool:
    font: Any = get_font(findfont(FontProperties()))
    return bool(font.get_char_index(ord(character)))
