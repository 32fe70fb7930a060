"""`mifo eval` for real: vLLM, the embedded model, a process that is killed on the way."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from mifo_ext import world
from mifo_ext.adapters.processes import marked_processes
from tests.support.launch import WORLD

PROBLEMS, SAMPLES = 100, 4

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model() -> Path:
    return world.build(WORLD, progress=False).model


def command(model: Path, out: Path, *words: str) -> list[str]:
    asked = ["--suite", "tiny", "--samples", str(SAMPLES), "--limit", str(PROBLEMS)]
    mifo = [sys.executable, "-m", "mifo_ext.cli", "eval", f"tiny={model}"]
    return [*mifo, *asked, "--out", str(out), *words]


def run(words: list[str]) -> str:
    environment = {**os.environ, "MIFO_WORLD": str(WORLD), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


def lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.is_file() else 0


def wait_for_silence(folder: Path) -> None:
    """Wait until no engine of a run is left, nor its memory."""
    deadline = time.monotonic() + 60
    while left := marked_processes(str(folder.absolute())):
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


def test_a_killed_evaluation_and_a_dead_engine_go_on_and_two_engines_draw_as_one(
    model: Path, tmp_path: Path
) -> None:
    # Few at once, so that there is a middle to be killed in.
    words = command(model, tmp_path / "killed", "--at-once", "4")
    environment = {**os.environ, "MIFO_WORLD": str(WORLD), "OMP_NUM_THREADS": "1"}
    samples = tmp_path / "killed" / "tiny" / "samples.jsonl"
    child = subprocess.Popen(
        words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 300
    while lines(samples) < 20 and time.monotonic() < deadline:
        time.sleep(0.005)
    assert len(marked_processes(str(samples.parent.absolute()))) >= 2
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    wait_for_silence(samples.parent)
    after_kill = lines(samples)
    assert 20 <= after_kill < PROBLEMS * SAMPLES

    second = subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, text=True)
    while lines(samples) < after_kill + 20 and time.monotonic() < deadline + 300:
        time.sleep(0.005)
    for process in psutil.Process(second.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    _, said = second.communicate(timeout=300)
    assert second.returncode == 2, said
    wait_for_silence(samples.parent)
    kept = lines(samples)
    assert f"{kept} of {PROBLEMS * SAMPLES} samples are kept; the same command goes on" in said
    assert "Traceback" not in said

    said = run(words)
    assert f"{PROBLEMS * SAMPLES - kept} of {PROBLEMS * SAMPLES} samples to draw" in said
    assert "avg@4" in said
    run(command(model, tmp_path / "two", "--engines", "2", "--at-once", "4"))

    figures = [
        json.loads((tmp_path / name / "tiny" / "metrics-strict.json").read_text())
        for name in ("killed", "two")
    ]
    one, two = (figure["figures"]["benchmarks"][0] for figure in figures)
    assert one["problems"] == two["problems"] == PROBLEMS
    # A tiny reasoner in fp32: who else is in the batch changes next to no sample.
    assert one["accuracy"]["value"] == pytest.approx(two["accuracy"]["value"], abs=0.03)
    first = (tmp_path / "killed" / "tiny" / "samples.jsonl").read_bytes().splitlines()
    second = (tmp_path / "two" / "tiny" / "samples.jsonl").read_bytes().splitlines()
    same = sum(a == b for a, b in zip(first, second, strict=True))
    assert same > 0.95 * len(first)
