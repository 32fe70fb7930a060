"""Majority votes over samples, counted by what answers mean rather than how they are written."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mifo_ext.grading.compare import compare
from mifo_ext.grading.normalise import normalise, unwrap

FORMS_AT_MOST = 64
"""Distinct spellings of one problem that are compared with each other, the most frequent ones:
at most 4,032 comparisons. Rarer ones, which only more than 64 samples can have, are equal to none
but themselves."""
CHARACTERS_AT_MOST = 1000
"""Longer answers, which the grader refuses too, are equal to none but themselves."""
SAMPLES_AT_MOST = 512
"""A problem takes a second or less up to here; the number of subsets fits a float up to 1,029."""


class _Party(NamedTuple):
    """Samples that give the same answer.

    Attributes:
        votes: how many they are.
        verdict: share of them that were graded correct.
    """

    votes: int
    verdict: float


def clusters(answers: Sequence[str | None]) -> list[int | None]:
    """Number the answers of one problem by what they mean.

    Answers are equal when their texts or normal forms are, or when the grader's `compare` says so
    with either of the two as the gold; where it cannot decide they are not. Equality is closed
    over chains (a = b and b = c put all three together), so the order of the samples is immaterial.
    The work is bounded by `FORMS_AT_MOST` and `CHARACTERS_AT_MOST`.

    Args:
        answers: as extracted; None where there was none.

    Returns:
        For each answer its cluster, numbered from 0 by first appearance; None for None.
    """
    forms = [None if answer is None else _form(answer) for answer in answers]
    leader = _leaders(answers, forms)
    numbers: dict[str, int] = {}
    return [
        None if form is None else numbers.setdefault(leader[form], len(numbers)) for form in forms
    ]


def _leaders(answers: Sequence[str | None], forms: Sequence[str | None]) -> dict[str, str]:
    """Map each form to the one that stands for all forms equal to it."""
    spellings: dict[str, list[str]] = {}
    for answer, form in zip(answers, forms, strict=True):
        if answer is not None and form is not None:
            spellings.setdefault(form, []).append(answer)
    leader = {form: form for form in spellings}
    comparable = [form for form, own in spellings.items() if len(min(own)) <= CHARACTERS_AT_MOST]
    comparable.sort(key=lambda form: (-len(spellings[form]), form))
    for first, second in combinations(comparable[:FORMS_AT_MOST], 2):
        kept, dropped = leader[first], leader[second]
        # Not the forms: normalising twice may change a text.
        if kept != dropped and _mean_the_same(min(spellings[first]), min(spellings[second])):
            leader.update({form: kept for form, own in leader.items() if own == dropped})
    return leader


def _form(answer: str) -> str:
    return normalise(unwrap(answer.strip())) if len(answer) <= CHARACTERS_AT_MOST else answer


def majority_at(j: int, clusters: Sequence[Hashable | None], correct: Sequence[bool]) -> float:
    """Chance that the vote over j of these samples, drawn without replacement, is right.

    Args:
        j: samples that vote, from 1 to their number.
        clusters: of each sample, as `clusters` gives them.
        correct: whether the grader called it correct.

    Returns:
        See `majority_curve`.

    Raises:
        ValueError: as `majority_curve`.
    """
    return majority_curve([j], clusters, correct)[j]


def majority_curve(
    sizes: Iterable[int], clusters: Sequence[Hashable | None], correct: Sequence[bool]
) -> dict[int, float]:
    """`majority_at` for several sizes of the vote, at the price of one.

    Exact at every size: subsets are counted by generating functions, not drawn. A vote is worth
    the share of correct samples in the winning cluster, over all samples (a grader may disagree
    within a cluster); tied clusters are averaged. Samples without an answer do not vote, and a
    vote that nobody casts is wrong. So the vote of one sample is right as often as a sample is.

    Args:
        sizes: numbers of voting samples, each from 1 to the number of samples.
        clusters: of each sample; None does not vote.
        correct: whether the grader called it correct; False where there is no answer.

    Returns:
        The chance by size.

    Raises:
        ValueError: lists of different lengths, a size out of range, more than `SAMPLES_AT_MOST`
            samples, or a correct sample without an answer.
    """
    sizes, drawn = list(sizes), len(clusters)
    _require_votable(sizes, clusters, correct)
    members: dict[Hashable, list[bool]] = {}
    for cluster, right in zip(clusters, correct, strict=True):
        if cluster is not None:
            members.setdefault(cluster, []).append(right)
    parties = sorted(_Party(len(own), sum(own) / len(own)) for own in members.values())
    worth = np.zeros(drawn + 1)
    for top in range(1, max((party.votes for party in parties), default=0) + 1):
        worth += _worth_of_subsets(parties, top=top, drawn=drawn)
    return {j: min(1.0, float(worth[j]) / math.comb(drawn, j)) for j in sizes}


def _worth_of_subsets(parties: Sequence[_Party], *, top: int, drawn: int) -> NDArray[np.float64]:
    """Sum what the vote is worth over all subsets whose winner has exactly `top` votes.

    Dimensions: T tied winners, from 0; S samples in the subset, from 0 to `drawn`.

    Args:
        parties: all that have votes.
        top: votes of the winner, at least 1.
        drawn: all samples, those without an answer included.

    Returns:
        The sum by the subset's size, shape (drawn + 1,).
    """
    able = [party for party in parties if party.votes >= top]
    # Who cannot reach `top`, or does not vote, fills up a subset in any number.
    idle = drawn - sum(party.votes for party in able)
    ways_TS = np.array([[float(math.comb(idle, size)) for size in range(idle + 1)]])
    worth_TS = np.zeros_like(ways_TS)  # of each way: the sum of its tied winners' verdicts
    for party in able:
        tied, sizes = ways_TS.shape
        more_ways_TS = np.zeros((tied + 1, sizes + top))
        more_worth_TS = np.zeros_like(more_ways_TS)
        for votes in range(top):
            choices = math.comb(party.votes, votes)
            more_ways_TS[:-1, votes : votes + sizes] += choices * ways_TS
            more_worth_TS[:-1, votes : votes + sizes] += choices * worth_TS
        choices = math.comb(party.votes, top)
        more_ways_TS[1:, top:] += choices * ways_TS
        more_worth_TS[1:, top:] += choices * (worth_TS + party.verdict * ways_TS)
        ways_TS, worth_TS = more_ways_TS, more_worth_TS
    tied_T = np.arange(1, len(able) + 1)
    worth_S = (worth_TS[1:] / tied_T[:, None]).sum(0)
    return np.pad(worth_S, (0, drawn + 1 - len(worth_S)))


def _mean_the_same(first: str, second: str) -> bool:
    first, second = unwrap(first.strip()), unwrap(second.strip())
    try:
        return compare(first, second).same is True or compare(second, first).same is True
    except RecursionError:  # nested too deep: the grader calls that wrong
        return False


def _require_votable(
    sizes: Sequence[int], clusters: Sequence[Hashable | None], correct: Sequence[bool]
) -> None:
    drawn = len(clusters)
    if len(correct) != drawn:
        raise ValueError(
            f"`correct` must be as long as `clusters`, {drawn}, but is {len(correct)}."
        )
    if drawn > SAMPLES_AT_MOST:
        raise ValueError(f"`clusters` must be at most {SAMPLES_AT_MOST}, but are {drawn}.")
    for j in sizes:
        if not 1 <= j <= drawn:
            raise ValueError(f"`j` must be in [1, {drawn}] for {drawn} samples, but is {j}.")
    pairs = zip(clusters, correct, strict=True)
    if any(right and cluster is None for cluster, right in pairs):
        raise ValueError("`correct` must be False for a sample without an answer, but one is True.")
