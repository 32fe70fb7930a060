"""Keys of entries together with where the entries lie, in one integer.

The key is above the 32 bits of the place, so integers that are in order have their keys in order.
A place is the number of a bit in this rank's packed mask.

Keys lie in any order, and are counted anew for each search: to put them in order takes more time,
and on an accelerator more memory.

Dimensions:
    K  keys
    B  keys that are asked for, or bounds
    L  keys that lie between two
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock

import torch
from jaxtyping import Int32, Int64
from torch import Tensor

PLACES = 1 << 32
"""How many places can be told apart."""
_LAST = PLACES - 1
_COUNTED_AT_ONCE = 1 << 22
"""Keys; 16 MiB go to their bins."""
_PICKED_AT_ONCE = 1 << 18
"""Keys that are compared at once."""

ByBounds = Callable[[Tensor, Tensor], Tensor]
"""See `by_bounds`."""


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


def between(placed_K: Int64[Tensor, " K"], first: int, last: int) -> Int64[Tensor, " L"]:
    """Those of placed keys that are from `first` to `last`."""
    parts = torch.split(placed_K, _PICKED_AT_ONCE)
    return torch.cat([part_K[(part_K >= first) & (part_K <= last)] for part_K in parts])


def up_to(
    placed_K: Int64[Tensor, " K"], key_B: Int64[Tensor, " B"], by_bounds: ByBounds
) -> Int64[Tensor, " B"]:
    """How many placed keys are at most as large as each of the keys that are asked for."""
    return at_most(placed_K, key_B * PLACES + _LAST, by_bounds)


def at_most(
    key_K: Tensor, bound_B: Int64[Tensor, " B"], by_bounds: ByBounds
) -> Int64[Tensor, " B"]:
    """How many keys are at most as large as each bound, in host memory."""
    bound_B, at_B = bound_B.sort()
    counts_B = by_bounds(key_K, bound_B).cpu()
    return torch.empty_like(at_B).scatter_(0, at_B, counts_B[:-1].cumsum(0))


def by_bounds(key_K: Tensor, bound_B: Int64[Tensor, " B"]) -> Int64[Tensor, " bins"]:
    """How many keys lie up to the first bound, up to the next, and so on, and behind the last.

    Args:
        key_K: keys, with or without places, in any order.
        bound_B: bounds in order, which the keys' type can hold, in host memory.
    """
    bound_B = bound_B.to(key_K.device, key_K.dtype)
    counts = torch.zeros(bound_B.numel() + 1, dtype=torch.int64, device=key_K.device)
    for part_K in torch.split(key_K, _COUNTED_AT_ONCE):
        bin_K = torch.bucketize(part_K, bound_B, out_int32=True)
        counts += torch.bincount(bin_K, minlength=counts.numel())
    return counts
