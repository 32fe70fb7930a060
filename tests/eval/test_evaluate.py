"""Drawing and grading: what is interrupted anywhere ends as if it had not been."""

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from mifo_ext.eval import grading
from mifo_ext.eval.folder import read_run
from mifo_ext.eval.run import evaluate
from mifo_ext.eval.sampler import SamplerError
from tests.support.evaluations import contents, run
from tests.support.scripted_sampler import ScriptedSampler, checkpoint, make_plan

ROOT = Path(__file__).parents[2]


def lines_of(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def test_every_planned_sample_is_drawn_once_and_written_in_the_plans_order(tmp_path: Path) -> None:
    sampler = ScriptedSampler()

    run(tmp_path, sampler)

    stored = read_run(tmp_path)
    assert [sample.place for sample in stored.samples] == make_plan().places()
    assert len(sampler.drawn) == len({request.seed for request in sampler.drawn}) == 48
    assert sampler.closed
    assert stored.record["complete"] is True


@pytest.mark.parametrize("dies_after", [0, 3, 21, 45])
def test_an_engine_that_dies_costs_nothing_that_was_finished(
    tmp_path: Path, dies_after: int
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    run(whole)

    with pytest.raises(SamplerError, match=rf"{dies_after} of 48 samples are kept"):
        run(broken, ScriptedSampler(dies_after=dies_after))
    second = ScriptedSampler()
    run(broken, second)

    assert len(second.drawn) == 48 - dies_after
    assert contents(broken) == contents(whole)


@pytest.mark.parametrize("cut", [1, 40, 200, 1000])
def test_a_run_cut_off_while_writing_ends_the_same(tmp_path: Path, cut: int) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    run(whole)
    run(broken)

    for name in ("samples.jsonl", "grades-strict.jsonl"):
        text = (broken / name).read_bytes()
        (broken / name).write_bytes(text[:-cut])
    run(broken)

    assert contents(broken) == contents(whole)


def test_a_crash_while_grading_ends_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    run(whole)
    asked = 0
    known = grading.grade_one

    def dies_at_thirty(ungraded: grading.Ungraded) -> grading.GradeLine:
        nonlocal asked
        asked += 1
        if asked == 30:
            raise KeyboardInterrupt
        return known(ungraded)

    monkeypatch.setattr(grading, "IN_A_ROW", 8)
    monkeypatch.setattr(grading, "grade_one", dies_at_thirty)
    with pytest.raises(KeyboardInterrupt):
        run(broken)
    kept = (broken / "grades-strict.jsonl").read_bytes().count(b"\n")
    run(broken)

    assert kept == 24
    assert asked == 30 + 48 - 24
    assert contents(broken) == contents(whole)


@pytest.mark.slow
def test_a_process_killed_at_any_time_ends_the_same(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    run(whole)
    script = f"""
import sys, time
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from tests.eval.test_evaluate import run
from tests.support.scripted_sampler import ScriptedSampler
class Slow(ScriptedSampler):
    def answer(self, request):
        time.sleep(0.02)
        return super().answer(request)
run(Path({str(broken)!r}), Slow())
"""
    for lines in (5, 17, 33):
        child = subprocess.Popen([sys.executable, "-c", script])
        deadline = time.monotonic() + 60
        while lines_of(broken / "samples.jsonl") < lines and time.monotonic() < deadline:
            time.sleep(0.005)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    sampler = ScriptedSampler()
    run(broken, sampler)

    assert 0 < len(sampler.drawn) <= 48 - 33
    assert contents(broken) == contents(whole)


@pytest.mark.slow
def test_a_disk_that_fills_costs_nothing_that_was_finished(tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    run(whole)
    size = (whole / "samples.jsonl").stat().st_size
    # A limit on file size acts as a full disk: the write that crosses it is cut in the middle.
    script = f"""
import resource, signal, sys
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from tests.eval.test_evaluate import run
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({size // 2}, {size // 2}))
try:
    run(Path({str(broken)!r}))
except OSError as error:
    print(error)
"""
    said = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout

    assert "samples are kept; the same command goes on from there." in said
    assert not (broken / "samples.jsonl").read_bytes().endswith(b"\n")
    second = ScriptedSampler()
    run(broken, second)
    assert 0 < len(second.drawn) < 48
    assert contents(broken) == contents(whole)


def test_a_finished_benchmark_is_shown_while_the_next_is_drawn(tmp_path: Path) -> None:
    said = io.StringIO()

    (result,) = evaluate(
        checkpoint(),
        make_plan(),
        tmp_path,
        sampler=ScriptedSampler,
        graders=["strict"],
        console=Console(file=said, width=80),
        served={},
    )

    value, low, high = (100 * share for share in result.benchmarks[0].accuracy)
    assert f"first: avg@4 {value:.1f} [{low:.1f}, {high:.1f}]\n" in said.getvalue()
    assert "second: avg" not in said.getvalue()
