"""The report's tables as plain rows, shown by rich in a terminal and by the page in a browser."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mifo_ext.report_accuracy import bands, mean_curve, wilson_interval
from mifo_ext.report_read import Accuracy, Curve, Run

_BLOCKS = "▁▂▃▄▅▆▇█"
_TIMES = "\N{MULTIPLICATION SIGN}"
_NARROW, _WIDE = 10, 24
_STEPS_SHOWN = 8


@dataclass(frozen=True)
class Report:
    """Rows with a heading each, all cells ready to show.

    Attributes:
        title: what the table is about.
        columns: headings; a column whose heading starts with ">" is set flush right.
        rows: one cell a column.
        remark: what a reader has to know, under the table.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    remark: str = ""


def headline(run: Run) -> str:
    """A run in one line: recipe, seed, steps, SFT intervals."""
    seed = "" if run.seed is None else f", seed {run.seed}"
    count = len(run.flushes)
    intervals = f", {count} SFT interval{'s' * (count > 1)}" if count else ""
    return f"{run.recipe}{seed}: {run.last_step} steps{intervals}"


def accuracy_table(run: Run) -> Report:
    """Accuracy before and after training by skill and difficulty.

    Args:
        run: "before" is its first validation, "after" its last.
    """
    accuracies = [accuracy for accuracy in run.accuracies() if accuracy.curve.values]
    rows = [_accuracy_row(accuracy) for accuracy in accuracies]
    if len(accuracies) > 1:
        mean = mean_curve([accuracy.curve for accuracy in accuracies])
        if mean.values:
            rows.append(["all", "mean", "", *_before_after(mean, None), _row_line(mean)])
    steps = [accuracy.curve.steps for accuracy in accuracies]
    remark = ""
    if steps:
        first, last = min(step[0] for step in steps), max(step[-1] for step in steps)
        remark = f"Per cent right; before: step {first}, after: step {last}."
        if any(accuracy.questions for accuracy in accuracies):
            remark += (
                " In brackets: 95 % interval of that one figure (Wilson, from its n questions)."
            )
    return Report(
        title="Accuracy before and after",
        columns=("skill", ">level", ">n", ">before", ">after", ">change", "over steps"),
        rows=rows,
        remark=remark,
    )


def events_table(run: Run) -> Report:
    """What the run did: steps, SFT intervals, buffer, samples, held parameters."""
    rows = [["training steps", f"{run.last_step}", ""]]
    if run.curve("interleave/buffer/size").steps:
        shown = [str(step) for step in run.flushes[:_STEPS_SHOWN]]
        more = " …" if len(run.flushes) > len(shown) else ""
        at = f"at {', '.join(shown)}{more}" if shown else ""
        rows.append(["SFT intervals", f"{len(run.flushes)}", at])
    for label, name, style, summary in _EVENTS:
        curve = run.curve(name)
        if curve.values:
            changing = summary != "total" and len(set(curve.values)) > 1
            line = sparkline(curve) if changing else ""
            rows.append([label, style.format(_SUMMARIES[summary](curve.values)), line])
    return Report(title="What the run did", columns=("", ">", "over steps"), rows=rows)


