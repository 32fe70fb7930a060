"""What the user typed, for those who must know before Hydra reads it; imports nothing heavy."""

from __future__ import annotations

import sys
from collections.abc import Sequence

OWN_CONFIGS = ("--config-dir", "-cd", "--config-path", "-cp", "hydra.searchpath")


def recipe_asked_for(arguments: Sequence[str] | None = None) -> bool:
    """Whether a command line names a recipe that only this package can mean.

    Args:
        arguments: the words after the program's name; by default this process's.

    Returns:
        True for `recipe=mifo`, `+recipe=mifo`, `++recipe@_global_=mifo` and the like. False where
        the user brings a folder of configurations, which may hold recipes of its own.
    """
    words = [word.lstrip("+") for word in (sys.argv[1:] if arguments is None else arguments)]
    if any(word.startswith(OWN_CONFIGS) for word in words):
        return False
    return any(word.startswith(("recipe=", "recipe@")) for word in words)
