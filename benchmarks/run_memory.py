"""The memory that all processes of a run take together, at its highest.

    python benchmarks/run_memory.py RUN_FOLDER [--seconds 600]

Start it beside a run. It adds up the proportional set size (shared pages counted once) of every
process that carries the run's mark, every five seconds, and prints the highest sum at the end.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from pathlib import Path

import psutil

from mifo_ext.adapters.processes import marked_processes

EVERY_S = 5.0


def memory_gib(run: str) -> float:
    """Proportional set size of a run's processes now, in GiB."""
    total = 0
    for process in marked_processes(run):
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            total += process.memory_full_info().pss
    return total / 2**30


def main() -> None:
    """Watch, then print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--seconds", type=float, default=600)
    arguments = parser.parse_args()
    run, end, highest = str(arguments.run.absolute()), time.monotonic() + arguments.seconds, 0.0
    while time.monotonic() < end:
        highest = max(highest, memory_gib(run))
        time.sleep(EVERY_S)
    print(f"{run}: at most {highest:.1f} GiB")


if __name__ == "__main__":
    main()
