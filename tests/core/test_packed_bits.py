"""Masks with one bit an entry."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mifo_ext.core.packed_bits import count_bits, pack_bits, unpack_bits


def test_bits_are_packed_eight_to_a_byte_lowest_first() -> None:
    mask = torch.tensor([True, False, False, True] + [False] * 4 + [True])
    packed = pack_bits(mask)
    assert packed.tolist() == [0b00001001, 0b00000001]
    assert count_bits(packed) == 3


@settings(deadline=None)
@given(bits=st.lists(st.booleans(), max_size=100))
def test_unpacking_undoes_packing(bits: list[bool]) -> None:
    mask = torch.tensor(bits, dtype=torch.bool)
    packed = pack_bits(mask)

    assert packed.dtype == torch.uint8
    assert packed.numel() == -(-len(bits) // 8)
    assert unpack_bits(packed, len(bits)).tolist() == bits
    assert count_bits(packed) == sum(bits)


def test_a_mask_that_begins_anywhere_in_another_is_packed_right() -> None:
    mask = torch.arange(64) % 3 == 0
    for first in range(1, 9):
        part = mask[first : first + 48]
        assert torch.equal(pack_bits(part), pack_bits(part.clone()))


def test_every_byte_is_packed_right() -> None:
    bytes_ = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(pack_bits(unpack_bits(bytes_, 2048)), bytes_)


def test_a_packed_mask_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="`packed_P` must have 2 bytes for 9 entries, but has 1"):
        unpack_bits(torch.zeros(1, dtype=torch.uint8), 9)
