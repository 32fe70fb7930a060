"""A stronger model's answers over real HTTP: verified, kept, and never waited for too long."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mifo_ext.data.demonstration_server import DemonstrationServer, key_problem
from mifo_ext.data.demonstration_sources import Question
from mifo_ext.data.questions import question_id
from mifo_ext.data.recorded_answers import RecordedAnswers
from tests.support.teacher import HANGS_S, KEY, RIGHT, Teacher, settings_of

PATIENCE_S = HANGS_S - 5
"""Far above every timeout here, for machines that are busy; below what a hanging server takes."""


@pytest.fixture
def teacher(monkeypatch: pytest.MonkeyPatch) -> Iterator[Teacher]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Teacher().running() as server:
        yield server


def asked(*words: str) -> list[Question]:
    """Questions whose answer is 2; the first word says what the server does."""
    system = {"role": "system", "content": "Think first."}
    prompts = [[system, {"role": "user", "content": word}] for word in words]
    return [Question(question_id(prompt), prompt, "2", target=None) for prompt in prompts]


def source_of(url: str, folder: Path, **changes: Any) -> DemonstrationServer:
    answers = RecordedAnswers(folder / "demonstrations.jsonl")
    return DemonstrationServer(settings_of(url, **changes), answers=answers, max_response_length=77)


def test_a_right_answer_is_a_demonstration_and_the_others_have_their_reason(
    teacher: Teacher, tmp_path: Path
) -> None:
    source = source_of(teacher.url, tmp_path)
    questions = asked("right", "wrong", "cut", "garbage", "401", "404")

    assert [source.find(question).reason for question in questions] == ["not_asked"] * 6
    source.prefetch(questions)

    found = [source.find(question) for question in questions]
    assert [one.text for one in found] == [RIGHT, None, None, None, None, None]
    assert [one.reason for one in found[1:]] == [
        "wrong",
        "cut",
        "server_garbage",
        "server_refused",
        "server_refused",
    ]


def test_the_row_s_messages_are_sent_as_they_are_and_nothing_that_was_not_asked_for(
    teacher: Teacher, tmp_path: Path
) -> None:
    (question,) = asked("right")
    source_of(teacher.url, tmp_path / "a").prefetch([question])
    source_of(teacher.url, tmp_path / "b", temperature=0.6, max_tokens=9).prefetch([question])

    plain = {
        "path": "/v1/chat/completions",
        "messages": question.messages,
        "model": "teacher",
        "max_tokens": 77,
    }
    assert teacher.requests == [plain, plain | {"temperature": 0.6, "max_tokens": 9}]


def test_a_question_is_asked_again_until_an_answer_verifies_and_no_more(
    teacher: Teacher, tmp_path: Path
) -> None:
    source = source_of(teacher.url, tmp_path, tries=4)
    source.prefetch(asked("third", "right", "wrong", "cut"))

    assert source.find(asked("third")[0]).text == RIGHT
    assert teacher.asked() == {"third": 3, "right": 1, "wrong": 4, "cut": 4}


def test_what_the_model_failed_stands_and_what_the_server_failed_is_asked_again(
    teacher: Teacher, tmp_path: Path
) -> None:
    source = source_of(teacher.url, tmp_path)
    words = ("right", "wrong", "cut", "garbage", "404")
    for _ in range(3):
        source.prefetch([*asked(*words), *asked(*words)])

    assert teacher.asked() == {"right": 1, "wrong": 1, "cut": 1, "garbage": 3, "404": 3}


def test_a_later_start_asks_for_nothing_that_was_answered(teacher: Teacher, tmp_path: Path) -> None:
    source_of(teacher.url, tmp_path).prefetch(asked("right", "wrong"))
    again = source_of(teacher.url, tmp_path)
    again.prefetch(asked("right", "wrong"))

    assert again.find(asked("right")[0]).text == RIGHT
    # A new start gives a question that the model failed another chance.
    assert teacher.asked() == {"right": 1, "wrong": 2}
    (line,) = (tmp_path / "demonstrations.jsonl").read_text().splitlines()
    assert json.loads(line) == {
        "question_id": asked("right")[0].id,
        "model": "teacher",
        "finish_reason": "stop",
        "prompt": asked("right")[0].messages,
        "solution": RIGHT,
    }


def test_the_client_tries_again_by_itself_when_the_server_is_in_trouble(
    teacher: Teacher, tmp_path: Path
) -> None:
    source = source_of(teacher.url, tmp_path, tries=4)
    source.prefetch(asked("500", "429"))

    assert {source.find(question).reason for question in asked("500", "429")} == {"server_error"}
    # One try and the client's two more; the other three tries would fare no better.
    assert teacher.asked() == {"500": 3, "429": 3}


@pytest.mark.parametrize("word", ["hang", "drip"])
def test_an_answer_that_does_not_end_is_given_up(
    teacher: Teacher, tmp_path: Path, word: str
) -> None:
    source = source_of(teacher.url, tmp_path, timeout_s=0.5, tries=3)
    started = time.monotonic()
    source.prefetch(asked(word))

    assert time.monotonic() - started < PATIENCE_S
    assert source.find(asked(word)[0]).reason == "server_timeout"
    assert teacher.asked()[word] == 1


def test_a_step_waits_no_longer_than_it_may_and_keeps_what_came_in_time(
    teacher: Teacher, tmp_path: Path
) -> None:
    source = source_of(teacher.url, tmp_path, step_timeout_s=5.0, concurrency=2)
    questions = asked("right", "hang a", "hang b", "hang c", "hang d")
    started = time.monotonic()
    source.prefetch(questions)

    assert time.monotonic() - started < PATIENCE_S
    reasons = [source.find(question).reason for question in questions]
    assert reasons == ["", *["server_timeout"] * 4]


def test_questions_are_asked_side_by_side_but_not_too_many(
    teacher: Teacher, tmp_path: Path
) -> None:
    source_of(teacher.url, tmp_path, concurrency=3).prefetch(
        asked(*(f"together {n}" for n in range(7)))
    )

    assert teacher.most == 3
    assert len(teacher.requests) == 7


def test_a_silent_server_is_asked_one_question_a_step_until_it_answers(
    teacher: Teacher, tmp_path: Path
) -> None:
    source = source_of(teacher.url, tmp_path)
    source.prefetch(asked("drop a", "drop b"))
    assert teacher.asked().keys() == {"drop a", "drop b"}

    source.prefetch(asked("drop c", "right a"))
    assert teacher.asked().keys() == {"drop a", "drop b", "drop c"}
    assert source.find(asked("right a")[0]).reason == "server_unreachable"

    source.prefetch(asked("right a", "right b", "right c"))
    assert [source.find(q).text for q in asked("right a", "right b", "right c")] == [RIGHT] * 3


def test_a_server_that_is_not_there_costs_no_more_than_a_moment(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Teacher() as closed:
        url = closed.url
    source = source_of(url, tmp_path)
    source.prefetch(asked("right", "right a"))

    assert [source.find(q).reason for q in asked("right", "right a")] == ["server_unreachable"] * 2
    # Said once, however many questions there are.
    said = capsys.readouterr().err
    assert said.count("mifo: demonstrations: server_unreachable ") == 1


def test_it_works_inside_a_running_event_loop(teacher: Teacher, tmp_path: Path) -> None:
    source = source_of(teacher.url, tmp_path)

    async def as_verl_may_call_it() -> None:
        source.prefetch(asked("right"))

    asyncio.run(as_verl_may_call_it())
    assert source.find(asked("right")[0]).text == RIGHT


def test_an_answer_that_cannot_be_written_down_ends_the_run(
    teacher: Teacher, tmp_path: Path
) -> None:
    source = source_of(teacher.url, tmp_path)
    (tmp_path / "demonstrations.jsonl").mkdir()

    with pytest.raises(IsADirectoryError):
        source.prefetch(asked("right"))


def test_the_key_is_sent_and_never_shown(
    teacher: Teacher,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("TEACHER_KEY", f" {KEY}\n")
    source = source_of(teacher.url, tmp_path, api_key_env="TEACHER_KEY")
    source.prefetch(asked("right", "401", "404", "500"))

    assert {headers["authorization"] for headers in teacher.headers} == {f"Bearer {KEY}"}
    said = capsys.readouterr().err
    assert "server_refused" in said
    assert "server_error" in said
    assert "no *** here" in said
    assert KEY not in said
    kept = "".join(path.read_text() for path in tmp_path.iterdir())
    assert KEY not in kept


def test_without_a_key_none_is_taken_from_elsewhere(
    teacher: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    source_of(teacher.url, tmp_path).prefetch(asked("right"))

    (headers,) = teacher.headers
    assert KEY not in json.dumps(headers)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (None, "is unset or empty. Export it"),
        (" ", "is unset or empty. Export it"),
        ("sk-a b", "has a blank or something else"),
        ("sk-\u00e9", "has a blank or something else"),
        ("sk-\x01", "has a blank or something else"),
    ],
)
def test_a_variable_that_holds_no_key_is_an_error_that_shows_neither(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str | None, problem: str
) -> None:
    monkeypatch.delenv("TEACHER_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("TEACHER_KEY", value)

    with pytest.raises(ValueError, match=problem.replace(".", r"\.")) as caught:
        source_of("http://host/v1", tmp_path, api_key_env="TEACHER_KEY")
    assert "sk-" not in str(caught.value)
    assert "TEACHER_KEY" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "warned"),
    [
        ("http://teacher:8000/v1", True),
        ("https://teacher/v1", False),
        ("http://localhost:8000/v1", False),
        ("http://[::1]:8000/v1", False),
    ],
)
def test_a_key_that_others_could_read_is_warned_of(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    url: str,
    warned: bool,
) -> None:
    monkeypatch.setenv("TEACHER_KEY", KEY)
    source_of(url, tmp_path, api_key_env="TEACHER_KEY")
    assert ("unencrypted" in capsys.readouterr().err) is warned
    source_of(url, tmp_path)
    assert capsys.readouterr().err == ""
    assert key_problem(settings_of(url)) is None
