"""A whole phase change of the hold, against one AdamW step over the same parameters.

    python benchmarks/phase_change.py [--entries 1e7 1e8] [--repeats 5] [--json FILE]

Phase change: what `+recipe=mifo` does between RL and SFT and back, `engage` (importance, history,
the exact choice, the packed mask), `release` and `begin_phase` (the snapshot). Before each run
every weight moves by a normal number of its own, as after several RL steps. The alternative:
one step of `torch.optim.AdamW(fused=True)` and of its default. On an accelerator, copying what the
hold keeps in host memory there and back once stands beside them.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path

import torch
from measure import decoder_like, device, interleaved, peak_rise_bytes, ratio, show
from rich.table import Table

from mifo_ext.adapters.hold import ParameterHold
from mifo_ext.adapters.hold_settings import SftOptimizerSettings
from mifo_ext.settings import HoldSettings


def measured(entries: int, repeats: int, on: torch.device) -> list[dict[str, object]]:
    """One row for each thing that is timed."""
    module = decoder_like(entries, on)
    settings = HoldSettings(entries="moved_most", fraction=0.5, decay=0.5, mode="exact", seed=0)
    hold = ParameterHold(module, settings, SftOptimizerSettings())
    fused = torch.optim.AdamW(module.parameters(), lr=1e-6, fused=True)
    default = torch.optim.AdamW(module.parameters(), lr=1e-6)
    hold.begin_phase()
    fused.step()

    @torch.no_grad()
    def move() -> None:
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=1e-6)

    def phase_change() -> None:
        hold.engage()
        hold.release()
        hold.begin_phase()

    timed: dict[str, Callable[[], object]] = {
        "phase change": phase_change,
        "AdamW step, fused": fused.step,
        "AdamW step, torch's default": default.step,
    }
    if on.type != "cpu":
        host = [torch.empty(p.numel(), pin_memory=True) for p in module.parameters()] * 2
        place = torch.empty(max(part.numel() for part in host), device=on)

        def copy_once() -> None:
            for part in host:
                place[: part.numel()].copy_(part, non_blocking=True)
                part.copy_(place[: part.numel()], non_blocking=True)

        timed["copying snapshot and history once"] = copy_once
    seconds = interleaved(timed, repeats, prepare=move)
    memory = device_memory(hold, move, entries) if on.type != "cpu" else {}
    return [
        memory
        | {
            "entries": entries,
            "device": on.type,
            "name": name,
            "seconds": statistics.median(taken),
            "phase_change_over_it": ratio(seconds["phase change"], taken),
        }
        for name, taken in seconds.items()
    ]


def device_memory(
    hold: ParameterHold, move: Callable[[], object], entries: int
) -> dict[str, float]:
    """What the hold takes of a device: bits an entry while SFT lasts, MiB for a moment beside."""
    move()
    before = torch.accelerator.memory_allocated()
    rise = peak_rise_bytes(hold.engage)
    stays = torch.accelerator.memory_allocated() - before
    step = peak_rise_bytes(lambda: hold.step(lr=1e-6))
    hold.release()
    return {
        "resident_bits_an_entry": 8 * stays / entries,
        "transient_mib": max(rise - stays, step) / 2**20,
    }


def main() -> None:
    """Measure and show."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=float, nargs="+", default=[1e7, 1e8])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = [
        row
        for count in arguments.entries
        for row in measured(int(count), arguments.repeats, device())
    ]
    table = Table("entries", "", "seconds", "ns an entry", "phase change / it")
    for row in rows:
        seconds, count = float(str(row["seconds"])), int(str(row["entries"]))
        table.add_row(
            f"{count:.0e}",
            str(row["name"]),
            f"{seconds:.3f}",
            f"{seconds / count * 1e9:.2f}",
            f"{row['phase_change_over_it']:.2f}",
        )
    tables = [table]
    if "transient_mib" in rows[0]:
        tables.append(Table("entries", "bits an entry stay", "MiB for a moment"))
        for row in (row for row in rows if row["name"] == "phase change"):
            tables[1].add_row(
                f"{row['entries']:.0e}",
                f"{row['resident_bits_an_entry']:.2f}",
                f"{row['transient_mib']:.0f}",
            )
    show("phase_change", tables, rows, file=arguments.json)


if __name__ == "__main__":
    main()
