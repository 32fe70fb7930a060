"""The recipe's node where demonstrations stand among the rollouts."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from mifo_ext.node_reader import (
    NOT_NEGATIVE,
    POSITIVE,
    SHARE,
    SHARE_OR_STEPS,
    SWITCH,
    NodeReader,
    one_of,
    or_null,
)
from mifo_ext.settings_base import RecipeSettings
from mifo_ext.settings_demonstrations import DemonstrationSettings, read_demonstrations

Baseline: TypeAlias = Literal["group", "rollouts"]
RolloutLoss: TypeAlias = Literal["policy", "signed_likelihood"]
Weight: TypeAlias = Literal["constant", "certainty"]
NllTokens: TypeAlias = Literal["all", "undecided"]


@dataclass(frozen=True, kw_only=True)
class NllSettings:
    """The likelihood term of demonstrations: a mean over their tokens in the global mini-batch."""

    coeff: float
    """What the mean is multiplied with, 0 or more; 0 leaves the term out."""

    final_coeff: float | None
    """Where the coefficient goes along half a cosine (CHORD); null: it stays."""

    decay_over: float | None
    """How long it takes: below 1 a share of the run's steps, else so many steps. Null where
    `final_coeff` is."""

    convex: bool
    """Whether the rollouts' loss is multiplied with one minus the coefficient (CHORD)."""

    weight: Weight
    """Weight of a demonstration: `constant`, or `certainty`, exp(-H) with H the mean entropy of its
    tokens under the policy (SRFT)."""

    tokens: NllTokens
    """`all` tokens alike, or weighed by p (1 - p), which is most where the policy is `undecided`
    (CHORD)."""


@dataclass(frozen=True, kw_only=True)
class MixedSettings(RecipeSettings):
    """A recipe whose rollout groups hold a demonstration: the first of a question's `rollout.n`."""

    kind: Literal["mixed"] = "mixed"

    baseline: Baseline
    """Whose rewards make the advantages' baseline: the whole `group`, demonstration included
    (LUFFY, SRFT), or the policy's own `rollouts` (HPT, CHORD)."""

    hard_at_most: float | None
    """Highest accuracy at which a question is taught by its demonstration, and its own rollouts are
    left out; above it the demonstration is (HPT's gate, as a share). Null: both, always."""

    rollout_loss: RolloutLoss
    """Loss of the policy's own rollouts: verl's `policy` loss, or SRFT's `signed_likelihood`."""

    right_coeff: float | None
    """What exp(H), the weight of right answers in `signed_likelihood`, is multiplied with, above 0;
    H is the mean entropy of the response (SRFT: 0.1). Null for `policy`."""

    shaping: float | None
    """gamma of LUFFY's f(pi) = pi / (pi + gamma), above 0 (0.1); null: demonstrations carry no
    policy-gradient term."""

    nll: NllSettings
    """The likelihood term of demonstrations."""

    demonstrations: DemonstrationSettings
    """Where demonstrations come from."""


def read_mixed(
    reader: NodeReader,
    *,
    recipe: str,
    rollouts_per_question: int | None,
    total_steps: int | None,
) -> MixedSettings:
    """Read the node, and check it against the rest of the config."""
    rollout_loss = reader.take("rollout_loss", one_of(RolloutLoss))
    signed = rollout_loss == "signed_likelihood"
    settings = MixedSettings(
        recipe=recipe,
        baseline=reader.take("baseline", one_of(Baseline)),
        hard_at_most=reader.take("hard_at_most", or_null(SHARE), default=None),
        rollout_loss=rollout_loss,
        right_coeff=reader.take_or_none(signed, "right_coeff", POSITIVE),
        shaping=reader.take("shaping", or_null(POSITIVE), default=None),
        nll=_read_nll(reader.below("nll", NllSettings), total_steps=total_steps),
        demonstrations=read_demonstrations(reader.below("demonstrations", DemonstrationSettings)),
    )
    if rollouts_per_question is not None and rollouts_per_question < 3:
        reader.problems.append(
            "`actor_rollout_ref.rollout.n` must be at least 3, but is "
            f"{rollouts_per_question}: the first of a group is the demonstration, and a baseline "
            "needs two rollouts beside it."
        )
    if settings.shaping is None and settings.nll.coeff == 0:
        reader.problems.append(
            "`interleave.shaping` or `interleave.nll.coeff` must give demonstrations a loss, but "
            "they are null and 0. Choose recipe=grpo to train without."
        )
    return settings


def _read_nll(reader: NodeReader, *, total_steps: int | None) -> NllSettings:
    final_coeff = reader.take("final_coeff", or_null(NOT_NEGATIVE), default=None)
    decays = final_coeff is not None
    decay_over = reader.take_or_none(decays, "decay_over", SHARE_OR_STEPS)
    if decay_over is not None and total_steps is not None and decay_over > total_steps:
        reader.problems.append(
            f"`interleave.nll.decay_over` must be at most the run's {total_steps} steps, but is "
            f"{decay_over:g}: `final_coeff` would never be reached. Give a share below 1, or train "
            "longer."
        )
    convex = reader.take("convex", SWITCH, default=False)
    coeff = reader.take("coeff", SHARE if convex else NOT_NEGATIVE, default=0.0)
    return NllSettings(
        coeff=coeff,
        final_coeff=final_coeff,
        decay_over=decay_over,
        convex=convex,
        weight=reader.take("weight", one_of(Weight), default="constant"),
        tokens=reader.take("tokens", one_of(NllTokens), default="all"),
    )
