"""How a question becomes the whole text that a model reads."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from mifo_ext.data.prompts import chat_format
from mifo_ext.eval.catalogue import did_you_mean, entries

QUESTION = "{question}"
TOKENIZER = "tokenizer"
"""Stands for the checkpoint's own chat template, which no file here can hold."""

# Two, because a template that looks into the question would treat one of them differently.
_PLACEHOLDERS = ("placeholderzqx", "Another one?\n$x_1$ zqy.")


@dataclass(frozen=True)
class Template:
    """A prompt with one place for the question.

    Attributes:
        name: what the command line and `run.json` call it.
        text: the whole prompt, with `{question}` once.
        stop: texts that end a response.
        source: where the format is from, in a sentence.
    """

    name: str
    text: str
    stop: tuple[str, ...] = ()
    source: str = ""

    def __post_init__(self) -> None:
        """Check that there is one place for the question."""
        if (count := self.text.count(QUESTION)) != 1:
            raise ValueError(
                f"The template {self.name!r} must hold {QUESTION} once, but holds it {count} times."
            )

    @property
    def thinking(self) -> bool:
        """Whether the prompt ends inside a think block.

        A response without `</think>` then never came to an answer.
        """
        tail = self.text.partition(QUESTION)[2]
        return tail.rfind("<think>") > tail.rfind("</think>")


def template_names() -> list[str]:
    """Everything that a command line may name, `tokenizer` included."""
    return [*_templates(), TOKENIZER]


def template_named(name: str) -> Template:
    """Return a template by its name.

    Raises:
        ValueError: for an unknown name, the known ones are listed; for `tokenizer`, which only
            a checkpoint can give.
    """
    if name == TOKENIZER:
        raise ValueError(
            "The template `tokenizer` must come from a checkpoint, but none was given. "
            f"Name one of {', '.join(_templates())}."
        )
    if name not in _templates():
        raise ValueError(
            f"Unknown template {name!r}.{did_you_mean(name, template_names())} "
            f"Templates: {', '.join(template_names())}."
        )
    return _templates()[name]


def render(template: Template, question: str) -> str:
    """Return the prompt for a question.

    Nothing in the question is read: braces, percent signs and even `{question}` stay as they are.
    """
    before, _, after = template.text.partition(QUESTION)
    return before + question + after


def from_tokenizer(tokenizer: Any) -> Template:
    """Return a checkpoint's own chat template as plain text.

    Args:
        tokenizer: with `chat_template` and `apply_chat_template`, as transformers has them.

    Raises:
        ValueError: when it has no chat template, or one whose prompt is not some text, the
            question, some text.
    """
    if not tokenizer.chat_template:
        raise ValueError(
            "The checkpoint's tokenizer must have a chat template for `tokenizer`, but has none. "
            f"Name one of {', '.join(_templates())}."
        )
    rendered = {_around(tokenizer, placeholder) for placeholder in _PLACEHOLDERS}
    if len(rendered) != 1 or None in rendered:
        raise ValueError(
            "The checkpoint's chat template must put the question once and unchanged between two "
            f"fixed texts, but does not. Name one of {', '.join(_templates())}."
        )
    (text,) = rendered
    return Template(TOKENIZER, str(text), source="The checkpoint's own chat template.")


def _around(tokenizer: Any, placeholder: str) -> str | None:
    """The prompt for a placeholder with `{question}` in its place; None when it is not there."""
    messages = [{"role": "user", "content": placeholder}]
    text = str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
    if text.count(placeholder) != 1 or QUESTION in text:
        return None
    return text.replace(placeholder, QUESTION)


@cache
def _templates() -> dict[str, Template]:
    return {
        name: Template(
            name=name,
            text=_with_system(entry["text"], entry.get("system")),
            stop=tuple(entry.get("stop", ())),
            source=entry["source"],
        )
        for name, entry in entries("templates.yaml").items()
    }


def _with_system(text: str, system: str | None) -> str:
    return text if system is None else text.replace("SYSTEM", chat_format(system).system)
