"""Where pieces begin in memory, and which tensors have no such place."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mifo_ext import addresses
from mifo_ext.core.pieces import Pieces, one_piece

PIECES = Pieces(*map(torch.tensor, ([1, 0, 1], [0, 3, 8], [5, 1, 2], [0, 8, 16])))


def test_a_piece_begins_where_its_first_entry_lies() -> None:
    tensors = [torch.zeros(4), torch.zeros(10)]
    expected = [tensors[t][first:].data_ptr() for t, first in [(1, 0), (0, 3), (1, 8)]]
    assert addresses.of_entries(tensors, PIECES).tolist() == expected


def test_its_bits_begin_at_its_place() -> None:
    packed = torch.zeros(3, dtype=torch.uint8)
    expected = [packed[first:].data_ptr() for first in (0, 1, 2)]
    assert addresses.of_bits(packed, PIECES).tolist() == expected
    assert addresses.of_bits(None, PIECES).tolist() == [0, 0, 0]


@pytest.mark.parametrize("bad", [torch.zeros(8)[::2], torch.zeros(4, dtype=torch.bfloat16)])
def test_entries_that_do_not_lie_side_by_side_in_float32_are_refused(bad: Tensor) -> None:
    with pytest.raises(ValueError, match=r"float32 and contiguous .* tensor 0 is torch"):
        addresses.of_entries([bad], one_piece(4))
