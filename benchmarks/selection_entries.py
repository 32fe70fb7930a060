"""Importance to choose held entries from, as it comes in practice."""

from __future__ import annotations

import torch
from torch import Tensor

PIECE = 1 << 24
"""Entries made at once, so that a billion need little memory beside their own."""


def entries_of(kind: str, count: int, seed: int = 0) -> Tensor:
    """Importance to choose from."""
    draw = torch.Generator().manual_seed(seed)
    importance = torch.empty(count)
    for piece in importance.split(PIECE):
        if kind == "distinct":
            piece.normal_(generator=draw).abs_().mul_(1e-6)
        else:
            piece.copy_(_tied(piece.numel(), draw))
    return importance


def _tied(count: int, draw: torch.Generator) -> Tensor:
    """Seventeen values, 58 % of the entries on the middle one."""
    levels = torch.linspace(0.2e-6, 1e-6, 17)
    place = torch.rand(count, generator=draw)
    # Level 8 gets 58 %, the others share the rest; levels below and above it balance.
    number = torch.where(place < 0.21, place / 0.21 * 8, 9 + (place - 0.79).clamp(min=0) / 0.21 * 8)
    number = torch.where((place >= 0.21) & (place < 0.79), torch.tensor(8.0), number)
    return levels[number.clamp(max=16).long()]
