"""From accuracy curves to what a person compares: intervals, and bands of difficulty."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

from mifo_ext.report_read import Accuracy, Curve

EN_DASH = "\N{EN DASH}"
UNSOLVED_BELOW = 0.05
"""A group that starts below this accuracy counts as unsolved before training."""


class Interval(NamedTuple):
    """A range, both ends included."""

    low: float
    high: float


class Band(NamedTuple):
    """Groups of one skill that started alike, so that a picture has few lines.

    Attributes:
        skill: the skill they share.
        levels: a range of whole numbers, or "2, 4"; empty without levels.
        unsolved: whether they started below `UNSOLVED_BELOW`.
        curve: mean accuracy over the groups, at the steps that have all of them.
        sources: data sources of the groups.
    """

    skill: str
    levels: str
    unsolved: bool
    curve: Curve
    sources: frozenset[str]

    @property
    def label(self) -> str:
        """Skill and levels: "sum 6, 8"."""
        return f"{self.skill} {self.levels}".strip()


def wilson_interval(share: float, count: int, *, confidence: float = 0.95) -> Interval:
    """Wilson's score interval of a proportion.

    Args:
        share: the proportion seen, in [0, 1].
        count: how many independent questions it was seen on, at least 1. With several samples a
            question this is still the number of questions, since samples of one question are alike;
            the interval is then rather too wide than too narrow.
        confidence: in (0, 1).

    Raises:
        ValueError: `share` or `count` is out of its range.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"`share` must be in [0, 1], but is {share}.")
    if count < 1:
        raise ValueError(f"`count` must be at least 1, but is {count}.")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    spread = math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    half = z * spread / (1 + z * z / count)
    return Interval(max(0.0, centre - half), min(1.0, centre + half))


def difference_interval(share: float, other: float, count: int) -> Interval:
    """Newcombe's 95 % score interval of `share - other`, from Wilson's interval of each.

    Args:
        share: a proportion, in [0, 1].
        other: the one taken away.
        count: questions that each was seen on. They may be the same ones: the interval is then
            rather too wide than too narrow, because right answers to one question go together.
    """
    first, second = wilson_interval(share, count), wilson_interval(other, count)
    below = math.hypot(share - first.low, second.high - other)
    above = math.hypot(first.high - share, other - second.low)
    return Interval(share - other - below, share - other + above)


def bands(accuracies: Sequence[Accuracy]) -> list[Band]:
    """Join a skill's groups that were unsolved before training, and those that were not.

    Args:
        accuracies: of one run, or means over runs; groups without a value are left out.
    """
    joined: dict[tuple[str, bool], list[Accuracy]] = {}
    for accuracy in accuracies:
        if accuracy.curve.values:
            unsolved = accuracy.curve.values[0] < UNSOLVED_BELOW
            joined.setdefault((accuracy.group.skill, unsolved), []).append(accuracy)
    return [
        Band(
            skill=skill,
            levels=_levels([member.group.level for member in members]),
            unsolved=unsolved,
            curve=mean_curve([member.curve for member in members]),
            sources=frozenset(member.group.source for member in members),
        )
        for (skill, unsolved), members in sorted(joined.items())
    ]


def mean_curve(curves: Sequence[Curve]) -> Curve:
    """The unweighted mean of curves, at the steps that all of them have."""
    rows = [dict(zip(*curve, strict=True)) for curve in curves]
    shared = sorted(set.intersection(*(set(row) for row in rows))) if rows else []
    return Curve(shared, [sum(row[step] for row in rows) / len(rows) for step in shared])


def _levels(levels: Sequence[int | None]) -> str:
    """Name levels: a run of whole numbers by its ends, others one by one."""
    known = sorted(level for level in levels if level is not None)
    if len(known) > 1 and known == list(range(known[0], known[-1] + 1)):
        return f"{known[0]}{EN_DASH}{known[-1]}"
    return ", ".join(str(level) for level in known)
