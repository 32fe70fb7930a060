"""The process that runs math-verify: bounded, killed, replaced, shared between threads."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mifo_ext.grading import grade, library
from mifo_ext.grading.library import WORKERS_AT_MOST, WorkerPool
from mifo_ext.grading.risk import risk_of

SLOW = "9^{9^{9^{9}}}"


@pytest.fixture
def pool() -> Iterator[WorkerPool]:
    fresh = WorkerPool()
    yield fresh
    fresh.close()


def alive(process: int) -> bool:
    """Whether a process runs; one that ended and waits to be reaped does not."""
    try:
        status = Path(f"/proc/{process}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] != "Z"


def test_equal_expressions_are_the_same(pool: WorkerPool) -> None:
    assert pool.ask("equal", "x^2", "x \\cdot x", timeout_s=20) == "same"
    assert pool.ask("equal", "x^2", "x^3", timeout_s=20) == "different"


def test_a_number_found_in_an_unreadable_formula_is_not_the_formula(pool: WorkerPool) -> None:
    # math-verify reads the last side of a chain that it cannot parse.
    assert pool.ask("equal", "2", "y = \\frac{x = 2", timeout_s=20) == "unreadable"


def test_a_question_without_end_is_stopped_and_the_worker_goes_on(pool: WorkerPool) -> None:
    pool.ask("equal", "x", "x", timeout_s=20)
    [process] = pool.process_ids()
    started = time.perf_counter()

    assert pool.ask("equal", SLOW, "3", timeout_s=0.5) == "timeout"

    assert time.perf_counter() - started < 5
    assert pool.process_ids() == [process]
    assert pool.ask("equal", "x^2", "x \\cdot x", timeout_s=20) == "same"


def test_memory_is_bounded(pool: WorkerPool) -> None:
    answer = pool.ask("equal", "\\binom{10^9}{5}!", "3", timeout_s=2)

    assert answer in ("out of memory", "timeout", "different", "unreadable", "died")
    assert pool.ask("equal", "x", "x", timeout_s=20) == "same"


def test_a_killed_worker_is_replaced(pool: WorkerPool) -> None:
    pool.ask("equal", "x", "x", timeout_s=20)
    [first] = pool.process_ids()
    os.kill(first, signal.SIGKILL)

    assert pool.ask("equal", "x", "x", timeout_s=20).startswith("died")
    assert pool.ask("equal", "x", "x", timeout_s=20) == "same"
    [second] = pool.process_ids()
    assert second != first


def test_threads_share_a_bounded_number_of_workers(pool: WorkerPool) -> None:
    said: list[str] = []
    threads = [
        threading.Thread(target=lambda: said.append(pool.ask("equal", "y", "y", timeout_s=20)))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert said == ["same"] * 6
    assert 1 <= len(pool.process_ids()) <= WORKERS_AT_MOST


def test_closing_ends_the_processes() -> None:
    pool = WorkerPool()
    pool.ask("equal", "x", "x", timeout_s=20)
    processes = pool.process_ids()

    pool.close()

    assert processes
    assert not any(alive(process) for process in processes)


def test_a_worker_ends_with_the_process_that_started_it() -> None:
    code = (
        "import os, signal\n"
        "from mifo_ext.grading import library\n"
        "library.pool.ask('equal', 'x', 'x', timeout_s=20)\n"
        "print(library.pool.process_ids()[0], flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    process = int(done.stdout)

    deadline = time.monotonic() + 20
    while alive(process) and time.monotonic() < deadline:
        time.sleep(0.05)

    assert done.returncode == -signal.SIGKILL
    assert not alive(process)


def test_an_answer_that_times_out_is_reported_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library.pool, "ask", lambda *_, **__: "timeout")

    graded = grade("\\boxed{\\foo x}", "\\foo y")

    assert (graded.verdict, graded.path) == ("timeout", "symbolic")


def test_a_library_that_fails_is_an_error_and_no_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library.pool, "ask", lambda *_, **__: "out of memory")

    assert grade("\\boxed{\\foo x}", "\\foo y").verdict == "error"


def test_integers_start_no_process() -> None:
    library.pool.close()

    for answer in range(50):
        grade(f"\\boxed{{{answer}}}", "25")

    assert library.pool.process_ids() == []


@pytest.mark.parametrize(
    "text",
    [
        "9^{9^{9}}",
        "2^2^2",
        "x^{12345678}",
        "100000!",
        "(3!)!",
        "\\sum_{k=1}^{100} k",
        "\\int_0^1 x dx",
        "{" * 30 + "1" + "}" * 30,
        "1" * 400,
        "x" * 1001,
        "4 2",
        "the answer",
        "\\text{prose}",
    ],
)
def test_risky_text_never_reaches_the_library(text: str) -> None:
    assert risk_of(text) is not None


@pytest.mark.parametrize(
    "text", ["x^{10}", "\\frac{1}{2}", "5!", "\\begin{cases} x & y \\end{cases}"]
)
def test_ordinary_text_may_reach_the_library(text: str) -> None:
    assert risk_of(text) is None
