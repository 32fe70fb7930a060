"""What each row of a mixed batch carries: which loss, with which weight."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Row(NamedTuple):
    """A trajectory as verl's advantages left it.

    Attributes:
        group: the question's group.
        is_demonstration: whether it is the group's demonstration.
        right: whether its answer is right.
        advantage: verl's advantage of the row.
    """

    group: str
    is_demonstration: bool
    right: bool
    advantage: float


class Weights(NamedTuple):
    """What a row carries.

    Attributes:
        trained: whether the row is trained on at all.
        advantage_factor: what verl's advantages of the row are multiplied with.
        demonstration_advantage: advantage of a demonstration's policy-gradient term.
        likelihood_weight: weight of a demonstration's likelihood.
        right_or_wrong: 1 and -1 for rollouts, 0 for others.
    """

    trained: bool
    advantage_factor: float
    demonstration_advantage: float
    likelihood_weight: float
    right_or_wrong: int


def taught_groups(rows: Sequence[Row], *, hard_at_most: float | None) -> set[str]:
    """Groups that learn from their demonstration: all, or those whose rollouts fail (HPT's gate).

    Args:
        rows: all rows of a step.
        hard_at_most: highest accuracy of a group's own rollouts at which it is taught; None
            teaches every group.

    Returns:
        Names of the groups that have a demonstration and are taught.
    """
    rollouts: dict[str, list[bool]] = {}
    for row in rows:
        if not row.is_demonstration:
            rollouts.setdefault(row.group, []).append(row.right)
    taught = {row.group for row in rows if row.is_demonstration}
    if hard_at_most is None:
        return taught
    return {group for group in taught if _accuracy(rollouts, group) <= hard_at_most}


def row_weights(
    rows: Sequence[Row],
    *,
    hard_at_most: float | None,
    coeff: float,
    convex: bool,
    signed: bool,
) -> list[Weights]:
    """Say what every row carries.

    Args:
        rows: all rows of a step, padding left out.
        hard_at_most: HPT's gate, see `taught_groups`: taught groups leave out their rollouts, the
            others their demonstration. None trains on both.
        coeff: coefficient of the demonstrations' likelihood in this step.
        convex: whether rollouts are weighed with 1 - `coeff`.
        signed: whether rollouts carry the signed likelihood in place of verl's policy loss.
    """
    taught = taught_groups(rows, hard_at_most=hard_at_most)
    gated = hard_at_most is not None
    weights = []
    for row in rows:
        if row.is_demonstration:
            on = row.group in taught
            weights.append(Weights(on, 0.0, row.advantage * on, coeff * on, 0))
        else:
            on = not (gated and row.group in taught)
            factor = 0.0 if signed or not on else 1.0 - coeff if convex else 1.0
            sign = (1 if row.right else -1) * (signed and on)
            weights.append(Weights(on, factor, 0.0, 0.0, sign))
    return weights


def _accuracy(rollouts: Mapping[str, Sequence[bool]], group: str) -> float:
    answers = rollouts.get(group)
    # Without a rollout nothing says that the question is hard.
    return sum(answers) / len(answers) if answers else float("inf")
