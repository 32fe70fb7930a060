"""The loss of a batch whose rows are rollouts and demonstrations, on verl's tensors.

verl's own loss takes the rollouts, ours adds what demonstrations carry; sums and divisors are
verl's `agg_loss`. docs/loss-scales.md sets each method's released arithmetic beside it.

Dimensions:
    B  rows of a micro-batch
    T  response positions, right-padded
"""

from __future__ import annotations

from typing import Any

import torch
from tensordict import TensorDict
from torch import Tensor
from verl.trainer.ppo.core_algos import agg_loss
from verl.utils import tensordict_utils as tu
from verl.utils.metric import AggregationType, Metric
from verl.workers.config import ActorConfig
from verl.workers.utils.losses import ppo_loss
from verl.workers.utils.padding import no_padding_2_padding

from mifo_ext.core.mixed_policy import (
    likelihood_loss,
    mean_entropy,
    shaped_policy_loss,
    signed_likelihood_loss,
)
from mifo_ext.settings_mixed import MixedSettings

IS_DEMONSTRATION = "is_demonstration"
"""Field of each row: 1 for a demonstration, else 0."""
DEMONSTRATION_ADVANTAGE = "demonstration_advantage"
"""Field of each row: the advantage of a demonstration; 0 for a rollout, whose own are verl's."""
LIKELIHOOD_WEIGHT = "likelihood_weight"
"""Field of each row: weight of a demonstration's likelihood; 0 for a rollout."""
RIGHT_OR_WRONG = "right_or_wrong"
"""Field of each row: 1 for a rollout with the right answer, -1 for another, else 0."""
FIELDS = (IS_DEMONSTRATION, DEMONSTRATION_ADVANTAGE, LIKELIHOOD_WEIGHT, RIGHT_OR_WRONG)

ROLLOUT_TOKENS = "rollout_tokens"
"""Count over the global mini-batch: response tokens of rollouts that are trained on."""
LIKELIHOOD_TOKENS = "likelihood_tokens"
"""Count over the global mini-batch: tokens of demonstrations with a likelihood weight."""


def global_counts(data: TensorDict) -> list[int]:
    """This rank's part of `ROLLOUT_TOKENS` and `LIKELIHOOD_TOKENS`."""
    tokens_B = torch.stack([mask.sum() for mask in data["response_mask"].unbind()])
    own_B = data[IS_DEMONSTRATION] == 0
    return [int(tokens_B[own_B].sum()), int(tokens_B[data[LIKELIHOOD_WEIGHT] > 0].sum())]


def mixed_loss(
    model_output: dict[str, Any],
    data: TensorDict,
    dp_group: Any = None,
    *,
    config: ActorConfig,
    settings: MixedSettings,
) -> tuple[Tensor, dict[str, Any]]:
    """Verl's loss of the rollouts, and the method's loss of the demonstrations.

    Args:
        model_output: jagged `log_probs`, and `entropy` where the method or the actor asks for it.
        data: micro-batch of verl's PPO with the rows' `FIELDS` and the global counts.
        dp_group: unused; verl passes it.
        config: verl's actor.
        settings: the recipe's node.

    Returns:
        The micro-batch's share of the global mini-batch's loss, as verl scales it, and metrics.
    """
    # verl counts demonstrations' tokens as well; a mean over tokens is one over rollouts.
    tu.assign_non_tensor(data, batch_num_tokens=max(data[ROLLOUT_TOKENS], 1))
    loss, metrics = ppo_loss(config, model_output, data, dp_group)

    log_probs_BT = no_padding_2_padding(model_output["log_probs"], data)
    mask_BT = data["response_mask"].to_padded_tensor(0).bool()
    terms = {}
    if settings.rollout_loss == "signed_likelihood" or settings.nll.weight == "certainty":
        entropy_B = mean_entropy(no_padding_2_padding(model_output["entropy"], data), mask_BT)
    if settings.rollout_loss == "signed_likelihood":
        right_B = float(settings.right_coeff or 0) * entropy_B.exp()
        signs_B = data[RIGHT_OR_WRONG].to(log_probs_BT.dtype)
        signed_BT = signed_likelihood_loss(log_probs_BT, signs_B, right_B)
        terms["signed_likelihood_loss"] = _as_the_policy_loss(signed_BT, mask_BT, config)
    if settings.shaping is not None:
        advantages_B = data[DEMONSTRATION_ADVANTAGE].to(log_probs_BT.dtype)
        shaped_BT = shaped_policy_loss(log_probs_BT, advantages_B, gamma=settings.shaping)
        terms["demonstration_policy_loss"] = _as_the_policy_loss(shaped_BT, mask_BT, config)
    if settings.nll.coeff > 0:
        weights_B = data[LIKELIHOOD_WEIGHT].to(log_probs_BT.dtype)
        if settings.nll.weight == "certainty":
            weights_B = weights_B * (-entropy_B).exp()
        undecided = settings.nll.tokens == "undecided"
        nll_BT = likelihood_loss(log_probs_BT, weights_B, undecided=undecided)
        summed = torch.where(mask_BT, nll_BT, 0.0).sum()
        terms["demonstration_nll"] = summed / max(data[LIKELIHOOD_TOKENS], 1) * data["dp_size"]
    for name, term in terms.items():
        loss = loss + term
        metrics[f"actor/{name}"] = Metric(value=term.detach(), aggregation=AggregationType.SUM)
    return loss, metrics


def _as_the_policy_loss(loss_BT: Tensor, mask_BT: Tensor, config: ActorConfig) -> Tensor:
    """Sum and divide as verl does with the rollouts' loss; rows without such a loss are zero."""
    summed: Tensor = agg_loss(
        loss_mat=loss_BT,
        loss_mask=mask_BT,
        loss_agg_mode=config.loss_agg_mode,
        **config.global_batch_info,
    )
    return summed
