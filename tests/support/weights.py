"""A module whose values and gradients are given by hand, and a hold on it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from mifo_ext.adapters.hold import ParameterHold
from mifo_ext.adapters.hold_settings import HoldReport, SftOptimizerSettings
from mifo_ext.core.adamw import AdamWSettings
from mifo_ext.settings import HoldSettings

ADAMW = AdamWSettings(betas=(0.8, 0.9), eps=1e-7, weight_decay=0.1)


class Weights(nn.Module):
    """Parameters with values and gradients given by hand."""

    def __init__(self, **values: list[float]) -> None:
        super().__init__()
        for name, value in values.items():
            self.register_parameter(name, nn.Parameter(torch.tensor(value)))

    def move(self, **changes: list[float]) -> None:
        with torch.no_grad():
            for name, change in changes.items():
                self.get_parameter(name).add_(torch.tensor(change))

    def pull(self, **gradients: list[float]) -> None:
        for name, gradient in gradients.items():
            self.get_parameter(name).grad = torch.tensor(gradient)


def held(**changes: Any) -> HoldSettings:
    """MIFO's settings of the hold, with some changed."""
    mifo = {"entries": "moved_most", "fraction": 0.5, "decay": 0.5, "mode": "exact", "seed": 0}
    return HoldSettings(**{**mifo, **changes})


def hold_on(
    module: nn.Module,
    *,
    clip_norm: float | None = None,
    moments: str = "own",
    rl_optimizer: torch.optim.Optimizer | None = None,
    **settings: Any,
) -> ParameterHold:
    sft = SftOptimizerSettings(adamw=ADAMW, clip_norm=clip_norm, moments=moments)
    return ParameterHold(module, held(**settings), sft, rl_optimizer=rl_optimizer)


def phase(hold: ParameterHold, module: Weights, **changes: list[float]) -> HoldReport:
    """One RL phase, up to and including `engage`."""
    hold.begin_phase()
    module.move(**changes)
    return hold.engage()


def held_entries(hold: ParameterHold, module: Weights) -> set[str]:
    """Which entries a large step does not move: "name index"."""
    before = {name: value.detach().clone() for name, value in module.named_parameters()}
    module.pull(**{name: [1.0] * value.numel() for name, value in before.items()})
    assert hold.step(lr=1.0).applied
    return {
        f"{name} {i}"
        for name, value in module.named_parameters()
        for i in range(value.numel())
        if value[i] == before[name][i]
    }
