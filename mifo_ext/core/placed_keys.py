"""Keys of entries together with where the entries lie, in one integer.

The key is above the 32 bits of the place, so integers that are in order have their keys in order.
A place is the number of a bit in this rank's packed mask.

Keys that are searched lie in order in host memory, or in any order on an accelerator: there they
are counted anew for each search, which takes less time and memory than putting them in order.

Dimensions:
    K  keys
    B  keys that are asked for, or bounds
    L  keys that lie between two
"""

from __future__ import annotations

from collections.abc import Iterator
from threading import Lock

import torch
from jaxtyping import Int32, Int64
from torch import Tensor

PLACES = 1 << 32
"""How many places can be told apart."""
_LAST = PLACES - 1
_COUNTED_AT_ONCE = 1 << 22
"""Keys; 16 MiB go to their bins."""
_WITHOUT_THREADS = 128
"""Bounds; from 200 on torch wakes its threads to search, which takes longer than searching."""
_PICKED_AT_ONCE = 1 << 20
"""Keys with their places; 8 MiB, and as much for those that are picked."""


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


def largest(placed_K: Int64[Tensor, " K"], k: int) -> int:
    """The k-th largest key of those that lie in order, from 1 up."""
    return int(placed_K[-k]) // PLACES


def searchable(key_K: Tensor) -> Tensor:
    """Keys as a search needs them; their own memory may be used for it."""
    return key_K.sort().values if key_K.device.type == "cpu" else key_K


def at_most(key_K: Tensor, bound_B: Int64[Tensor, " B"]) -> Int64[Tensor, " B"]:
    """How many searchable keys are at most as large as each bound, in host memory."""
    if key_K.device.type == "cpu":
        counts_B, bound_B = torch.empty_like(bound_B), bound_B.to(key_K.dtype)
        parts = (torch.split(each_B, _WITHOUT_THREADS) for each_B in (bound_B, counts_B))
        for some_B, counted_B in zip(*parts, strict=True):
            torch.searchsorted(key_K, some_B, right=True, out=counted_B)
        return counts_B
    return counted_at_most(key_K, bound_B)


def counted_at_most(key_K: Tensor, bound_B: Int64[Tensor, " B"]) -> Int64[Tensor, " B"]:
    """`at_most` of keys in any order."""
    bound_B, at_B = bound_B.sort()
    bound_B = bound_B.to(key_K.device, key_K.dtype)
    counts_B = torch.zeros(bound_B.numel() + 1, dtype=torch.int64, device=key_K.device)
    for part_K in torch.split(key_K, _COUNTED_AT_ONCE):
        bin_K = torch.bucketize(part_K, bound_B, out_int32=True)
        counts_B += torch.bincount(bin_K, minlength=counts_B.numel())
    return torch.empty_like(at_B).scatter_(0, at_B, counts_B[:-1].cumsum(0).cpu())


def up_to(placed_K: Int64[Tensor, " K"], key_B: Int64[Tensor, " B"]) -> Int64[Tensor, " B"]:
    """How many searchable keys are at most as large as each of those asked for."""
    return at_most(placed_K, key_B * PLACES + _LAST)


def between(placed_K: Int64[Tensor, " K"], first: int, last: int) -> Iterator[Int64[Tensor, " L"]]:
    """Searchable keys with places from `first` to `last`, both included, in parts."""
    if placed_K.device.type == "cpu":
        begin = int(torch.searchsorted(placed_K, first))
        yield placed_K[begin : int(torch.searchsorted(placed_K, last, right=True))]
    else:
        yield from picked_between(placed_K, first, last)


def picked_between(
    placed_K: Int64[Tensor, " K"], first: int, last: int
) -> Iterator[Int64[Tensor, " L"]]:
    """`between` of keys in any order."""
    for part_K in torch.split(placed_K, _PICKED_AT_ONCE):
        yield part_K[(part_K >= first) & (part_K <= last)]
