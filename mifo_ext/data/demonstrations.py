"""Reading the demonstration (`target`) of a training row, and its tokens."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np

THINK_OPENINGS = ("<think>\n", "<think>")
"""How a prompt can hand the turn over inside the thought; the longest comes first."""


class Tokenizer(Protocol):
    """The part of a Hugging Face tokenizer that demonstrations need."""

    eos_token_id: int | None

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """Return the token ids of `text`."""
        ...


class DemonstrationTokens(NamedTuple):
    """A demonstration as the model's own turn.

    Attributes:
        ids: token ids, ending in EOS unless the demonstration was cut.
        truncated: whether text and EOS together were longer than the limit.
    """

    ids: list[int]
    truncated: bool


def demonstration_text(target: object) -> str | None:
    """Return the text of a row's `target`, or None when there is no demonstration.

    Accepted are LUFFY's list of one assistant message (also as the numpy array that parquet
    readers give), such a message alone, a plain string (ReLIFT), and null.

    Args:
        target: the row's value in the column `target`.

    Returns:
        The text exactly as it is stored; None for null, an empty list and blank text.

    Raises:
        ValueError: for anything else, several messages for instance.
    """
    if isinstance(target, np.ndarray):
        target = target.tolist()
    if isinstance(target, str):
        return target if target.strip() else None
    if _is_null(target):
        return None
    if isinstance(target, Mapping):
        return demonstration_text(_assistant_content(target))
    if isinstance(target, Sequence):
        if len(target) > 1:
            raise ValueError(
                f"`target` must be one assistant message, but is {len(target)} messages. "
                "Keep the last answer only."
            )
        return demonstration_text(target[0]) if target else None
    raise ValueError(
        "`target` must be text, a list of one assistant message or null, "
        f"but is {type(target).__name__}."
    )


def demonstration_tokens(
    text: str, tokenizer: Tokenizer, *, prompt_text: str, max_length: int
) -> DemonstrationTokens:
    r"""Tokenise a demonstration as what the model would have answered to the prompt.

    LUFFY's rule: an opening `<think>\n` is left out when the rendered prompt already ends with
    it; no special tokens; EOS at the end; cut at `max_length`. A demonstration that was cut gets
    no EOS, so that nothing teaches the model to stop in the middle of a thought.

    Args:
        text: the demonstration.
        tokenizer: the model's tokenizer.
        prompt_text: the prompt as the chat template renders it, generation prompt included.
        max_length: longest demonstration in tokens, EOS included; at least 1.

    Returns:
        Between 1 and `max_length` ids, and whether the demonstration was cut.

    Raises:
        ValueError: for a limit below 1 or a tokenizer without EOS.
    """
    if max_length < 1:
        raise ValueError(f"`max_length` must be at least 1, but is {max_length}.")
    if tokenizer.eos_token_id is None:
        raise ValueError("`tokenizer.eos_token_id` must be set, but is None.")

    ids = tokenizer.encode(continuation(text, prompt_text=prompt_text), add_special_tokens=False)
    if len(ids) + 1 > max_length:
        return DemonstrationTokens(ids=list(ids[:max_length]), truncated=True)
    return DemonstrationTokens(ids=[*ids, tokenizer.eos_token_id], truncated=False)


def continuation(text: str, *, prompt_text: str) -> str:
    r"""Return `text` without an opening `<think>` that the prompt already gives.

    Args:
        text: the demonstration.
        prompt_text: the rendered prompt.
    """
    for opening in THINK_OPENINGS:
        if prompt_text.endswith(opening) and text.startswith(opening):
            return text[len(opening) :]
    return text


def _is_null(value: object) -> bool:
    # pandas turns a null of a column of strings into NaN.
    return value is None or (isinstance(value, float) and math.isnan(value))


def _assistant_content(message: Mapping[str, object]) -> object:
    if message.get("role", "assistant") != "assistant":
        raise ValueError(
            f"`target` must be an assistant message, but its role is {message['role']!r}."
        )
    if "content" not in message:
        raise ValueError(
            f"`target` must be a message with `content`, but has the keys {sorted(message)}."
        )
    content = message["content"]
    if not (isinstance(content, str) or _is_null(content)):
        raise ValueError(f"`target`'s content must be text, but is {type(content).__name__}.")
    return content
