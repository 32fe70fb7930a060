"""`mifo eval`, `mifo regrade` and `mifo compare`, as far as no engine is needed."""

import json
from pathlib import Path

import pytest
from rich.console import Console

from mifo_ext import cli
from mifo_ext.eval.record import Request, Sample
from mifo_ext.eval.run import evaluate
from mifo_ext.eval.sampler import finished
from tests.support.scripted_sampler import ScriptedSampler, checkpoint, make_plan
from tests.support.tiny_model import write_tiny_model

WRITTEN = ("report.html", "report.md", "accuracy.png", "lengths.png", "passes.png")


class Better(ScriptedSampler):
    def answer(self, request: Request) -> Sample:
        text = f"seed {request.seed} \\boxed{{7}}"
        return finished(request, response=text, tokens=9, finish="stop")


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    """A better model and a worse one."""
    from dataclasses import replace

    folders = [tmp_path / "better", tmp_path / "worse"]
    for folder, sampler in zip(folders, (Better(), ScriptedSampler()), strict=True):
        evaluate(
            replace(checkpoint(folder.name), name=folder.name),
            make_plan(),
            folder,
            sampler=lambda sampler=sampler: sampler,
            graders=["strict"],
            console=Console(quiet=True),
            served={},
        )
    return folders


def test_a_comparison_is_shown_and_written(
    runs: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["compare", *map(str, runs)]) == 0

    said, into = capsys.readouterr().out, runs[0].parent / "comparison"
    assert "Difference from worse" in said
    assert all((into / name).stat().st_size > 0 for name in WRITTEN)
    rows = json.loads((into / "differences.json").read_text())
    assert [row["benchmark"] for row in rows] == ["first", "second", "average"]
    assert all(row["difference"]["value"] > 0.3 and row["run"] == "better" for row in rows)


def test_regrading_shows_the_other_graders_figures(
    runs: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["regrade", str(runs[0]), "--grader", "lenient"]) == 0

    assert "graded by lenient" in capsys.readouterr().out
    assert (runs[0] / "metrics-lenient.json").is_file()


def test_a_grader_that_was_not_asked_is_an_error_with_its_command(
    runs: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["compare", *map(str, runs), "--grader", "lenient"]) == 2

    assert f"`mifo regrade {runs[0]} --grader lenient`" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["compare", "RUN"], "must be given two runs or more"),
        (["compare", "RUN", "nowhere"], "must be the folder of an evaluation"),
        (["regrade", "nowhere"], "must be the folder of an evaluation"),
        (["regrade", "RUN", "--grader", "oat"], "Unknown grader 'oat'"),
        (["eval", "nowhere", "--suite", "maths"], "Unknown benchmark 'maths'"),
        (["eval", "nowhere", "--suite", "gsm8k"], "or a hub id such as owner/name"),
        (["eval", "nowhere", "nowhere", "--suite", "gsm8k"], "given once"),
        (["eval", "nowhere", "--data", "gsm8k=nofile"], "`--data` must name a file or folder"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    runs: list[Path], words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([str(runs[0]) if word == "RUN" else word for word in words]) == 2

    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error


def test_a_model_too_short_for_the_suite_is_said_before_an_engine_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = write_tiny_model(tmp_path / "model")
    rows = ({"question": f"What is {n}+1?", "answer": f"#### {n + 1}"} for n in range(1319))
    text = "\n".join(json.dumps(row) for row in rows)
    (tmp_path / "gsm8k.jsonl").write_text(text)

    words = ["eval", str(model), "--suite", "gsm8k", "--data", str(tmp_path / "gsm8k.jsonl")]
    assert cli.main([*words, "--out", str(tmp_path / "out")]) == 2

    assert "the model's context is 64. Give --max-tokens" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_two_checkpoints_of_one_name_are_refused_before_an_engine_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for parent in ("a", "b"):
        write_tiny_model(tmp_path / parent / "model")

    words = ["eval", str(tmp_path / "a" / "model"), str(tmp_path / "b" / "model")]
    assert cli.main([*words, "--suite", "tiny", "--out", str(tmp_path / "out")]) == 2

    assert "the same name" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
