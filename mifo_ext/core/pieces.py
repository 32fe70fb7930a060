"""Where pieces of a model lie, for work that takes all of them at once.

Dimensions:
    Q  pieces
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor


class Pieces(NamedTuple):
    """Consecutive entries of flat tensors.

    Attributes:
        tensor: the number of each one's tensor (Q), int64, as all of these, in host memory.
        first: its first entry there (Q).
        length: its entries, at least one (Q).
        place: the place of its first entry in a packed mask, a multiple of 8 (Q).
    """

    tensor: Tensor
    first: Tensor
    length: Tensor
    place: Tensor


def wholes(lengths: Iterable[int], places: Iterable[int]) -> Pieces:
    """Pieces of so many entries at these places, each the whole of a tensor of its own."""
    length, place = torch.tensor([*lengths]), torch.tensor([*places])
    return each_alone(Pieces(length, length, length, place))


def each_alone(pieces: Pieces) -> Pieces:
    """The same pieces, each the whole of a tensor of its own."""
    number = torch.arange(pieces.length.numel())
    return pieces._replace(tensor=number, first=torch.zeros_like(number))


def one_piece(length: int) -> Pieces:
    """All entries of one tensor."""
    zero = torch.zeros(1, dtype=torch.int64)
    return Pieces(zero, zero, torch.tensor([length]), zero)
