"""Where the entries of many pieces begin, for a kernel that takes all of them in one launch.

Dimensions:
    Q  pieces
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import triton
from jaxtyping import Float64
from torch import Tensor

from mifo_ext import addresses
from mifo_ext.core.pieces import Pieces

BLOCK = 2048
"""Entries of a program."""
AS_WRITTEN = {"enable_fp_fusion": False}
"""For a launch in which each operation rounds once."""


class Table:
    """Addresses of the pieces' entries, on the device.

    A program is one block of one piece; blocks of a piece follow each other.

    Attributes:
        addresses: of each list of tensors where each piece begins there (Q).
        masks: of each mask likewise (Q); of None nothing that may be read.
        lengths: the pieces' entries (Q).
        places: their places in the masks (Q).
        aligned: whether all addresses are multiples of 16, so that reads may be wide.
        blocks: programs of a piece.
        grid: programs.
    """

    def __init__(
        self,
        device: torch.device,
        pieces: Pieces,
        masks: Sequence[Tensor | None],
        *tensors: tuple[Sequence[Tensor], Pieces],
    ) -> None:
        self._device = device
        rows = [addresses.of_entries(of_all, where) for of_all, where in tensors]
        self.aligned = not any((row & 15).any() for row in rows)
        packed = [addresses.of_bits(mask, pieces) for mask in masks]
        everything = np.stack([*rows, *packed, pieces.length.numpy(), pieces.place.numpy()])
        *all_rows, self.lengths, self.places = self.to_device(torch.from_numpy(everything))
        self.addresses, self.masks = all_rows[: len(rows)], all_rows[len(rows) :]
        self.blocks = triton.cdiv(int(pieces.length.max()), BLOCK)
        self.grid = (pieces.length.numel() * self.blocks,)

    def to_device(self, values: Tensor | np.ndarray) -> Tensor:
        """Numbers for the kernel; float64 becomes float32."""
        if isinstance(values, np.ndarray):
            values = torch.from_numpy(values.astype(np.float32))
        if self._device.type == "cpu":
            return values
        return values.pin_memory().to(self._device, non_blocking=True)

    def totals(self, number: int) -> Float64[Tensor, "programs number"]:
        """Zeros for every program's sums."""
        return torch.zeros(*self.grid, number, dtype=torch.float64, device=self._device)
