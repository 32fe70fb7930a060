"""What the benchmarks share: interleaved timing, peak memory, a model, tables and JSON."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import nn


def interleaved(
    alternatives: Mapping[str, Callable[[], object]],
    repeats: int,
    *,
    prepare: Callable[[], object] | None = None,
) -> dict[str, list[float]]:
    """Time alternatives in turns, so that what else the machine does meets all of them alike.

    Every round begins with another alternative. One round before the first is not counted.

    Args:
        alternatives: by name, what to time. Accelerator work counts until it is done.
        repeats: number of rounds, each of which runs every alternative once.
        prepare: called before each run, outside the time taken.

    Returns:
        By name, the seconds of each round.
    """
    seconds: dict[str, list[float]] = {name: [] for name in alternatives}
    names = list(alternatives)
    for turn in range(-1, repeats):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            if prepare is not None:
                prepare()
            wait()
            started = time.perf_counter()
            alternatives[name]()
            wait()
            if turn >= 0:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def ratio(ours_s: Sequence[float], theirs_s: Sequence[float]) -> float:
    """How many times as long ours takes: the median over rounds of the ratio within a round."""
    return statistics.median(a / b for a, b in zip(ours_s, theirs_s, strict=True))


def wait() -> None:
    """Wait for the accelerator, if there is one."""
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()


def machine() -> dict[str, str]:
    """What the numbers depend on: processor, threads, accelerator, versions."""
    found = {
        "cpu": _processor(),
        "threads": str(torch.get_num_threads()),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    if torch.accelerator.is_available():
        device = torch.accelerator.current_accelerator()
        assert device is not None
        found["accelerator"] = torch.get_device_module(device).get_device_name()
    return found


def show(
    name: str,
    tables: Sequence[Table],
    rows: Sequence[Mapping[str, object]],
    *,
    file: Path | None,
    **about: str,
) -> None:
    """Print a benchmark's tables and the machine, and write its rows as JSON if a file is given."""
    found = machine() | about
    console = Console(width=100)
    for table in tables:
        console.print(table)
    console.print(" · ".join(f"{key} {value}" for key, value in found.items()))
    if file:
        content = {"benchmark": name, "machine": found, "rows": [dict(row) for row in rows]}
        file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def decoder_like(entries: int, device: torch.device) -> nn.Module:
    """Matrices and norms of a decoder's shapes, so many entries in all, with gradients."""
    width = 1024 if entries < 1e9 else 2048
    module = nn.Module()
    draw = torch.Generator(device).manual_seed(0)
    shapes = [(4 * width, width), (width, width), (width,)]
    left, number = entries, 0
    while left > 0:
        shape = shapes[number % len(shapes)]
        if torch.Size(shape).numel() > left:
            shape = (left,)
        parameter = nn.Parameter(torch.empty(shape, device=device))
        parameter.data.normal_(0, 0.02, generator=draw)
        parameter.grad = torch.empty(shape, device=device).normal_(0, 1e-3, generator=draw)
        module.register_parameter(f"w{number}", parameter)
        left, number = left - parameter.numel(), number + 1
    return module


def device() -> torch.device:
    """The accelerator, where there is one."""
    return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")


def peak_rise_bytes(run: Callable[[], object], *, host: bool = False) -> int:
    """How far memory in use rises above what it is now while `run` runs.

    On an accelerator, unless the `host` is asked for, that is what torch allocates there. Else it
    is this process's resident memory, as Linux keeps it: run it by `in_tidy_process`, because
    pages that the process freed but kept would count as none.
    """
    if torch.accelerator.is_available() and not host:
        before = torch.accelerator.memory_allocated()
        torch.accelerator.reset_peak_memory_stats()
        run()
        return int(torch.accelerator.max_memory_allocated() - before)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak is the present again
    before = _status_bytes("VmRSS")
    run()
    return max(0, _status_bytes("VmHWM") - before)


def in_tidy_process(function: Callable[..., Any], *arguments: object) -> Any:
    """Call `function(*arguments)` in a fresh process that gives freed memory back at once."""
    settings = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"}  # of glibc
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
            return fresh.submit(function, *arguments).result()
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def _status_bytes(name: str) -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"`name` must be a line of /proc/self/status, but is {name}.")


def _processor() -> str:
    """The processor's name as Linux has it, or what Python knows."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
