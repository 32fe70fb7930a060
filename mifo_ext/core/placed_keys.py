"""Keys of entries together with where the entries lie, in one integer.

The key is above the 32 bits of the place, so integers that are in order have their keys in order.
A place is the number of a bit in this rank's packed mask.

Dimensions:
    K  placed keys
    B  keys that are asked for
"""

from __future__ import annotations

import torch
from jaxtyping import Int32, Int64
from torch import Tensor

PLACES = 1 << 32
"""How many places can be told apart."""
_LAST = PLACES - 1


def placed(key_K: Int32[Tensor, " K"], place_K: Int64[Tensor, " K"]) -> Int64[Tensor, " K"]:
    """Keys from 0 up, each with its place."""
    return key_K.long().mul_(PLACES).add_(place_K)


def places(placed_K: Int64[Tensor, " K"]) -> Int64[Tensor, " K"]:
    """The places alone."""
    return placed_K & _LAST


def up_to(placed_K: Int64[Tensor, " K"], key_B: Int64[Tensor, " B"]) -> Int64[Tensor, " B"]:
    """How many of the keys, in order, are at most as large as each of those asked for."""
    return torch.searchsorted(placed_K, key_B * PLACES + _LAST, right=True)
