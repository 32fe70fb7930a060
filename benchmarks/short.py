"""What MIFO costs on this machine, in one table and about a minute.

    python benchmarks/short.py [--entries 1e7] [--repeats 5] [--json FILE]

Each row comes from the script it names, which shows more sizes, memory and alternatives, and is
measured in a process of its own. Whole runs (`whole_runs.py`) and the SFT phase in verl's engine
(`sft_phase.py`) take longer than a minute.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import entropy
import grading
import held_step
import phase_change
import selection
import torch
from measure import device, interleaved, ratio, show
from rich.progress import track
from rich.table import Table
from selection_entries import entries_of
from selection_ranks import over_ranks


class Row(NamedTuple):
    """One figure.

    Attributes:
        what: what is measured.
        against: what it is compared with.
        ratio: ours over the other's.
        limit: the ratio that is aimed at, at most.
        script: where the figure comes from.
    """

    what: str
    against: str
    ratio: float
    limit: float
    script: str


def selected(entries: int, repeats: int) -> Iterator[Row]:
    """Choosing held entries, and what ranks say to each other for it."""
    for kind in selection.KINDS:
        runs = selection.alternatives(entries_of(kind, entries))
        runs.pop("torch.topk", None)
        seconds = interleaved(runs, repeats)
        for name in ("torch.kthvalue", "numpy.partition"):
            what = f"choosing, {kind} entries"
            yield Row(what, name, ratio(seconds["ours"], seconds[name]), 0.25, "selection")
    sent = float(str(over_ranks("tied", 2)["bytes_a_rank"]))
    yield Row("bytes a rank for it", "64 KiB", sent / 2**16, 1.0, "selection")


def phased(entries: int, repeats: int) -> Iterator[Row]:
    """Between RL and SFT, and back."""
    for row in phase_change.measured(entries, repeats, device())[1:]:
        cost = float(str(row["phase_change_over_it"]))
        limit = 1.3 if str(row["name"]).startswith("copying") else 2.0
        yield Row("phase change", str(row["name"]), cost, limit, "phase_change")


def held(entries: int, repeats: int) -> Iterator[Row]:
    """An optimizer step around held entries."""
    for row in held_step.measured(entries, torch.get_num_threads(), repeats, device()):
        if row["name"] in held_step.OURS.values():
            continue
        for moments in held_step.OURS:
            what, cost = f"SFT step, {moments} moments", float(str(row[f"{moments}_over_it"]))
            yield Row(what, f"AdamW: {row['name']}", cost, 1.15, "held_step")


def measured_entropy(repeats: int) -> Iterator[Row]:
    """The entropy of every token of a batch."""
    logits_NV = entropy.logits_of(entropy.Case(256, 32_000, "float32"))
    runs = entropy.alternatives(logits_NV)
    with torch.no_grad():
        seconds = interleaved({name: runs[name] for name in (entropy.OURS, "verl")}, repeats)
    cost = ratio(seconds[entropy.OURS], seconds["verl"])
    yield Row("entropy of 256 tokens", "verl's", cost, 1.0, "entropy")


def graded() -> Iterator[Row]:
    """Grading answers."""
    pairs = grading.make_pairs(2_000, seed=0)
    ours = grading.per_second(grading.grade, pairs)
    library = grading.per_second(grading.math_verify_alone, pairs[:100])
    yield Row("grading an answer", "math-verify", library / ours, 0.2, "grading")


def measured(part: Callable[..., Iterator[Row]], *arguments: int) -> list[Row]:
    """A part's rows; a fresh process runs this, because freed memory makes the next one faster."""
    return list(part(*arguments))


def main() -> None:
    """Measure and show."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=float, default=1e7)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    entries, repeats = int(arguments.entries), arguments.repeats
    parts = [
        (selected, entries, repeats),
        (phased, entries, repeats),
        (held, entries, repeats),
        (measured_entropy, repeats),
        (graded,),
    ]
    rows: list[Row] = []
    for part in track(parts, "measuring", transient=True):
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
            rows += fresh.submit(measured, *part).result()
    table = Table(
        "what", "against", "ours / it", "to reach", "script", title=f"{entries:.0e} entries"
    )
    for row in rows:
        style = "green" if row.ratio <= row.limit else "yellow"
        shown = f"[{style}]{row.ratio:.2f}[/{style}]"
        table.add_row(row.what, row.against, shown, f"≤ {row.limit:.2f}", row.script)
    show("short", [table], [row._asdict() for row in rows], file=arguments.json)


if __name__ == "__main__":
    main()
