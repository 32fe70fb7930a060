"""Schooling: what the tiny reasoner knows before any RL.

It sees the easy part only. First it learns to work in steps; then it picks up two habits: most
pupils blurt out an answer at once, and mostly a wrong one; the others work in steps and are right.
So RL finds something to choose between, as it does with real models, while the hard part stays out
of reach.

Suffixes: B samples, T tokens.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from random import Random
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from mifo_ext.world.problems import SKILLS, Problem, boxed, draw_problem
from mifo_ext.world.reasoner import prompt_text

IGNORED = -100


@dataclass(frozen=True)
class Schooling:
    """How the reasoner is schooled.

    Attributes:
        steps: optimizer steps.
        batch: samples a step.
        learning_rate: its peak; a short warm-up leads to it, a straight line away from it.
        two_habits: the last share of the steps, which shows both habits, in [0, 1].
        at_once: share of the samples that answer at once in those steps, in [0, 1].
        wrong: share of the answers given at once that are off by a little, in [0, 1].
    """

    steps: int = 480
    batch: int = 32
    learning_rate: float = 5e-3
    two_habits: float = 0.2
    at_once: float = 0.6
    wrong: float = 0.8

    def __post_init__(self) -> None:
        for name in ("two_habits", "at_once", "wrong"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"`{name}` must be in [0, 1], but is {getattr(self, name)}.")
        for name in ("steps", "batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, but is {getattr(self, name)}.")


def lesson(
    random: Random, *, at_once: float, wrong: float, without: Collection[str] = ()
) -> tuple[str, str]:
    """Draw one question of the easy part and a pupil's response to it.

    Args:
        random: the source of chance; its state moves on.
        at_once: how probable it is that the pupil answers at once.
        wrong: how probable it is that an answer given at once is wrong.
        without: questions that the schooling must not show.

    Returns:
        The question and the response.
    """
    cells = [(name, level) for name, skill in SKILLS.items() for level in skill.schooled]
    problem = draw_problem(random, *random.choice(cells))
    while problem.question in without:
        problem = draw_problem(random, *random.choice(cells))

    if random.random() >= at_once:
        return problem.question, problem.demonstration
    return problem.question, boxed(blurted(random, problem, wrong=wrong))


def blurted(random: Random, problem: Problem, *, wrong: float) -> str:
    """An answer given without working: off by 1 to 20 with probability `wrong`, never below 1."""
    answer = int(problem.answer)
    if random.random() >= wrong:
        return problem.answer
    return str(
        random.choice([near for near in range(max(1, answer - 20), answer + 21) if near != answer])
    )


def encode(tokenizer: Any, lessons: list[tuple[str, str]]) -> tuple[Tensor, Tensor]:
    """Turn questions and responses into inputs and targets.

    Returns:
        Tokens and targets, both BT and padded on the right; targets are `IGNORED` except on a
        response's tokens and the end-of-sequence token after it.
    """
    rows = []
    for question, response in lessons:
        prompt = tokenizer.encode(prompt_text(tokenizer, question), add_special_tokens=False)
        reply = tokenizer.encode(response, add_special_tokens=False)
        rows.append((prompt, [*reply, tokenizer.eos_token_id]))

    width = max(len(prompt) + len(reply) for prompt, reply in rows)
    tokens_BT = torch.full((len(rows), width), tokenizer.pad_token_id)
    targets_BT = torch.full((len(rows), width), IGNORED)
    for row, (prompt, reply) in enumerate(rows):
        end = len(prompt) + len(reply)
        tokens_BT[row, :end] = torch.tensor(prompt + reply)
        targets_BT[row, len(prompt) : end] = torch.tensor(reply)
    return tokens_BT, targets_BT


def next_token_loss(model: Any, tokens_BT: Tensor, targets_BT: Tensor) -> Tensor:
    """Mean cross-entropy over the response tokens, in nats."""
    logits = model(input_ids=tokens_BT[:, :-1], use_cache=False).logits
    return cross_entropy(logits.flatten(0, 1), targets_BT[:, 1:].flatten(), ignore_index=IGNORED)


def learning_rate_at(step: int, plan: Schooling) -> float:
    """The learning rate of a step: up over 20 steps, level, and down over the last two fifths."""
    up, down = (step + 1) / 20, (plan.steps - step) / (0.4 * plan.steps)
    return plan.learning_rate * min(1.0, up, down)


class Optimizers:
    """Muon for the matrices inside the layers, AdamW for everything else.

    On this model Muon needs about a third fewer samples than AdamW alone.
    """

    def __init__(self, model: Any) -> None:
        named = list(model.named_parameters())
        matrices = [weight for name, weight in named if "layers" in name and weight.ndim == 2]
        others = [weight for name, weight in named if "layers" not in name or weight.ndim != 2]
        self.weights = matrices + others
        self.muon: torch.optim.Optimizer = torch.optim.Muon(
            matrices, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"
        )
        self.adamw: torch.optim.Optimizer = torch.optim.AdamW(
            others, betas=(0.9, 0.98), weight_decay=0.01
        )

    def step(self, learning_rate: float) -> None:
        """Clip the gradients to norm 1, take one step, and clear them."""
        torch.nn.utils.clip_grad_norm_(self.weights, 1.0)
        for optimizer, scale in ((self.muon, 1.0), (self.adamw, 0.6)):
            for group in optimizer.param_groups:
                group["lr"] = scale * learning_rate
            optimizer.step()
            optimizer.zero_grad()


def school(
    model: Any,
    tokenizer: Any,
    plan: Schooling,
    *,
    seed: int,
    without: Collection[str] = (),
    on_step: Callable[[float], None] = lambda loss: None,
) -> list[float]:
    """School the model on the easy part.

    Args:
        model: a causal language model; changed in place.
        tokenizer: its tokenizer.
        plan: how long, how fast and in which habits.
        seed: the lessons depend on nothing else.
        without: questions kept for validation and testing.
        on_step: called with each step's loss.

    Returns:
        The loss of every step, in nats.

    Raises:
        ArithmeticError: if the loss is not finite.
    """
    random, optimizers, losses = Random(seed), Optimizers(model), list[float]()
    model.train()
    for step in range(plan.steps):
        habits = plan.at_once if step >= (1 - plan.two_habits) * plan.steps else 0.0
        lessons = [
            lesson(random, at_once=habits, wrong=plan.wrong, without=without)
            for _ in range(plan.batch)
        ]
        loss = next_token_loss(model, *encode(tokenizer, lessons))
        if not loss.isfinite():
            raise ArithmeticError(
                f"The schooling's loss must be finite, but is {loss.item()} at step {step}. "
                "Lower `learning_rate`."
            )
        torch.autograd.backward(loss)
        optimizers.step(learning_rate_at(step, plan))
        losses.append(loss.item())
        on_step(losses[-1])
    model.eval()
    return losses
