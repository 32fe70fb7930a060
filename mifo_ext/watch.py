"""A run as it goes on: how far it is, what it gains, what waits in the buffer.

`mifo watch RUN` reads what the run writes (its metrics, its configuration, its log) and never
touches the run itself.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import psutil
from rich.console import Console
from rich.live import Live
from rich.text import Text

from mifo_ext.watch_log import RunLog
from mifo_ext.watch_view import Watch

LOG_FILE = "log.txt"
LOCK_FILE = ".lock"
POLL_S = 0.5
EVERY_S = 10.0


def driver_of(run_folder: Path) -> psutil.Process | None:
    """The process that trains in a folder: it holds the folder's lock file open."""
    lock = str((run_folder / LOCK_FILE).absolute().resolve())
    for process in psutil.process_iter():
        try:
            if any(file.path == lock for file in process.open_files()):
                return process
        except psutil.Error:
            continue  # it ended just now, or belongs to somebody else
    return None


def lives(process: psutil.Process | None) -> bool:
    """Whether a process runs; one that ended but was not waited for does not."""
    try:
        return bool(process and process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def watch(
    run_folder: Path,
    *,
    log: Path | None = None,
    pid: int | None = None,
    every_s: float = EVERY_S,
    console: Console | None = None,
) -> None:
    """Show a run until it ends; one that is not under way is shown as it stands.

    Args:
        run_folder: the run's folder.
        log: the run's output; `log.txt` in its folder if None.
        pid: the training process; the one that holds the folder's lock if None.
        every_s: outside a terminal, seconds between two lines about steps.
        console: where to show it; the terminal if None.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    if not run_folder.is_dir():
        raise FileNotFoundError(f"`{run_folder}` must be a run's folder, but there is none.")
    console = console or Console()
    seen = Watch(run_folder, RunLog(log or run_folder / LOG_FILE))
    driver = _process(pid) if pid else driver_of(run_folder)
    if driver is None and pid is None:
        seen.look()
        console.print(seen.view() if seen.step else Text("no step yet"))
        console.print(Text(f"No run is under way in {run_folder}."))
        return
    if driver:
        with contextlib.suppress(psutil.NoSuchProcess):
            seen.started -= time.time() - driver.create_time()
    _show = _show_live if console.is_terminal else _show_lines
    _show(seen, driver, console, every_s)
    for line in seen.ending():
        console.print(Text(line), soft_wrap=True)


def _show_live(seen: Watch, driver: psutil.Process | None, console: Console, _: float) -> None:
    with Live(console=console, auto_refresh=False) as live:
        while True:
            alive = lives(driver)
            for note in seen.look():
                console.print(Text(note), soft_wrap=True)
            live.update(seen.view(), refresh=True)
            if not alive:
                return
            time.sleep(POLL_S)


def _show_lines(
    seen: Watch, driver: psutil.Process | None, console: Console, every_s: float
) -> None:
    def say(text: str) -> None:
        console.print(Text(f"{seen.elapsed}  {text}"), soft_wrap=True)

    phases, step, said_at = 0, 0, float("-inf")
    first = True
    while True:
        alive = lives(driver)
        for note in seen.look():
            console.print(Text(note), soft_wrap=True)
        if first:  # of what went on before the watch, only where it led
            phases, first = len(seen.log.phases) - (not seen.trains), False
        for phase in seen.log.phases[phases:]:
            say(phase)
        phases = len(seen.log.phases)
        due = time.monotonic() - said_at >= every_s or not alive
        if seen.trains and seen.step != step and due:
            step, said_at = seen.step, time.monotonic()
            say(seen.line())
        if not alive:
            return
        time.sleep(POLL_S)


def _process(pid: int) -> psutil.Process | None:
    try:
        return psutil.Process(pid)
    except psutil.NoSuchProcess:
        return None