_SUMMARIES = {
    "total": lambda values: values[-1],  # the metric itself counts on
    "last": lambda values: values[-1],
    "sum": sum,
    "mean": lambda values: sum(values) / len(values),
}
# What is shown, which metric it is, how it is written, and how a run's values become one.
_EVENTS = (
    ("questions used by RL", "interleave/samples/rl", "{:,.0f}", "total"),
    ("demonstrations used", "interleave/samples/sft", "{:,.0f}", "total"),
    ("tokens sampled", "interleave/tokens/rollouts", "{:,.0f}", "total"),
    ("tokens of demonstrations", "interleave/tokens/demonstrations", "{:,.0f}", "total"),
    ("steps of SFT alone", "interleave/phase/sft", "{:,.0f}", "sum"),
    ("questions taught by demonstration", "interleave/mixed/taught_share", "{:.1%}", "mean"),
    ("likelihood's coefficient", "interleave/mixed/coeff", "{:.4g}", "last"),
    ("hard questions seen", "interleave/outcomes/hard", "{:,.0f}", "sum"),
    ("put into the buffer", "interleave/buffer/added", "{:,.0f}", "sum"),
    ("hard again while waiting", "interleave/buffer/repeated", "{:,.0f}", "sum"),
    ("waiting at the end", "interleave/buffer/size", "{:,.0f}", "last"),
    ("mean wait at the end (steps)", "interleave/buffer/age_mean", "{:.1f}", "last"),
    ("last SFT loss (nats)", "interleave/sft/loss", "{:.4f}", "last"),
    ("tokens that carried SFT loss", "interleave/sft/tokens_kept", "{:,.0f}", "sum"),
    ("demonstration length (tokens)", "interleave/sft/demonstration_length", "{:.1f}", "mean"),
    ("parameters held", "interleave/hold/held_fraction", "{:.1%}", "last"),
    ("same as last time (Jaccard)", "interleave/hold/jaccard", "{:.2f}", "last"),
    ("SFT's squared gradient on held", "interleave/hold/gradient_share", "{:.1%}", "mean"),
    ("RL's update norm", "interleave/hold/rl_update_norm", "{:.4g}", "mean"),
    ("SFT's update norm", "interleave/sft/update_norm", "{:.4g}", "mean"),
    ("seconds of SFT", "interleave/seconds/sft", "{:.1f}", "sum"),
    ("seconds of hold", "interleave/seconds/hold", "{:.1f}", "sum"),
    ("seconds of release", "interleave/seconds/release", "{:.1f}", "sum"),
)


def band_sparklines(run: Run) -> list[str]:
    """One line for each band of difficulty: its accuracy over the run, drawn in characters."""
    drawn = bands(run.accuracies())
    width = max((len(band.label) for band in drawn), default=0)
    return [
        f"{band.label:<{width}}  {sparkline(band.curve, low=0, high=1)}  "
        f"{band.curve.values[0]:.0%} → {band.curve.values[-1]:.0%}"
        for band in drawn
        if band.curve.values
    ]


def sparkline(
    curve: Curve, *, low: float | None = None, high: float | None = None, width: int = _WIDE
) -> str:
    """A curve in one line of block characters.

    Args:
        curve: drawn by its order, not by the distance of its steps.
        low: value of the lowest block; the smallest value if None.
        high: value of the highest block; the largest value if None.
        width: most characters, at least 2; of a longer curve, values evenly apart.
    """
    values = curve.values
    if not values:
        return ""
    if len(values) > width:
        last = len(values) - 1
        values = [values[round(i * last / (width - 1))] for i in range(width)]
    bottom = min(values) if low is None else low
    span = (max(values) if high is None else high) - bottom
    if span <= 0:
        return _BLOCKS[0] * len(values)
    shares = (min(max((value - bottom) / span, 0), 1) for value in values)
    return "".join(_BLOCKS[round(share * (len(_BLOCKS) - 1))] for share in shares)


def show(table: Report, console: Console) -> None:
    """Print a table; what is in its cells is text, never markup."""
    shown = Table(
        title=Text(table.title, style="bold"), title_justify="left", box=SIMPLE_HEAD, pad_edge=False
    )
    for column in table.columns:
        right = column.startswith(">")
        shown.add_column(Text(column.lstrip(">")), justify="right" if right else "left")
    for row in table.rows:
        shown.add_row(*(Text(cell) for cell in row))
    console.print(shown)
    if table.remark:
        console.print(Text(table.remark, style="dim"))


def _accuracy_row(accuracy: Accuracy) -> list[str]:
    questions = accuracy.questions
    count = "" if questions is None else str(questions)
    if accuracy.samples > 1:
        count = f"{count} {_TIMES} {accuracy.samples}".strip()
    return [
        accuracy.group.skill,
        "" if accuracy.group.level is None else str(accuracy.group.level),
        count,
        *_before_after(accuracy.curve, questions),
        _row_line(accuracy.curve),
    ]


def _before_after(curve: Curve, questions: int | None) -> list[str]:
    before, after = curve.values[0], curve.values[-1]
    if len(curve.values) == 1:
        return [_share(before, questions), "", ""]
    change = f"{100 * (after - before):+.1f}"
    return [_share(before, questions), _share(after, questions), change]


def _share(share: float, questions: int | None) -> str:
    if not questions or not 0 <= share <= 1:
        return f"{100 * share:.1f}"
    low, high = wilson_interval(share, questions)
    return f"{100 * share:.1f} [{100 * low:.0f}, {100 * high:.0f}]"


def _row_line(curve: Curve) -> str:
    return sparkline(curve, low=0, high=1, width=_NARROW)
