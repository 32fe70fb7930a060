"""Importance to choose held entries from, as it comes in practice."""

from __future__ import annotations

import torch
from torch import Tensor


def entries_of(kind: str, count: int, seed: int = 0) -> Tensor:
    """Importance to choose from."""
    draw = torch.Generator().manual_seed(seed)
    if kind == "distinct":
        return torch.empty(count).normal_(generator=draw).abs_().mul_(1e-6)
    levels = torch.linspace(0.2e-6, 1e-6, 17)
    place = torch.rand(count, generator=draw)
    # Level 8 gets 58 %, the others share the rest; levels below and above it balance.
    number = torch.where(place < 0.21, place / 0.21 * 8, 9 + (place - 0.79).clamp(min=0) / 0.21 * 8)
    number = torch.where((place >= 0.21) & (place < 0.79), torch.tensor(8.0), number)
    return levels[number.clamp(max=16).long()]
