"""Cleaning a benchmark's golds, once, by named rules.

The grader reads most spellings anyway; other graders do not. A cleaned gold is one that every
named grader reads the same way, and each change is on record.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

from mifo_ext.grading.strict import gold_problem, grade

_E_NOTATION = re.compile(r"(?<![\w.])([+-]?\d+(?:\.\d*)?)[eE]([+-]?\d+)(?![\w.])")
_MATH_GROUPS = re.compile(r"\$\s*\$")
_WHOLE_MATH = re.compile(r"\$([^$]*)\$")
_DEGREES = re.compile(r"([+-]?\d+(?:\.\d+)?)\s*\^\s*(?:\{\s*\\circ\s*\}|\\circ)")
_INTEGRAL = re.compile(r"([+-]?\d+)\.0+")
_LEADING_ZEROS = re.compile(r"([+-]?)0+(\d+)")


class CleanGold(NamedTuple):
    """A gold as it will be graded against."""

    text: str
    rules: tuple[str, ...]
    """Names of the rules that changed it, in order."""
    problem: str | None
    """Why it cannot be graded against, or None when it grades itself correct."""


def _whole(pattern: re.Pattern[str], replacement: str) -> Callable[[str], str]:
    return lambda text: pattern.sub(replacement, text) if pattern.fullmatch(text) else text


RULES: dict[str, Callable[[str], str]] = {
    "trim": str.strip,
    "math_groups": lambda text: _MATH_GROUPS.sub(" ", text),
    "outer_dollars": _whole(_WHOLE_MATH, r"\1"),
    "e_notation": lambda text: _E_NOTATION.sub(r"\1 \\times 10^{\2}", text),
    "degree_number": _whole(_DEGREES, r"\1"),
    "integral_float": _whole(_INTEGRAL, r"\1"),
    "leading_zeros": _whole(_LEADING_ZEROS, r"\1\2"),
}
r"""Each rule by name: spaces around; a stray `$ $` inside; `$…$` around; `4.5e33`; `336^\circ`
where a number is asked for; `142.0`; `033`."""


def clean_gold(gold: str | int | float) -> CleanGold:
    """Apply every rule in turn and check that the result grades itself correct."""
    text = str(gold)
    applied: list[str] = []
    for name, rule in RULES.items():
        changed = rule(text)
        if changed != text:
            applied.append(name)
            text = changed
    problem = gold_problem(text)
    if problem is None:
        itself = grade(f"\\boxed{{{text}}}", text)
        problem = None if itself.correct else f"does not grade itself correct: {itself.reason}"
    return CleanGold(text, tuple(applied), problem)
