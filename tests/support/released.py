"""What the methods' released code computes, transcribed in float64; nothing of verl or ours.

Each rank's rows are one micro-batch, and FSDP averages ranks. LUFFY, ReLIFT, HPT and SRFT (in HPT's
code) sum a micro-batch's tokens and divide by the longest response; likelihoods and entropy, and
all of CHORD and DFT, are means over its tokens. docs/loss-scales.md has the formulas. Rows that a
method leaves out are not in the batch, as in the released code.

Dimensions:
    T  response tokens of one row
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

LONGEST = 16
"""What a sum over tokens is divided by, 8192 there; no response here is as long."""
GAMMA, ENTROPY = 0.1, 0.001


class Row(NamedTuple):
    """A trajectory: what its response's tokens have under the policy now, and had before."""

    group: str
    demonstration: bool
    reward: float
    log_probs: Tensor
    entropy: Tensor
    old: Tensor

    @property
    def ratio(self) -> Tensor:
        return (self.log_probs - self.old).exp()


Ranks = Sequence[Sequence[Row]]


def luffy(ranks: Ranks) -> Tensor:
    """-A rho, and -A f(pi) on demonstrations; A over the whole group, no clip, no deviation."""
    mean = group_means(ranks, own_only=False)

    def loss(rows: Sequence[Row]) -> Tensor:
        terms = [
            -(row.reward - mean[row.group]) * (shaped(row) if row.demonstration else row.ratio)
            for row in rows
        ]
        return torch.cat(terms).sum() / LONGEST - ENTROPY * token_mean(rows, entropy)

    return averaged(ranks, loss)


def grpo(ranks: Ranks) -> Tensor:
    """LUFFY's baseline without a demonstration: PPO's clip, kept."""
    mean = group_means(ranks, own_only=False)

    def loss(rows: Sequence[Row]) -> Tensor:
        terms = []
        for row in rows:
            advantage = row.reward - mean[row.group]
            terms.append(
                torch.maximum(-advantage * row.ratio, -advantage * row.ratio.clamp(0.8, 1.2))
            )
        return torch.cat(terms).sum() / LONGEST - ENTROPY * token_mean(rows, entropy)

    return averaged(ranks, loss)


def rl_and_sft(ranks: Ranks) -> Tensor:
    """LUFFY's baseline of both losses: -A rho / L, A over own rollouts, and the mean likelihood."""
    mean = group_means(ranks, own_only=True)

    def loss(rows: Sequence[Row]) -> Tensor:
        terms = [-(row.reward - mean[row.group]) * row.ratio for row in own(rows)]
        policy = torch.cat(terms).sum() / LONGEST if terms else torch.tensor(0.0)
        return policy + token_mean(given(rows), nll) - ENTROPY * token_mean(rows, entropy)

    return averaged(ranks, loss)


def hpt(ranks: Ranks) -> Tensor:
    """The same on what the gate keeps: a failed question's demonstration, or all its rollouts."""
    has = {row.group for rows in ranks for row in given(rows)}
    failed = {name for name, mean in group_means(ranks, own_only=True).items() if mean == 0} & has
    return rl_and_sft(
        [[row for row in rows if row.demonstration == (row.group in failed)] for rows in ranks]
    )


def srft(ranks: Ranks) -> Tensor:
    """SRFT as HPT's code has it: four terms, weighed by each row's mean entropy."""
    mean = group_means(ranks, own_only=False)

    def loss(rows: Sequence[Row]) -> Tensor:
        sft = [0.5 * torch.exp(-row.entropy.detach().mean()) * nll(row) for row in given(rows)]
        rl = [-(row.reward - mean[row.group]) * shaped(row) for row in given(rows)]
        weight = [0.1 * torch.exp(row.entropy.detach().mean()) for row in own(rows)]
        self_rl = [
            w * nll(row) if row.reward == 1 else row.log_probs
            for w, row in zip(weight, own(rows), strict=True)
        ]
        return (
            torch.cat(sft).sum() / sum(len(row.old) for row in given(rows))
            + torch.cat(rl + self_rl).sum() / LONGEST
            - ENTROPY * token_mean(rows, entropy)
        )

    return averaged(ranks, loss)


def chord(ranks: Ranks, *, mu: float) -> Tensor:
    """(1 - mu) GRPO with deviation, clip and dual clip, and mu phi NLL; weighed by rows."""
    rewards: dict[str, list[float]] = {}
    for row in (row for rows in ranks for row in own(rows)):
        rewards.setdefault(row.group, []).append(row.reward)
    spread = {name: torch.tensor(values).double() for name, values in rewards.items()}

    def policy(row: Row) -> Tensor:
        rewards = spread[row.group]
        advantage = (row.reward - rewards.mean()) / (rewards.std() + 1e-6)
        ratio_T = (row.log_probs - row.old).clamp(-20, 20).exp()
        loss_T = torch.maximum(-advantage * ratio_T, -advantage * ratio_T.clamp(0.8, 1.2))
        return torch.minimum(loss_T, -advantage * 3.0) if advantage < 0 else loss_T

    def undecided(row: Row) -> Tensor:
        p_T = row.log_probs.detach().exp()
        return p_T * (1 - p_T) * nll(row)

    rollouts = sum(len(own(rows)) for rows in ranks)
    experts = sum(len(given(rows)) for rows in ranks)
    total = torch.tensor(0.0, dtype=torch.float64)
    for rows in ranks:
        total = total + (1 - mu) * len(own(rows)) / rollouts * token_mean(own(rows), policy)
        total = total + mu * len(given(rows)) / experts * token_mean(given(rows), undecided)
    return total


def relift_sft(ranks: Ranks) -> Tensor:
    """(1/R) times the mean over all micro-batches: their number is divided by as if of one rank."""

    def loss(rows: Sequence[Row]) -> Tensor:
        return (token_mean(rows, nll) - ENTROPY * token_mean(rows, entropy)) / len(ranks)

    return averaged(ranks, loss)


def dft(ranks: Ranks) -> Tensor:
    """sg(p) times the likelihood; micro-batches' means are summed, here one a rank."""
    return averaged(
        ranks, lambda rows: token_mean(rows, lambda row: row.log_probs.detach().exp() * nll(row))
    )


def averaged(ranks: Ranks, loss: Callable[[Sequence[Row]], Tensor]) -> Tensor:
    return torch.stack([loss(rows) for rows in ranks]).mean()


def group_means(ranks: Ranks, *, own_only: bool) -> dict[str, float]:
    """Mean reward of each group over all ranks: its own rollouts', or the demonstration's too."""
    rewards: dict[str, list[float]] = {}
    for row in (row for rows in ranks for row in rows):
        if not (own_only and row.demonstration):
            rewards.setdefault(row.group, []).append(row.reward)
    return {name: sum(values) / len(values) for name, values in rewards.items()}


def token_mean(rows: Iterable[Row], value: Callable[[Row], Tensor]) -> Tensor:
    """Mean over all tokens of a micro-batch; 0 without any."""
    values = [value(row) for row in rows]
    return torch.cat(values).mean() if values else torch.tensor(0.0, dtype=torch.float64)


def own(rows: Iterable[Row]) -> list[Row]:
    return [row for row in rows if not row.demonstration]


def given(rows: Iterable[Row]) -> list[Row]:
    return [row for row in rows if row.demonstration]


def nll(row: Row) -> Tensor:
    return -row.log_probs


def entropy(row: Row) -> Tensor:
    return row.entropy


def shaped(row: Row) -> Tensor:
    pi_T = row.log_probs.exp()
    return pi_T / (pi_T + GAMMA)
