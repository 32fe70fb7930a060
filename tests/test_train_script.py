"""scripts/train.sh: a run in its own folder, watched, stopped, killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[1]


PROGRAM = """\
import json, os, signal, sys, time
from pathlib import Path

run = Path(sys.argv[-1].partition("=")[2])
stop = []
signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
print("mifo: recipe mifo, run folder", run)
print("noise of verl")
print("Total training steps: 2")
with (run / "metrics.jsonl").open("w") as file:
    for step in (1, 2):
        file.write(json.dumps({"step": step, "data": {"critic/score/mean": step / 4}}) + "\\n")
        file.flush()
        print(f"step:{step} - a:1")
        (run / f"at-{step}").touch()
        while "wait" in sys.argv and not stop:
            time.sleep(0.02)
        if stop:
            print(f"Stopped on request after step {step}; the checkpoint is saved.")
            sys.exit(0)
if "fail" in sys.argv:
    print("mifo: soon")
    raise ValueError("`x` must be 1, but is 2.")
"""


class Training:
    """`scripts/train.sh` in an environment whose python is the small program above."""

    def __init__(self, tmp_path: Path) -> None:
        self.run = tmp_path / "runs" / "mifo-seed0"
        (tmp_path / "venv/bin").mkdir(parents=True)
        (tmp_path / "program.py").write_text(PROGRAM)
        for name, words in (
            ("python", f"exec '{sys.executable}' '{tmp_path}/program.py'"),
            ("mifo", f"exec '{sys.executable}' -m mifo_ext.cli"),
        ):
            script = tmp_path / "venv/bin" / name
            script.write_text(f'#!/bin/sh\n{words} "$@"\n')
            script.chmod(0o755)
        self.environment = {**os.environ, "VENV": str(tmp_path / "venv"), "COLUMNS": "120"}

    def start(self, *words: str, **environment: str) -> subprocess.Popen[str]:
        # A test run in the background ignores SIGINT, and what it starts would, too.
        command = ["env", "--default-signal=INT", "scripts/train.sh", str(self.run), *words]
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env={**self.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait_until_it_trains(self) -> None:
        deadline = time.monotonic() + 90
        while not (self.run / "at-1").exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)


@pytest.fixture
def training(tmp_path: Path) -> Training:
    return Training(tmp_path)


def test_a_run_shows_its_command_and_its_steps_and_keeps_its_output(training: Training) -> None:
    out, error = (process := training.start("+recipe=mifo")).communicate(timeout=120)

    command = (
        f"python -m verl.trainer.main_ppo +recipe=mifo trainer.default_local_dir={training.run}"
    )
    assert out.startswith(f"$ {command}\n")
    assert "step 2 of 2: rollouts right 50%" in out
    assert out.endswith("Trained: step 2 of 2.\n")
    assert "noise of verl" not in out
    assert f"$ {command}\nmifo: recipe" in (training.run / "log.txt").read_text()
    assert (process.returncode, error) == (0, "")
    assert (training.run / "complete").exists()

    again, _ = training.start("+recipe=mifo").communicate(timeout=120)
    assert "is trained already" in again


def test_verbose_shows_the_output_itself_and_only_that_of_this_start(training: Training) -> None:
    training.run.mkdir(parents=True)
    (training.run / "log.txt").write_text("of an earlier start\n")

    out, _ = training.start(VERBOSE="1").communicate(timeout=120)

    assert "noise of verl\nTotal training steps: 2\nstep:1 - a:1\nstep:2 - a:1\n" in out
    assert "of an earlier start" not in out
    assert "of an earlier start" in (training.run / "log.txt").read_text()


def test_a_failure_shows_its_reason_its_log_and_its_status(training: Training) -> None:
    out, error = (process := training.start("fail")).communicate(timeout=120)

    assert process.returncode == 1
    assert out.endswith("    ValueError: `x` must be 1, but is 2.\n")
    assert error.endswith(f"exit status 1. Its output: {training.run}/log.txt\n")
    assert not (training.run / "complete").exists()


def test_sigterm_is_passed_on_and_a_run_that_stopped_is_not_complete(training: Training) -> None:
    process = training.start("wait")
    training.wait_until_it_trains()
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=120)

    assert process.returncode == 0
    assert "Stopped on request after step 1; the checkpoint is saved." in out
    assert "Stopped after step 1 of 2; the same command goes on from here." in out
    assert not (training.run / "complete").exists()


def test_ctrl_c_ends_the_run_and_what_watches_it(training: Training) -> None:
    process = training.start("wait")
    training.wait_until_it_trains()
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=120)

    assert process.returncode == 130
    assert "Interrupted after step 1 of 2; the same command goes on" in out


def test_a_killed_run_is_said_to_be_killed(training: Training) -> None:
    process = training.start("wait")
    training.wait_until_it_trains()
    (child,) = (
        one for one in psutil.Process(process.pid).children() if "program.py" in str(one.cmdline())
    )
    child.kill()
    _, error = process.communicate(timeout=120)

    assert process.returncode == 137
    assert "perhaps because memory ran out" in error
