"""What a server sent is a verified demonstration, or has one word that says why not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mifo_ext.data.chat_answers import Answer, answer_in, reason_against


def body(message: dict[str, Any], finish_reason: object = "stop") -> bytes:
    choice = {"index": 0, "finish_reason": finish_reason, "message": message}
    return json.dumps({"object": "chat.completion", "choices": [choice]}).encode()


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"content": "So \\boxed{2}.\n"}, "So \\boxed{2}.\n"),
        ({"content": None}, ""),
        ({"content": "<think>\na\n</think>\nb"}, "<think>\na\n</think>\nb"),
        # A server with a reasoning parser sends the thought apart.
        ({"content": "\nb", "reasoning": "a\n"}, "<think>\na\n</think>\n\nb"),
        ({"content": "b", "reasoning_content": "a"}, "<think>\na\n</think>\n\nb"),
        (
            {"content": "b", "reasoning": None, "reasoning_content": "a"},
            "<think>\na\n</think>\n\nb",
        ),
        ({"content": "b", "reasoning": "", "reasoning_content": None}, "b"),
        # A chat template that opens the thought leaves its mark in the prompt.
        ({"content": "\na</think>b"}, "<think>\na</think>b"),
    ],
)
def test_the_text_is_what_the_model_wrote_thought_included(
    message: dict[str, Any], text: str
) -> None:
    assert answer_in(body(message)) == Answer(text, "stop")


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"<html>",
        b'{"choices": [',
        b"null",
        b"[1]",
        b'{"choices": []}',
        b'{"choices": null}',
        b'{"choices": ["x"]}',
        b'{"choices": [{"message": {}}]}',
        b'{"choices": [{"message": {"content": 3}}]}',
        b'{"choices": [{"message": {"content": ["x"]}}]}',
        b'{"choices": [{"message": {"content": "a", "reasoning": 3}}]}',
        b"\xff\xfe{",
        b"[" * 100_000,
        b'{"choices": [{"finish_reason": "stop", "message": {"content": "\\ud800"}}]}',
    ],
)
def test_a_body_that_is_no_chat_completion_is_none(sent: bytes) -> None:
    assert answer_in(sent) is None


@pytest.mark.parametrize(
    ("text", "finish_reason", "reason"),
    [
        ("\\boxed{2}", "stop", None),
        ("<think>\n\\boxed{3}</think>\\boxed{2}", "stop", None),
        ("\\boxed{3}", "stop", "wrong"),
        ("I do not know", "stop", "no_answer"),
        ("<think>\nand so", "stop", "no_answer"),
        ("", "stop", "no_answer"),
        # Right, but it goes on: nobody should learn to stop there.
        ("\\boxed{2} because", "length", "cut"),
        ("\\boxed{2}", "content_filter", "server_unfinished"),
        ("\\boxed{2}", "None", "server_unfinished"),
    ],
)
def test_only_a_finished_right_answer_is_a_demonstration(
    text: str, finish_reason: str, reason: str | None
) -> None:
    assert reason_against(Answer(text, finish_reason), "2") == reason


def test_a_finish_reason_that_is_missing_is_not_a_stop() -> None:
    answer = answer_in(body({"content": "\\boxed{2}"}, finish_reason=None))

    assert answer is not None
    assert reason_against(answer, "2") == "server_unfinished"
