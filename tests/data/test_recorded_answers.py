"""Verified answers outlive the process that asked for them, whatever moment it dies at."""

from __future__ import annotations

import json
from io import FileIO
from pathlib import Path

import pytest

from mifo_ext.data import recorded_answers
from mifo_ext.data.demonstration_sources import DemonstrationFile, Question
from mifo_ext.data.recorded_answers import RecordedAnswer, RecordedAnswers, read_answers


def answer(name: str, text: str = "\\boxed{2}") -> RecordedAnswer:
    return RecordedAnswer(
        question_id=name,
        model="teacher",
        finish_reason="stop",
        prompt=[{"role": "user", "content": f"{name}?"}],
        solution=text,
    )


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "run" / "demonstrations.jsonl"


def test_what_was_added_is_there_in_the_next_start(file: Path) -> None:
    first = RecordedAnswers(file)
    assert (len(first), first.get("a")) == (0, None)

    first.add(answer("a"))
    first.add(answer("b", "two lines\nand \u2028 \ud800 more"))

    again = RecordedAnswers(file)
    assert (len(again), again.get("a")) == (2, "\\boxed{2}")
    assert first.get("b") == again.get("b") == "two lines\nand \u2028 \ud800 more"
    # What a person sees in the file.
    assert json.loads(file.read_text().splitlines()[0]) == answer("a")


@pytest.mark.parametrize("kept", range(0, 200, 7))
def test_a_write_cut_off_anywhere_loses_that_answer_only(file: Path, kept: int) -> None:
    for name in ("a", "b"):
        RecordedAnswers(file).add(answer(name))
    whole = file.read_bytes()
    first_line = len(whole) // 2
    file.write_bytes(whole[: first_line + min(kept, first_line - 2)])

    after = RecordedAnswers(file)
    assert (len(after), after.get("b")) == (1, None)
    after.add(answer("c"))

    assert [one["question_id"] for one in read_answers(file)] == ["a", "c"]
    assert file.read_bytes().count(b"\n") == 2


def test_a_last_line_that_lacks_nothing_but_its_end_is_kept(file: Path) -> None:
    RecordedAnswers(file).add(answer("a"))
    file.write_bytes(file.read_bytes().rstrip(b"\n"))

    after = RecordedAnswers(file)
    assert after.get("a") is not None
    after.add(answer("b"))

    assert [one["question_id"] for one in read_answers(file)] == ["a", "b"]


@pytest.mark.parametrize("line", ["{", "[1]", "", '{"question_id": "a", "solution": "2"}'])
def test_a_line_that_is_no_answer_is_an_error_with_its_number(file: Path, line: str) -> None:
    RecordedAnswers(file).add(answer("a"))
    with file.open("a") as more:
        more.write(f"{line}\n")
        more.write(json.dumps(answer("b")) + "\n")

    with pytest.raises(ValueError, match=r"line 2 is none\. Delete that line"):
        RecordedAnswers(file)


def test_the_file_serves_another_run_as_a_file_of_demonstrations(file: Path) -> None:
    RecordedAnswers(file).add(answer("1+1"))
    question = Question("x", [{"role": "user", "content": "1+1?"}], "2", None)

    assert DemonstrationFile(file).find(question).text == "\\boxed{2}"


def test_an_answer_after_a_write_that_failed_does_not_stand_behind_its_torn_part(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tears(opened: FileIO, lines: bytes) -> None:
        opened.write(lines[:9])
        raise OSError("No space left on device")

    answers = RecordedAnswers(file)
    answers.add(answer("a"))
    with monkeypatch.context() as patched:
        patched.setattr(recorded_answers, "append_lines", tears)
        with pytest.raises(OSError, match="No space left"):
            answers.add(answer("b"))
    answers.add(answer("c"))

    assert [one["question_id"] for one in read_answers(file)] == ["a", "c"]
