"""Names for questions."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any


def question_id(messages: Iterable[Mapping[str, Any]]) -> str:
    """Name a question by its prompt: the same in every step, epoch and resumed run.

    verl's `uid` is new in every step, and `extra_info.index` repeats where data sets were joined.

    Args:
        messages: the prompt's chat messages.

    Returns:
        32 hexadecimal digits.
    """
    turns = [[message.get("role"), message.get("content")] for message in messages]
    text = json.dumps(turns, ensure_ascii=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
