"""No process of a run outlives it, however its driver goes: with real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from mifo_ext.adapters import processes

# A driver as Ray sees one: it becomes the run's, then starts children with children of their own,
# in sessions of their own.
DRIVER = """
import subprocess, sys, time
from pathlib import Path
from mifo_ext.adapters import processes

ended = processes.adopt_run(Path(sys.argv[1]))
child = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', " \\
        "'import time; time.sleep(300)']); time.sleep(300)"
subprocess.Popen([sys.executable, "-c", child], start_new_session=True)
print("adopted", ended, flush=True)
time.sleep(300)
"""


def wait_until(true: Callable[[], bool], *, seconds: float = 20.0) -> bool:
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def start(run: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", DRIVER, str(run)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def marked(run: Path) -> int:
    return len(processes.marked_processes(str(run.absolute())))


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Path]:
    """A run's folder; nothing of it is left behind, whatever the test does."""
    yield tmp_path / "run"
    processes.end_processes(processes.marked_processes(str(tmp_path / "run")), grace_s=0.5)


def stop(driver: subprocess.Popen[str]) -> None:
    driver.kill()
    driver.communicate(timeout=30)


def test_when_a_driver_is_killed_its_children_and_theirs_are_ended(run: Path) -> None:
    driver = start(run)
    assert driver.stdout is not None
    assert driver.stdout.readline() == "adopted 0\n"
    # The driver marked itself too late for the system to show it; its children carry the mark.
    assert wait_until(lambda: marked(run) == 2)

    os.kill(driver.pid, signal.SIGKILL)

    # Also while the driver is a zombie: a parent may take its time to ask for it.
    assert wait_until(lambda: marked(run) == 0)
    assert psutil.Process(driver.pid).status() == psutil.STATUS_ZOMBIE
    driver.communicate()


def test_the_watchdog_of_one_start_leaves_the_next_start_alone(run: Path) -> None:
    first = start(run)
    assert first.stdout is not None
    assert first.stdout.readline() == "adopted 0\n"
    assert wait_until(lambda: marked(run) == 2)
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    second = start(run)
    assert second.stdout is not None
    assert second.stdout.readline().startswith("adopted ")
    assert wait_until(lambda: marked(run) == 2)

    # Longer than the first start's watchdog takes to strike.
    time.sleep(processes.LOOK_EVERY_S + processes.ORDERLY_END_S + 1.0)

    assert marked(run) == 2
    stop(second)


def test_a_second_driver_of_the_same_run_is_refused_and_the_first_goes_on(run: Path) -> None:
    driver = start(run)
    assert driver.stdout is not None
    driver.stdout.readline()
    assert wait_until(lambda: marked(run) == 2)

    second = subprocess.run(
        [sys.executable, "-c", DRIVER, str(run)], capture_output=True, text=True, timeout=30
    )

    assert second.returncode == 1
    assert f"`{run}` is being trained already" in second.stderr
    assert marked(run) == 2
    stop(driver)


def test_the_next_start_ends_what_a_driver_without_watchdog_left(run: Path) -> None:
    environment = {**os.environ, processes.MARK: str(run.absolute())}
    orphan = subprocess.Popen(["sleep", "300"], env=environment, start_new_session=True)
    stranger = subprocess.Popen(["sleep", "300"], start_new_session=True)

    driver = start(run)
    assert driver.stdout is not None

    assert driver.stdout.readline() == "adopted 1\n"
    assert orphan.wait(5) == -signal.SIGTERM
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()
    stop(driver)


def test_a_process_that_ignores_the_request_is_killed(tmp_path: Path) -> None:
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); " \
               "print(1, flush=True); time.sleep(300)"  # fmt: skip
    child = subprocess.Popen([sys.executable, "-c", stubborn], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()

    assert processes.end_processes([psutil.Process(child.pid)], grace_s=0.3) == 1
    assert child.wait(5) == -signal.SIGKILL
    child.stdout.close()


def test_a_process_that_is_gone_already_is_no_error() -> None:
    child = subprocess.Popen(["true"])
    process = psutil.Process(child.pid)
    child.wait()

    assert processes.end_processes([process], grace_s=0.1) == 1


STOPPING = """
import os, signal, sys, time
from pathlib import Path
import ray
from mifo_ext.adapters import processes

processes.stop_on_sigterm(Path(sys.argv[1]))
before = signal.getsignal(signal.SIGTERM)
ray.is_initialized()
assert signal.getsignal(signal.SIGTERM) is before, "set when Ray has set its own"
ray.init(num_cpus=1, num_gpus=0, include_dashboard=False, log_to_driver=False)
os.kill(os.getpid(), signal.SIGTERM)
time.sleep(0.2)
print("asked", Path(sys.argv[1]).exists(), flush=True)
try:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(5)
except KeyboardInterrupt:
    print("ended", flush=True)
ray.shutdown()
"""


@pytest.mark.slow
def test_the_first_sigterm_asks_for_a_checkpoint_and_the_second_ends(tmp_path: Path) -> None:
    stop_file = tmp_path / "run" / "stop-requested"

    done = subprocess.run(
        [sys.executable, "-c", STOPPING,
         str(stop_file)],
        capture_output=True, text=True, timeout=90,
    )  # fmt: skip

    assert "asked True" in done.stdout, done.stderr
    assert done.stdout.rstrip().endswith("ended")
