"""Nodes of a recipe as YAML gives them."""

import copy
import math
from typing import Any

import pytest

from mifo_ext.settings_base import SettingsError
from mifo_ext.settings_reader import parse_settings

MIFO: dict[str, Any] = {
    "recipe": "mifo",
    "hard_at_most": 0.125,
    "buffer_size": 64,
    "sft": {"tokens": "high_entropy", "fraction": 0.2, "normalise": "full_length"},
    "hold": {"entries": "moved_most", "fraction": 0.5, "decay": 0.5},
    "demonstrations": {"source": "dataset"},
}


def node(changes: dict[str, Any] | None = None) -> dict[str, Any]:
    """MIFO's node with some keys changed, given by dotted name."""
    changed = copy.deepcopy(MIFO)
    for dotted, value in (changes or {}).items():
        *above, name = dotted.split(".")
        below = changed
        for part in above:
            below = below[part]
        below[name] = value
    return changed


def problems_of(changes: dict[str, Any], **checks: Any) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        parse_settings(node(changes), **checks)
    return caught.value.problems


WRONG = [
    ("recipe", " ", "a name"),
    ("recipe", 3, "a name"),
    ("kind", "interval", "one of `rl`, `intervals`, `phases`, `mixed`"),
    ("hard_at_most", -0.1, "a number in [0, 1]"),
    ("hard_at_most", 1.1, "a number in [0, 1]"),
    ("hard_at_most", True, "a number in [0, 1]"),
    ("hard_at_most", "0.1", "a number in [0, 1]"),
    ("hard_at_most", math.nan, "a number in [0, 1]"),
    ("hard_at_most", None, "a number in [0, 1]"),
    ("buffer_size", 0, "a whole number, at least 1"),
    ("buffer_size", 64.0, "a whole number, at least 1"),
    ("buffer_size", True, "a whole number, at least 1"),
    ("sft.tokens", "most", "one of `high_entropy`, `all`"),
    ("sft.tokens", ["all"], "one of `high_entropy`, `all`"),
    ("sft.fraction", 0, "a number in (0, 1]"),
    ("sft.fraction", 3, "a number in (0, 1]"),
    ("sft.normalise", "mean", "one of `full_length`, `token_mean`"),
    ("sft.loss", "mse", "one of `nll`, `dft`"),
    ("sft.entropy_coeff", -0.1, "a number, at least 0"),
    ("sft.learning_rate_ratio", 0, "a number above 0"),
    ("sft.learning_rate_ratio", math.inf, "a number above 0"),
    ("sft.learning_rate_ratio", 10**400, "a number above 0"),
    ("sft.epochs", 0, "a whole number, at least 1"),
    ("sft.mini_batch_size", 0, "a whole number, at least 1, or null"),
    ("sft.clip_norm", 0, "a number above 0, or null"),
    ("sft.betas", [0.9, 1], "two numbers in [0, 1), or null"),
    ("sft.betas", [0.9], "two numbers in [0, 1), or null"),
    ("sft.betas", 0.9, "two numbers in [0, 1), or null"),
    ("sft.betas", "ab", "two numbers in [0, 1), or null"),
    ("sft.eps", 0, "a number above 0, or null"),
    ("sft.weight_decay", -1e-9, "a number, at least 0, or null"),
    ("sft.moments", "none", "one of `own`, `shared`"),
    (
        "hold.entries",
        "all",
        "one of `moved_most`, `moved_least`, `random`, `largest_weight`, `none`",
    ),
    ("hold.fraction", 1.5, "a number in [0, 1]"),
    ("hold.decay", 1, "a number in [0, 1)"),
    ("hold.decay", -0.5, "a number in [0, 1)"),
    ("hold.mode", "freeze", "one of `exact`, `gradient_mask`"),
    ("hold.seed", -1, "a whole number, at least 0"),
]
