"""An SFT step around held entries, against clipping and stepping with torch's own AdamW.

    python benchmarks/held_step.py [--entries 1e6 1e7] [--threads 1 2] [--repeats 7]
                                   [--device cpu] [--json FILE]

Ours is `ParameterHold.step` with half of the entries held: norms over live and held entries,
clipping, AdamW on live entries, the norm of the change. The alternatives hold nothing and report
nothing: `clip_grad_norm_` and a step of `torch.optim.AdamW`, in the implementation that it chooses
for the device itself, which verl's optimizer is, and in its `fused` one. All step the same weights.
The gradients' norm is never under the limit, so that ours multiplies by a clip factor, as
`clip_grad_norm_` always does; ratios are medians over rounds. On an accelerator SFT's own moments
come from host memory and go back with each step; `shared` ones are RL's and lie on the device.
Under `processor` stands the time that all threads were at work, which other programs on the
machine disturb less.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from measure import decoder_like, device, interleaved, ratio, show
from rich.table import Table
from torch import nn

from mifo_ext.adapters.hold import ParameterHold
from mifo_ext.adapters.hold_settings import SftOptimizerSettings
from mifo_ext.settings import HoldSettings

OURS = {"own": "ours, own", "shared": "ours, shared"}
LR = 1e-5
CLIP_NORM = 0.1
HELD = HoldSettings(entries="moved_most", fraction=0.5, decay=0.5, mode="exact", seed=0)


def engaged(module: nn.Module, moments: str, rl_optimizer: torch.optim.AdamW) -> ParameterHold:
    """A hold on half of the module's entries, after an RL phase that moved them all."""
    settings = SftOptimizerSettings(clip_norm=CLIP_NORM, moments=moments)
    hold = ParameterHold(module, HELD, settings, rl_optimizer=rl_optimizer)
    hold.begin_phase()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=1e-4)
    hold.engage()
    return hold


def alternatives(entries: int, device: torch.device) -> dict[str, Callable[[], object]]:
    """What is measured, on one module, so that a billion entries fit a device."""
    module = decoder_like(entries, device)
    default = torch.optim.AdamW(module.parameters(), lr=LR)
    fused = torch.optim.AdamW(module.parameters(), lr=LR, fused=True)

    def clipped(step: Callable[[], object]) -> Callable[[], None]:
        def clip_and_step() -> None:
            torch.nn.utils.clip_grad_norm_(module.parameters(), CLIP_NORM)
            step()

        return clip_and_step

    clipped(default.step)()  # makes the moments that are shared
    holds = {name: engaged(module, moments, default) for moments, name in OURS.items()}
    runs: dict[str, Callable[[], object]] = {
        name: partial(hold.step, lr=LR) for name, hold in holds.items()
    }
    return runs | {"torch": clipped(default.step), "fused": clipped(fused.step)}


def timed_at_work(run: Callable[[], object], seconds: list[float]) -> Callable[[], None]:
    """The same, and note how long the process's threads were at work."""

    def noted() -> None:
        started = time.process_time()
        run()
        seconds.append(time.process_time() - started)

    return noted


def measured(
    entries: int, threads: int, repeats: int, device: torch.device
) -> list[dict[str, object]]:
    """One row an alternative."""
    torch.set_num_threads(threads)
    runs = alternatives(entries, device)
    at_work: dict[str, list[float]] = {name: [] for name in runs}
    noted = {name: timed_at_work(run, at_work[name]) for name, run in runs.items()}
    seconds = interleaved(noted, repeats)
    return [
        {
            "entries": entries,
            "threads": threads,
            "name": name,
            "seconds": statistics.median(taken),
            "processor_seconds": statistics.median(at_work[name][-repeats:]),
            **{f"{moments}_over_it": ratio(seconds[ours], taken) for moments, ours in OURS.items()},
            **{
                f"{moments}_over_it_processor": ratio(
                    at_work[ours][-repeats:], at_work[name][-repeats:]
                )
                for moments, ours in OURS.items()
            },
        }
        for name, taken in seconds.items()
    ]


def shown(rows: list[dict[str, object]]) -> Table:
    """The rows as a table."""
    table = Table(
        "entries", "threads", "", "ns an entry", "own / it", "shared / it",
        "processor", "own / it", "shared / it",
    )  # fmt: skip
    for row in rows:
        entries = float(str(row["entries"]))
        table.add_row(
            f"{entries:.0e}",
            f"{row['threads']}",
            f"{row['name']}",
            f"{float(str(row['seconds'])) / entries * 1e9:.2f}",
            *(f"{row[f'{moments}_over_it']:.2f}" for moments in OURS),
            f"{float(str(row['processor_seconds'])) / entries * 1e9:.2f}",
            *(f"{row[f'{moments}_over_it_processor']:.2f}" for moments in OURS),
        )
    return table


def main() -> None:
    """Measure and show."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--entries", type=float, nargs="+", default=[1e6, 1e7])
    parser.add_argument("--threads", type=int, nargs="+", default=[torch.get_num_threads()])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--device", help="the accelerator where there is one")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    on = torch.device(arguments.device) if arguments.device else device()
    rows = [
        row
        for entries in arguments.entries
        for threads in arguments.threads
        for row in measured(int(entries), threads, arguments.repeats, on)
    ]
    threads = " ".join(map(str, arguments.threads))
    show("held_step", [shown(rows)], rows, file=arguments.json, threads=threads, device=str(on))


if __name__ == "__main__":
    main()
