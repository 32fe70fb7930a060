"""Losses of demonstrations that stand among the rollouts: LUFFY, SRFT, HPT, CHORD.

Every function gives a loss, or a weight, for each token or row; who sums them, and by what they
are divided, is verl's `agg_loss` and docs/loss-scales.md.

Dimensions:
    B  rows of a micro-batch: rollouts and demonstrations
    T  response positions, right-padded
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def shaped_policy_loss(
    log_probs_BT: Float[Tensor, "B T"], advantages_B: Float[Tensor, " B"], *, gamma: float
) -> Float[Tensor, "B T"]:
    """LUFFY's off-policy term (arXiv 2504.14945, section 3.3): -A f(pi), f(x) = x / (x + gamma).

    The demonstration's own policy is taken to be 1, and nothing is clipped. The gradient to the
    log-probability is -A gamma pi / (pi + gamma)^2: where -A pi would all but ignore what the
    policy finds improbable, f does not.

    Args:
        log_probs_BT: log-probabilities of the demonstrations' tokens.
        advantages_B: advantage of each row; 0 on rows that carry no such loss.
        gamma: above 0; 0.1 in the paper.

    Raises:
        ValueError: if `gamma` is not above 0.
    """
    if not gamma > 0:
        raise ValueError(f"`gamma` must be above 0, but is {gamma}. LUFFY uses 0.1.")
    probability_BT = log_probs_BT.exp()
    return -advantages_B[:, None] * probability_BT / (probability_BT + gamma)


def likelihood_loss(
    log_probs_BT: Float[Tensor, "B T"], weights_B: Float[Tensor, " B"], *, undecided: bool = False
) -> Float[Tensor, "B T"]:
    """Each token's weighted negative log-likelihood.

    Args:
        log_probs_BT: log-probabilities of the tokens.
        weights_B: weight of each row.
        undecided: whether tokens are also weighed by p (1 - p), through which no gradient flows:
            most where the policy is undecided, nothing where it is sure (CHORD's phi, arXiv
            2508.11408, section 4.2).
    """
    weights_BT = weights_B[:, None].expand_as(log_probs_BT)
    if undecided:
        probability_BT = log_probs_BT.detach().exp()
        weights_BT = weights_BT * probability_BT * (1 - probability_BT)
    return -weights_BT * log_probs_BT


def signed_likelihood_loss(
    log_probs_BT: Float[Tensor, "B T"],
    signs_B: Float[Tensor, " B"],
    right_weights_B: Float[Tensor, " B"],
) -> Float[Tensor, "B T"]:
    """SRFT's term on its own rollouts (arXiv 2506.19767): -w log pi(right) + log pi(wrong).

    Neither ratio nor baseline nor clip; the second part has no lower bound.

    Args:
        log_probs_BT: log-probabilities of the rollouts' tokens.
        signs_B: 1 on rows with the right answer, -1 on the others, 0 on rows that carry no such
            loss.
        right_weights_B: weight of right answers, without a gradient.
    """
    weights_B = torch.where(signs_B > 0, right_weights_B, 1.0)
    return -(signs_B * weights_B)[:, None] * log_probs_BT


def mean_entropy(
    entropy_BT: Float[Tensor, "B T"], mask_BT: Bool[Tensor, "B T"]
) -> Float[Tensor, " B"]:
    """Mean entropy of a row's tokens in nats, without a gradient; 0 where the mask is empty."""
    summed_B = torch.where(mask_BT, entropy_BT.detach(), 0.0).sum(-1)
    return summed_B / mask_BT.sum(-1).clamp(min=1)


def scheduled(step: int, *, first: float, final: float, steps: int) -> float:
    """CHORD's mixing coefficient mu: from `first` to `final` along half a cosine, then constant.

    Args:
        step: counted from 1; the first step has `first`.
        first: coefficient of step 1.
        final: coefficient from step `steps` + 1 on.
        steps: how long the way takes, at least 1.

    Raises:
        ValueError: if `steps` or `step` is below 1.
    """
    if steps < 1 or step < 1:
        raise ValueError(f"`step` and `steps` must be at least 1, but are {step} and {steps}.")
    progress = min(step - 1, steps) / steps
    return final + (first - final) * 0.5 * (1 + math.cos(math.pi * progress))
