"""System prompts and chat templates that have a name."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import NamedTuple, TypedDict

import yaml

KEEP, NONE = "keep", "none"


class Message(TypedDict):
    """One turn of a conversation."""

    role: str
    content: str


class ChatFormat(NamedTuple):
    """How questions are put to a family of models.

    Attributes:
        system: the system prompt.
        chat_template: a Jinja template that falls back on `system`.
        needs_tokens: entries that the vocabulary must have.
    """

    system: str
    chat_template: str
    needs_tokens: tuple[str, ...]


@cache
def chat_formats() -> dict[str, ChatFormat]:
    """The formats of `chat.yaml`, by name."""
    text = (resources.files("mifo_ext.data") / "chat.yaml").read_text(encoding="utf-8")
    return {
        name: ChatFormat(
            system=entry["system"],
            # JSON's escapes are also Jinja's.
            chat_template=entry["chat_template"].replace(
                "SYSTEM", json.dumps(entry["system"], ensure_ascii=False)
            ),
            needs_tokens=tuple(entry["needs_tokens"]),
        )
        for name, entry in yaml.safe_load(text).items()
    }


def chat_format(name: str) -> ChatFormat:
    """Return a format by its name.

    Raises:
        ValueError: for an unknown name; the known ones are listed.
    """
    formats = chat_formats()
    if name not in formats:
        raise ValueError(f"Unknown chat format {name!r}. Formats: {', '.join(sorted(formats))}.")
    return formats[name]


def system_prompt(choice: str) -> str | None:
    """Return the system prompt that a command line asks for.

    Args:
        choice: "none", the name of a chat format, or a text file.

    Returns:
        The text without blank space at its end; None for "none".

    Raises:
        ValueError: when `choice` is neither a name nor a file.
    """
    if choice == NONE:
        return None
    if choice in chat_formats():
        return chat_formats()[choice].system
    if not Path(choice).is_file():
        known = ", ".join([KEEP, NONE, *sorted(chat_formats())])
        raise ValueError(f"`--system` must be {known} or a text file, but is {choice!r}.")
    return Path(choice).read_text(encoding="utf-8").rstrip()


def with_system(prompt: Sequence[Message], choice: str) -> list[Message]:
    """Return the conversation with the chosen system prompt at its head.

    Args:
        prompt: the conversation, with or without a system message.
        choice: "keep" for what is there, or what `system_prompt` takes.
    """
    if choice == KEEP:
        return list(prompt)
    rest = [message for message in prompt if message["role"] != "system"]
    system = system_prompt(choice)
    return rest if system is None else [Message(role="system", content=system), *rest]
