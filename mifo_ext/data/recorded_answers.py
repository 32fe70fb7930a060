"""Answers that a server gave and that verified, kept so that no start of a run asks twice.

One JSON object a line: `question_id`, `model`, `finish_reason`, `prompt` (messages) and
`solution`. The last two make the file one that `demos=file` reads in another run.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict, cast

from mifo_ext.data.lines import append_lines, json_line

FILE_NAME = "demonstrations.jsonl"
"""In the run's folder."""


class RecordedAnswer(TypedDict):
    """One line of the file."""

    question_id: str
    model: str
    finish_reason: str
    prompt: Sequence[Mapping[str, Any]]
    solution: str


class RecordedAnswers:
    """The answers of one run, in memory and on disk.

    Only one process may write: the run's folder is locked.

    Args:
        path: the file; it is made with the first answer.

    Raises:
        ValueError: if a line other than an unfinished last one is not a recorded answer.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._texts = {answer["question_id"]: answer["solution"] for answer in read_answers(path)}
        self._end_is_mended = False

    def __len__(self) -> int:
        return len(self._texts)

    def get(self, question_id: str) -> str | None:
        """A question's answer; None if none is known."""
        return self._texts.get(question_id)

    def add(self, answer: RecordedAnswer) -> None:
        """Write an answer down; it is on disk when this returns.

        Raises:
            OSError: if it cannot be written.
        """
        if not self._end_is_mended:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            mend_end(self._path)
        # A write that fails may tear the end again.
        self._end_is_mended = False
        with self._path.open("ab", buffering=0) as file:
            append_lines(file, json_line(answer))
        self._end_is_mended = True
        self._texts[answer["question_id"]] = answer["solution"]


def read_answers(path: Path) -> list[RecordedAnswer]:
    """Read the file; a last line that was never finished is left out.

    Args:
        path: the file; one that does not exist is empty.

    Raises:
        ValueError: if any other line is not a recorded answer.
    """
    if not path.exists():
        return []
    *lines, end = path.read_bytes().split(b"\n")
    found = []
    for number, line in enumerate(lines, start=1):
        answer = _answer_in(line)
        if answer is None:
            raise ValueError(
                f"{path} must have a recorded answer in each line, but line {number} is none. "
                "Delete that line: its question will be asked again."
            )
        found.append(answer)
    unfinished = _answer_in(end)
    return found if unfinished is None else [*found, unfinished]


def mend_end(path: Path) -> None:
    """Make the file end with a whole line: a write may have been cut off in the middle."""
    if not path.exists():
        return
    content = path.read_bytes()
    end = content.rpartition(b"\n")[2]
    if not end:
        return
    with path.open("r+b") as file:
        if _answer_in(end) is None:
            file.truncate(len(content) - len(end))
        else:
            file.seek(0, os.SEEK_END)
            file.write(b"\n")
        file.flush()
        os.fsync(file.fileno())


def _answer_in(line: bytes) -> RecordedAnswer | None:
    try:
        value = json.loads(line)
    except ValueError:
        return None
    if not isinstance(value, dict):
        return None
    texts = [value.get(key) for key in ("question_id", "model", "finish_reason", "solution")]
    whole = all(isinstance(text, str) for text in texts) and isinstance(value.get("prompt"), list)
    return cast(RecordedAnswer, value) if whole else None
