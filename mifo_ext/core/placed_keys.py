"""Keys of entries together with where the entries lie, in one integer.

The key is above the 32 bits of the place, so integers that are in order have their keys in order.
A place is the number of a bit in this rank's packed mask.

Dimensions:
    K  placed keys
    B  keys that are asked for
"""

from __future__ import annotations

from threading import Lock

import torch
from jaxtyping import Int32, Int64
from torch import Tensor

PLACES = 1 << 32
"""How many places can be told apart."""
_LAST = PLACES - 1


class Aside:
    """Room for placed keys, to which several threads add.

    Attributes:
        placed_K: the room, int64. What was added comes first, unless it was more than fits.
        used: how many were added (1), int64, on the same device.
    """

    def __init__(self, room: int, device: torch.device) -> None:
        self.placed_K = torch.empty(room, dtype=torch.int64, device=device)
        self.used = torch.zeros(1, dtype=torch.int64, device=device)
        self._lock = Lock()

    @property
    def room(self) -> int:
        """How many have room."""
        return self.placed_K.numel()

    def full(self) -> bool:
        """Whether no more have room; what is added then is only counted."""
        return int(self.used) >= self.room

    def add(self, placed_K: Int64[Tensor, " K"]) -> None:
        """Add these, if all of them have room."""
        with self._lock:
            first = int(self.used)
            self.used += placed_K.numel()
        self.placed_K[first : first + placed_K.numel()] = placed_K[: max(0, self.room - first)]


def placed(key_K: Int32[Tensor, " K"], place_K: Int64[Tensor, " K"]) -> Int64[Tensor, " K"]:
    """Keys from 0 up, each with its place."""
    return key_K.long().mul_(PLACES).add_(place_K)


def places(placed_K: Int64[Tensor, " K"]) -> Int64[Tensor, " K"]:
    """The places alone."""
    return placed_K & _LAST


def up_to(placed_K: Int64[Tensor, " K"], key_B: Int64[Tensor, " B"]) -> Int64[Tensor, " B"]:
    """How many of the keys, in order, are at most as large as each of those asked for."""
    return torch.searchsorted(placed_K, key_B * PLACES + _LAST, right=True)
