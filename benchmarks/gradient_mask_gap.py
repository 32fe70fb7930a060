"""How far "frozen" entries still move when freezing only zeroes their gradient.

The paper freezes parameters in the SFT phase by masking their gradient. Under AdamW a masked entry
still moves by its momentum and by weight decay. This script trains a small policy in MIFO's rhythm
(an RL phase, then one SFT phase with half of the entries masked, again and again) and compares, in
each SFT step, how far masked and live entries move. It needs torch and `mifo_ext.core` only:

    python benchmarks/gradient_mask_gap.py            # a table in Markdown
    python benchmarks/gradient_mask_gap.py --seeds 0 1 2 3 4 --intervals 20

Dimensions:
    N  entries of the policy, all parameters in one vector
    B  contexts of one batch
    C  features of a context
    H  hidden units
    A  actions
    R  rollouts of a context
"""

from __future__ import annotations

import argparse
import itertools
import statistics
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, cross_entropy

from mifo_ext.core.adamw import AdamWSettings, Moments
from mifo_ext.core.freezing import choose_held, held_count
from mifo_ext.core.importance import Chunk, decayed_importance
from mifo_ext.core.masked_adamw import clip_scale, masked_adamw_
from mifo_ext.core.packed_bits import unpack_bits

C, H, A, R = 32, 128, 16, 8
BATCH = 64
SHAPES = ((H, C), (A, H))
FRACTION, DECAY, CLIP_NORM = 0.5, 0.5, 1.0
WEIGHT_SCALE = 0.02
"""Standard deviation of the weights at the start, that of language models: weight decay's share of
a step grows with it."""


@dataclass(frozen=True)
class Case:
    """One row of the table."""

    mode: str
    moments: str
    weight_decay: float
    sft_steps: int
    lr: float


class Moved(NamedTuple):
    """Root mean square movement in one SFT phase, and what RL had moved before it.

    Attributes:
        held: of masked entries.
        live: of all others.
        rl: of masked entries, in the RL phase before.
        along: cosine of the masked entries' movement with RL's; 0 where there is none.
        changed: share of masked entries with another bit pattern than before.
    """

    held: float
    live: float
    rl: float
    along: float
    changed: float


@dataclass
class Optimizer:
    """AdamW with its moments and the number of updates they contain."""

    settings: AdamWSettings
    lr: float
    entries: int
    steps: int = 0
    moments: Moments = field(init=False)

    def __post_init__(self) -> None:
        self.moments = Moments(torch.zeros(self.entries), torch.zeros(self.entries))

    def step(self, weight_N: Tensor, gradient_N: Tensor, held_N: Tensor | None, mode: str) -> None:
        """Take one step, clipped over live entries."""
        live_N = gradient_N if held_N is None else gradient_N.masked_fill(held_N, 0)
        self.steps += 1
        masked_adamw_(
            weight_N,
            gradient_N,
            self.moments,
            held=held_N,
            step=self.steps,
            lr=self.lr,
            settings=self.settings,
            gradient_scale=clip_scale(float(live_N.norm()), CLIP_NORM),
            mode=mode,
        )


def logits(weight_N: Tensor, context_BC: Tensor) -> Tensor:
    """The policy: two layers, weights taken out of one vector."""
    cut = SHAPES[0][0] * SHAPES[0][1]
    hidden_BH = torch.relu(context_BC @ weight_N[:cut].view(SHAPES[0]).T)
    logits_BA: Tensor = hidden_BH @ weight_N[cut:].view(SHAPES[1]).T
    return logits_BA


def gradient(weight_N: Tensor, loss: str, generator: torch.Generator, answers_CA: Tensor) -> Tensor:
    """The gradient of one batch: policy gradient with a group mean, or SFT on right answers."""
    weight_N = weight_N.clone().requires_grad_()
    context_BC = torch.randn(BATCH, C, generator=generator)
    right_B = (context_BC @ answers_CA).argmax(-1)
    logits_BA = logits(weight_N, context_BC)
    if loss == "sft":
        value = cross_entropy(logits_BA, right_B)
    else:
        probability_BA = logits_BA.detach().softmax(-1)
        action_BR = torch.multinomial(probability_BA, R, replacement=True, generator=generator)
        reward_BR = (action_BR == right_B[:, None]).float()
        advantage_BR = reward_BR - reward_BR.mean(-1, keepdim=True)
        value = -(logits_BA.log_softmax(-1).gather(1, action_BR) * advantage_BR).sum(-1).mean()
    return torch.autograd.grad(value, weight_N)[0]


