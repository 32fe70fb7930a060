"""What a recipe's method asks of the RL algorithm beside it, as sentences."""

from __future__ import annotations

from collections.abc import Iterator

from omegaconf import DictConfig, OmegaConf

DEAD_GRAD_CLIP = 1.0
"""verl's default of a key that looks like the gradient's limit and has no effect."""
GROUP_ESTIMATORS = ("grpo", "rloo")
"""verl's estimators whose baseline is the group, so that a demonstration can be part of it."""


def rl_problems(config: DictConfig) -> Iterator[str]:
    """Find what is wrong with the RL algorithm, for itself and beside the method."""
    estimator = str(config.algorithm.adv_estimator)
    critic = OmegaConf.select(config, "critic.enable")
    if estimator == "gae" and critic is False:
        yield (
            "`critic.enable` must be true with `algorithm.adv_estimator=gae`, but is false: its "
            "advantages are the critic's. Use rl=ppo, or an algorithm without a critic (rl=grpo)."
        )
    rollouts, kind = config.actor_rollout_ref.rollout.n, config.interleave.get("kind")
    never_rl = kind == "phases" and "rl" not in config.interleave.order
    if never_rl and (critic or (critic is None and estimator == "gae")):
        yield (
            f"`critic.enable` must be false for recipe {config.interleave.recipe}, but a critic is "
            "asked for: there is no RL step that would train it. Leave rl=ppo out."
        )
    # The other kinds ask for more by themselves.
    if kind in ("rl", "phases") and estimator in GROUP_ESTIMATORS and rollouts < 2:
        yield (
            f"`actor_rollout_ref.rollout.n` must be at least 2 with {estimator}, but is "
            f"{rollouts}: a rollout's baseline is its group."
        )
    if config.actor_rollout_ref.actor.get("grad_clip", DEAD_GRAD_CLIP) != DEAD_GRAD_CLIP:
        yield (
            "`actor_rollout_ref.actor.grad_clip` must be left alone, but is "
            f"{config.actor_rollout_ref.actor.grad_clip}: verl's engines do not read it. Set "
            "actor_rollout_ref.actor.optim.clip_grad."
        )
    if kind == "mixed":
        yield from _mixed(config, estimator)


def _mixed(config: DictConfig, estimator: str) -> Iterator[str]:
    name = config.interleave.recipe
    if estimator not in GROUP_ESTIMATORS:
        yield (
            f"`algorithm.adv_estimator` must be one of {', '.join(GROUP_ESTIMATORS)} for recipe "
            f"{name}, but is {estimator}: its demonstrations stand in the rollouts' groups. Choose "
            "rl=grpo or rl=rloo."
        )
    actor = config.actor_rollout_ref.actor
    uncertain = OmegaConf.select(config, "interleave.nll.weight") == "certainty"
    signed = config.interleave.get("rollout_loss") == "signed_likelihood"
    if (uncertain or signed) and not (actor.entropy_coeff or actor.get("calculate_entropy")):
        yield (
            "`actor_rollout_ref.actor.calculate_entropy` must be true where "
            "`actor_rollout_ref.actor.entropy_coeff` is 0, but is false: recipe "
            f"{name} weighs its terms by the policy's entropy."
        )
