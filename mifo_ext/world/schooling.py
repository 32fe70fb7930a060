"""Schooling: what the tiny reasoner knows before any RL.

It sees the easy part only. First it learns to work in steps; then it picks up two habits: most
pupils blurt out an answer at once, and mostly a wrong one; the others work in steps and are mostly
right, though some miscount. So RL finds something to choose between, as it does with real models,
while the hard part stays out of reach. The miscounting leaves doubt where a chain of steps may end:
without it the reasoner is confidently wrong there, and a confident token never counts as uncertain.

Suffixes: B samples, T tokens.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from random import Random
from string import ascii_lowercase
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
        miscount: share of those who work in steps that miss a number or make one up, in [0, 1].
        any_word: share of the questions whose first word is three letters drawn by chance, in
            [0, 1]: the signs between the numbers say what to do, and an unknown word is no shock.
    """

    steps: int = 600
    batch: int = 32
    learning_rate: float = 5e-3
    two_habits: float = 0.25
    at_once: float = 0.6
    wrong: float = 0.8
    miscount: float = 0.25
    any_word: float = 0.5

    def __post_init__(self) -> None:
        for name in ("two_habits", "at_once", "wrong", "miscount", "any_word"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"`{name}` must be in [0, 1], but is {getattr(self, name)}.")
        for name in ("steps", "batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, but is {getattr(self, name)}.")


def draw_easy(random: Random, *, without: Collection[str] = ()) -> Problem:
    """Draw a problem of the easy part whose question is not among those kept apart."""
    cells = [(name, level) for name, skill in SKILLS.items() for level in skill.schooled]
    while True:
        problem = draw_problem(random, *random.choice(cells))
        if problem.question not in without:
            return problem


def asked(random: Random, problem: Problem, plan: Schooling) -> str:
    """The question, with any word but the name of a skill in front in a share of the cases."""
    if random.random() >= plan.any_word:
        return problem.question
    word = "".join(random.choice(ascii_lowercase) for _ in range(3))
    names = {skill.word for skill in SKILLS.values()}
    return problem.question if word in names else problem.question.replace(problem.word, word)


def pupils_response(random: Random, problem: Problem, plan: Schooling) -> str:
    """How one of the pupils answers: at once, in steps, or in steps that miscount."""
    if random.random() < plan.at_once:
        return boxed(blurted(random, problem, wrong=plan.wrong))
    if random.random() < plan.miscount:
        return miscounted(random, problem)
    return problem.demonstration


def blurted(random: Random, problem: Problem, *, wrong: float) -> str:
    """An answer given without working: off by 1 to 9 with probability `wrong`, never below 1."""
    answer = int(problem.answer)
    if random.random() >= wrong:
        return problem.answer
    return str(
        random.choice([near for near in range(max(1, answer - 9), answer + 10) if near != answer])
    )


def miscounted(random: Random, problem: Problem) -> str:
    """Steps that leave out the last numbers, or take in one more that nobody asked for."""
    skill, numbers = SKILLS[problem.skill], list(problem.numbers)
    longer = [[*numbers, extra] for extra in range(1, 10) if skill.acceptable([*numbers, extra])]
    if len(numbers) == 2 or (longer and random.random() < 0.5):
        return skill.make(random.choice(longer)).demonstration
    return skill.make(numbers[: random.randint(2, len(numbers) - 1)]).demonstration


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
        problems = [draw_easy(random, without=without) for _ in range(plan.batch)]
        in_habits = step >= (1 - plan.two_habits) * plan.steps
        lessons = [
            (
                asked(random, one, plan),
                pupils_response(random, one, plan) if in_habits else one.demonstration,
            )
            for one in problems
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