def choose(start_N: Tensor, end_N: Tensor, history_N: Tensor) -> tuple[Tensor, Tensor]:
    """MIFO's mask and the history it leaves."""
    importance_N = decayed_importance(end_N - start_N, history_N, decay=DECAY)
    chunk = Chunk("policy", 0, importance_N, end_N)
    count = held_count(FRACTION, end_N.numel())
    _, packed_P = choose_held([chunk], names=["policy"], total=end_N.numel(), count=count)
    held_N = unpack_bits(packed_P, end_N.numel())
    return held_N, importance_N * held_N


def run(case: Case, *, seed: int, intervals: int, rl_steps: int) -> list[Moved]:
    """Train in MIFO's rhythm and measure every SFT phase."""
    generator = torch.Generator().manual_seed(seed)
    entries = sum(a * b for a, b in SHAPES)
    weight_N = torch.randn(entries, generator=generator) * WEIGHT_SCALE
    # RL and SFT want different things: each phase has its own right answers.
    wanted = {loss: torch.randn(C, A, generator=generator) for loss in ("rl", "sft")}
    settings = AdamWSettings(weight_decay=case.weight_decay)
    rl = Optimizer(settings, case.lr, entries)
    sft = rl if case.moments == "shared" else Optimizer(settings, case.lr, entries)
    history_N = torch.zeros(entries)
    results = []
    for _ in range(intervals):
        start_N = weight_N.clone()
        for _ in range(rl_steps):
            rl.step(weight_N, gradient(weight_N, "rl", generator, wanted["rl"]), None, case.mode)
        held_N, history_N = choose(start_N, weight_N, history_N)
        before_N = weight_N.clone()
        for _ in range(case.sft_steps):
            step_N = gradient(weight_N, "sft", generator, wanted["sft"])
            sft.step(weight_N, step_N, held_N, case.mode)
        change_N = weight_N - before_N
        results.append(
            Moved(
                held=_rms(change_N[held_N]),
                live=_rms(change_N[~held_N]),
                rl=_rms((before_N - start_N)[held_N]),
                along=float(cosine_similarity(change_N[held_N], (before_N - start_N)[held_N], 0)),
                changed=float((change_N[held_N] != 0).float().mean()),
            )
        )
    return results


def _rms(values: Tensor) -> float:
    return float(values.double().square().mean().sqrt())


def _percent(values: list[float]) -> str:
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{100 * statistics.mean(values):.1f} ± {100 * spread:.1f} %"


def row(case: Case, *, seeds: list[int], intervals: int, rl_steps: int) -> str:
    """One row of the table: the first SFT phase, and the mean over the later ones."""
    runs = [run(case, seed=seed, intervals=intervals, rl_steps=rl_steps) for seed in seeds]
    first = [moved[0].held / moved[0].live for moved in runs]
    later = [statistics.mean(m.held / m.live for m in moved[1:]) for moved in runs]
    against_rl = [statistics.mean(m.held / m.rl for m in moved[1:]) for moved in runs]
    along = [statistics.mean(m.along for m in moved[1:]) for moved in runs]
    changed = [statistics.mean(m.changed for m in moved) for moved in runs]
    cells = [
        f"`{case.mode}`",
        f"`{case.moments}`",
        f"{case.weight_decay:g}",
        str(case.sft_steps),
        f"{case.lr:g}",
        *map(_percent, (first, later, against_rl)),
        f"{statistics.mean(along):+.2f}",
        _percent(changed),
    ]
    return f"| {' | '.join(cells)} |"


def cases() -> list[Case]:
    """Every row, the paper's setting first."""
    moments = ("own", "shared")
    return [
        Case(mode, word, weight_decay, sft_steps, lr)
        for mode, weight_decay, lr, steps in (
            ("gradient_mask", 0.01, 1e-6, (1, 10)),
            ("gradient_mask", 0.0, 1e-6, (1,)),
            ("gradient_mask", 0.01, 1e-4, (1,)),
            ("exact", 0.01, 1e-6, (1, 10)),
        )
        for word, sft_steps in itertools.product(moments, steps)
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--intervals", type=int, default=10, help="RL phases and SFT phases")
    parser.add_argument("--rl-steps", type=int, default=10, help="RL steps of one phase")
    options = parser.parse_args()
    if options.intervals < 2 or options.rl_steps < 1:
        parser.error("--intervals must be at least 2 and --rl-steps at least 1.")
    torch.set_num_threads(1)
    columns = (
        *("hold", "moments", "weight decay", "SFT steps", "lr"),
        *("masked / live, first SFT phase", "masked / live, later phases"),
        *("masked: SFT's / RL's movement", "cosine of the two", "masked entries changed"),
    )
    print(f"| {' | '.join(columns)} |")
    print(f"|{'---|' * len(columns)}")
    for case in cases():
        text = row(
            case, seeds=options.seeds, intervals=options.intervals, rl_steps=options.rl_steps
        )
        print(text, flush=True)


if __name__ == "__main__":
    main()
