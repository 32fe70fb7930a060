"""The constants and the state of AdamW.

Dimensions:
    N  consecutive entries of one parameter
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor


@dataclass(frozen=True)
class AdamWSettings:
    """What AdamW needs beside the learning rate."""

    betas: tuple[float, float] = (0.9, 0.999)
    """Decay of the first and the second moment, each in [0, 1)."""
    eps: float = 1e-8
    """Added to the root of the second moment, above 0."""
    weight_decay: float = 0.01
    """Share of the value that a step of learning rate 1 takes away, 0 or more."""

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"`betas` must be two numbers in [0, 1), but is {self.betas}.")
        if not self.eps > 0:
            raise ValueError(f"`eps` must be above 0, but is {self.eps}.")
        if not self.weight_decay >= 0:
            raise ValueError(f"`weight_decay` must be 0 or more, but is {self.weight_decay}.")


class Moments(NamedTuple):
    """AdamW's running means of the gradient and of its square, each (N,), updated in place."""

    exp_avg: Tensor
    exp_avg_sq: Tensor
