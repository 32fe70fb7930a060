"""A source of demonstrations that cannot serve is said before the run, with the other problems."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mifo_ext.adapters.checks import problems_of
from mifo_ext.adapters.checks_demonstrations import demonstration_settings
from tests.support.runs import composed, rows, run_folder, write_rows

URL = "interleave.demonstrations.server.url=http://host:8000/v1"
MODEL = "interleave.demonstrations.server.model=teacher"
VARIABLE = "interleave.demonstrations.server.api_key_env"


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """A run on training data without the column `target`."""
    named = run_folder(tmp_path)
    write_rows(tmp_path / "train.parquet", rows(80, target=False))
    return ["+recipe=mifo", "scale=cpu_tiny", *named]


def solutions(folder: Path, *lines: dict[str, Any]) -> str:
    file = folder / "solutions.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return f"interleave.demonstrations.file={file}"


def test_only_the_column_needs_the_column(words: list[str], tmp_path: Path) -> None:
    (problem,) = problems_of(composed(*words))
    assert "must have the columns" in problem
    assert "lacks target" in problem

    file = solutions(tmp_path, {"question": "1+1=", "solution": "\\boxed{2}"})
    assert problems_of(composed(*words, "demos=file", file)) == []
    assert problems_of(composed(*words, "demos=server", URL, MODEL)) == []


@pytest.mark.parametrize("source", ["dataset", "file", "server"])
def test_the_word_chooses_the_source(words: list[str], source: str) -> None:
    needed = {"dataset": [], "file": ["interleave.demonstrations.file=a"], "server": [URL, MODEL]}
    settings = demonstration_settings(composed(*words, f"demos={source}", *needed[source]))

    assert settings is not None
    assert settings.source == source


def test_what_a_word_needs_is_asked_for(words: list[str]) -> None:
    (problem,) = problems_of(composed(*words, "demos=file"))
    assert "`interleave.demonstrations.file` must be the path" in problem

    problems = problems_of(composed(*words, "demos=server"))
    assert [problem.split("`")[1] for problem in problems] == [
        "interleave.demonstrations.server.url",
        "interleave.demonstrations.server.model",
    ]


def test_a_file_that_cannot_serve_is_said_once(words: list[str], tmp_path: Path) -> None:
    def problem_with(word: str) -> str:
        (problem,) = problems_of(composed(*words, "demos=file", word))
        return problem

    missing = problem_with("interleave.demonstrations.file=/nowhere/a.jsonl")
    assert "`interleave.demonstrations.file`: /nowhere/a.jsonl must be a file" in missing
    without = problem_with(solutions(tmp_path, {"question": "1+1=", "answer": "2"}))
    assert "and one with the solution" in without
    broken = solutions(tmp_path, {"question": "1+1=", "solution": "2"})
    with (tmp_path / "solutions.jsonl").open("a") as file:
        file.write('{"question": "1+2')
    assert "`solutions.jsonl, line 2` must be JSON" in problem_with(broken)


def test_a_key_must_be_there(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    config = composed(*words, "demos=server", URL, MODEL, f"{VARIABLE}=TEACHER_KEY")

    monkeypatch.delenv("TEACHER_KEY", raising=False)
    (problem,) = problems_of(config)
    assert "api_key_env` must name an environment variable that holds the key" in problem
    monkeypatch.setenv("TEACHER_KEY", "sk-there")
    assert problems_of(config) == []


def test_a_setting_that_is_wrong_is_said_and_nothing_is_made_of_it(
    words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TEACHER_KEY", raising=False)
    wrong = ["interleave.demonstrations.server.tries=0", f"{VARIABLE}=TEACHER_KEY"]

    (problem,) = problems_of(composed(*words, "demos=server", URL, MODEL, *wrong))
    assert "server.tries` must be a whole number, at least 1, but is 0" in problem


def test_answers_of_an_earlier_start_must_be_readable(words: list[str], tmp_path: Path) -> None:
    config = composed(*words, "demos=server", URL, MODEL)
    kept = tmp_path / "run" / "demonstrations.jsonl"
    kept.parent.mkdir()
    kept.write_text("not an answer\n")

    (problem,) = problems_of(config)
    assert f"{kept} must have a recorded answer in each line, but line 1 is none" in problem
    # What a crash leaves: the end of a line is missing.
    kept.write_text('{"question_id": "a')
    assert problems_of(config) == []


def test_rl_alone_asks_for_no_demonstrations(words: list[str]) -> None:
    assert problems_of(composed("+recipe=grpo", *words[1:])) == []
