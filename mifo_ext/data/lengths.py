"""Whether questions and demonstrations fit a model's lengths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from mifo_ext.data.demonstrations import demonstration_tokens
from mifo_ext.data.prompts import Message


class Lengths(NamedTuple):
    """Counts tokens as a run would.

    Attributes:
        tokenizer: a Hugging Face tokenizer with a chat template.
        max_prompt: longest prompt, in tokens.
        max_response: longest demonstration, in tokens, EOS included.
    """

    tokenizer: Any
    max_prompt: int
    max_response: int

    def question_fits(self, prompt: Sequence[Message]) -> bool:
        """Whether the rendered prompt is short enough."""
        ids = self.tokenizer.encode(self._rendered(prompt), add_special_tokens=False)
        return len(ids) <= self.max_prompt

    def demonstration_fits(self, prompt: Sequence[Message], demonstration: str) -> bool:
        """Whether the demonstration would reach its EOS."""
        tokens = demonstration_tokens(
            demonstration,
            self.tokenizer,
            prompt_text=self._rendered(prompt),
            max_length=self.max_response,
        )
        return not tokens.truncated

    def _rendered(self, prompt: Sequence[Message]) -> str:
        text: str = self.tokenizer.apply_chat_template(
            list(prompt), add_generation_prompt=True, tokenize=False
        )
        return text


def read_lengths(model: str, *, max_prompt: int, max_response: int) -> Lengths:
    """Load a model folder's tokenizer to count with.

    Args:
        model: folder or hub id.
        max_prompt: longest prompt, in tokens.
        max_response: longest demonstration, in tokens.

    Raises:
        ValueError: for limits below 1 or a tokenizer without a chat template.
    """
    from transformers import AutoTokenizer

    for name, value in (("max_prompt", max_prompt), ("max_response", max_response)):
        if value < 1:
            raise ValueError(f"`{name}` must be at least 1, but is {value}.")
    tokenizer = AutoTokenizer.from_pretrained(model)
    if not tokenizer.chat_template:
        raise ValueError(
            f"The tokenizer of {model} must have a chat template, but has none. "
            "`mifo prepare model --chat-template` writes a folder that has one."
        )
    return Lengths(tokenizer, max_prompt, max_response)
