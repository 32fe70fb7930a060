"""What a method asks of the RL algorithm beside it is said before anything starts."""

from __future__ import annotations

import pytest

from mifo_ext.adapters.checks_rl import rl_problems
from tests.support.runs import composed


def problems(*words: str) -> list[str]:
    return list(rl_problems(composed(*words)))


@pytest.mark.parametrize(
    "words",
    [
        ["+recipe=grpo"],
        ["+recipe=grpo", "rl=ppo"],
        ["+recipe=mifo", "rl=reinforce_plus_plus"],
        ["+recipe=luffy", "rl=rloo"],
        ["+recipe=srft"],
        ["+recipe=chord", "rl=dapo"],
        ["+recipe=sft_then_rl", "rl=ppo", "actor_rollout_ref.rollout.n=1"],
    ],
    ids=" ".join,
)
def test_a_sound_combination_has_no_problem(words: list[str]) -> None:
    assert problems(*words) == []


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["+recipe=mifo", "rl=ppo", "critic.enable=false"],
            "`critic.enable` must be true with `algorithm.adv_estimator=gae`, but is false",
        ),
        (
            ["+recipe=sft", "rl=ppo"],
            "`critic.enable` must be false for recipe sft, but a critic is asked for",
        ),
        (
            ["+recipe=grpo", "actor_rollout_ref.rollout.n=1"],
            "`actor_rollout_ref.rollout.n` must be at least 2 with grpo, but is 1",
        ),
        (
            ["+recipe=sft_then_rl", "rl=rloo", "actor_rollout_ref.rollout.n=1"],
            "`actor_rollout_ref.rollout.n` must be at least 2 with rloo, but is 1",
        ),
        (
            ["+recipe=luffy", "rl=ppo"],
            "`algorithm.adv_estimator` must be one of grpo, rloo for recipe luffy, but is gae",
        ),
        (
            ["+recipe=hpt", "rl=reinforce_plus_plus"],
            "`algorithm.adv_estimator` must be one of grpo, rloo for recipe hpt",
        ),
        (
            ["+recipe=grpo", "actor_rollout_ref.actor.grad_clip=0.7"],
            "`actor_rollout_ref.actor.grad_clip` must be left alone, but is 0.7",
        ),
        (
            ["+recipe=srft", "actor_rollout_ref.actor.entropy_coeff=0"],
            "`actor_rollout_ref.actor.calculate_entropy` must be true where",
        ),
    ],
    ids=lambda part: " ".join(part) if isinstance(part, list) else "",
)
def test_what_cannot_work_is_one_sentence(words: list[str], sentence: str) -> None:
    (problem,) = problems(*words)
    assert problem.startswith(sentence)


def test_entropy_that_is_computed_for_itself_is_enough() -> None:
    words = [
        "actor_rollout_ref.actor.entropy_coeff=0",
        "actor_rollout_ref.actor.calculate_entropy=true",
    ]
    assert problems("+recipe=srft", *words) == []
