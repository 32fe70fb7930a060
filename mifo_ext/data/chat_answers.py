"""What a chat completion says: its text with the thinking part, and whether it can be used."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from mifo_ext.grading import grade

CUT = "cut"
UNFINISHED = "server_unfinished"
THOUGHT_NAMES = ("reasoning", "reasoning_content")
"""How servers call a thinking part that they cut off: vLLM's name, then DeepSeek's."""


class Answer(NamedTuple):
    """One answer of a model.

    Attributes:
        text: as the model wrote it, thinking part included.
        finish_reason: why it ended; "stop" if by itself.
    """

    text: str
    finish_reason: str


def answer_in(body: bytes) -> Answer | None:
    """Read the first choice of a chat completion; None if `body` is something else.

    Args:
        body: what the server sent.
    """
    try:
        completion = json.loads(body)
        choice = completion["choices"][0]
        message = choice["message"]
        finish_reason = choice.get("finish_reason")
        text = _text(message)
        text.encode()  # half a surrogate pair is text to JSON, but to no tokenizer
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    return Answer(text, str(finish_reason))


def reason_against(answer: Answer, ground_truth: str) -> str | None:
    """Why an answer is no demonstration; None if it is one.

    Args:
        answer: complete or not.
        ground_truth: the right answer.

    Returns:
        "cut", "server_unfinished" (stopped by something else than its end or the limit), or the
        grader's verdict.
    """
    if answer.finish_reason == "length":
        return CUT
    if answer.finish_reason != "stop":
        return UNFINISHED
    verdict = grade(answer.text, ground_truth).verdict
    return None if verdict == "correct" else str(verdict)


def _text(message: Mapping[str, Any]) -> str:
    r"""Put a thinking part back where the model wrote it.

    Some servers send it apart; where the chat template opens it, its `<think>` is missing. What a
    prompt opens already is left out later, see `continuation`.
    """
    content: str = message["content"] or ""
    thought = next((message[name] for name in THOUGHT_NAMES if message.get(name)), None)
    if thought is not None:
        return f"<think>\n{thought.strip()}\n</think>\n\n{content.strip()}"
    if "</think>" in content and "<think>" not in content:
        return f"<think>\n{content.lstrip()}"
    return content
