"""No process of a run outlives it.

A run's driver marks its environment; Ray and vLLM pass it on to everything they start. A small
watchdog outside the run ends what still carries the mark when the driver is gone, however it went
(`kill -9` runs no handler), and the next start of the same run looks once more.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any

import psutil
import wrapt

MARK = "MIFO_RUN"
"""Environment variable that names the run's folder in each of its processes."""

START_MARK = "MIFO_RUN_START"
"""Tells one start of a run from the next, which may begin while its watchdog still cleans up."""

GRACE_S = 10.0
"""Seconds that processes get to end by themselves before they are killed."""

LOOK_EVERY_S = 0.5
"""Seconds between two looks of the watchdog at its driver."""

ORDERLY_END_S = 2.0
"""Seconds that Ray needs to end its own processes when a driver ends as it should."""

LOCK_FILE = ".lock"
_locks: list[IO[str]] = []
"""Held while this process lives; the kernel lets go of them when it ends, however it ends."""


def marked_processes(run: str, *, start: str | None = None) -> list[psutil.Process]:
    """Processes of this user that carry a run's mark, without this one and those it stems from.

    Args:
        run: the run's folder.
        start: only those of this start; None takes those of every start.
    """
    wanted = {MARK: run} | ({} if start is None else {START_MARK: start})
    mine = {process.pid for process in [psutil.Process(), *psutil.Process().parents()]}
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid not in mine and wanted.items() <= process.environ().items():
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue  # it ended just now, or belongs to somebody else
    return found


def end_processes(processes: list[psutil.Process], *, grace_s: float = GRACE_S) -> int:
    """Ask processes to end, and kill those that have not after `grace_s` seconds.

    Returns:
        How many there were.
    """
    for ask in (psutil.Process.terminate, psutil.Process.kill):
        for process in filter(_lives, processes):
            with contextlib.suppress(psutil.NoSuchProcess):
                ask(process)
        deadline = time.monotonic() + grace_s
        while any(map(_lives, processes)) and time.monotonic() < deadline:
            time.sleep(0.05)
    return len(processes)


def _lives(process: psutil.Process) -> bool:
    """Whether a process runs. One that ended stays as a zombie until its parent takes note."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def adopt_run(run: Path) -> int:
    """Become the run's driver: lock it, end what a former driver left, start the watchdog.

    Args:
        run: the run's folder; made if missing.

    Returns:
        How many orphans of an earlier start were ended.

    Raises:
        RuntimeError: if another driver of the same run is alive.
    """
    run.mkdir(parents=True, exist_ok=True)
    lock = (run / LOCK_FILE).open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise RuntimeError(
            f"`{run}` is being trained already. Wait for that run, end it, or choose another "
            "trainer.default_local_dir."
        ) from None
    _locks.append(lock)
    return guard(run)


def guard(run: Path) -> int:
    """End what a former start of a run left, mark this process as its driver, start the watchdog.

    Args:
        run: the run's folder; nobody else may be at work there.

    Returns:
        How many orphans of an earlier start were ended.
    """
    name = str(run.absolute())
    ended = end_processes(marked_processes(name))
    # The watchdog must not carry the marks it looks for.
    marks = {MARK: name, START_MARK: f"{os.getpid()}-{time.time_ns()}"}
    environment = {key: value for key, value in os.environ.items() if key not in marks}
    # vLLM names its processes with setproctitle, which writes the name over the marks unless told.
    os.environ.update(marks, SPT_NOENV="1")
    subprocess.Popen(
        [sys.executable, str(Path(__file__)), str(os.getpid()), name, marks[START_MARK]],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    return ended


def stop_on_sigterm(stop_file: Path) -> None:
    """Turn the first SIGTERM into a request to save and stop; the second ends the run at once.

    Ray sets its own handler in `ray.init`, so ours is set when that returns.
    """

    def handler(signum: int, _: Any) -> None:
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        stop_file.parent.mkdir(parents=True, exist_ok=True)
        stop_file.touch()
        print(
            "SIGTERM: the run saves a checkpoint after the current step and ends. "
            "Send it again to end at once.",
            flush=True,
        )

    def after_init(wrapped: Any, _: Any, args: Any, kwargs: Any) -> Any:
        result = wrapped(*args, **kwargs)
        signal.signal(signal.SIGTERM, handler)
        return result

    wrapt.wrap_function_wrapper("ray", "init", after_init)


def watch(driver: int, run: str, start: str) -> None:
    """Wait for a driver to end, then end what carries the marks of this start of its run."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(driver)
        while _lives(process):
            time.sleep(LOOK_EVERY_S)
    time.sleep(ORDERLY_END_S)
    # Processes that were starting just then come to light in a second look.
    while end_processes(marked_processes(run, start=start)):
        time.sleep(1.0)


if __name__ == "__main__":
    watch(int(sys.argv[1]), sys.argv[2], sys.argv[3])
