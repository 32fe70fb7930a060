"""Masks with one bit an entry.

Dimensions:
    N  entries of a mask
    P  bytes that pack N bits, ceil(N / 8)
"""

from __future__ import annotations

import functools

import torch
from jaxtyping import Bool, UInt8
from torch import Tensor


def pack_bits(mask_N: Bool[Tensor, " N"]) -> UInt8[Tensor, " P"]:
    """Pack booleans into bytes, entry i into bit i % 8 of byte i // 8; spare bits are zero."""
    spare = -mask_N.numel() % 8
    padded_N = torch.nn.functional.pad(mask_N, (0, spare)) if spare else mask_N
    # Eight bytes of 0 or 1 as one int64: the product gathers one bit of each in the top byte, and
    # no two of its terms meet, so nothing carries.
    padded_N = padded_N.contiguous()
    if padded_N.storage_offset() % 8:  # Words cannot begin there.
        padded_N = padded_N.clone()
    words_P = padded_N.view(torch.uint8).view(torch.int64)
    return ((words_P * 0x0102040810204080) >> 56).to(torch.uint8)


def unpack_bits(packed_P: UInt8[Tensor, " P"], count: int) -> Bool[Tensor, " N"]:
    """Undo `pack_bits` for the first `count` entries.

    Raises:
        ValueError: if `packed_P` is not as long as `count` bits need.
    """
    if packed_P.numel() != -(-count // 8):
        raise ValueError(
            f"`packed_P` must have {-(-count // 8)} bytes for {count} entries, "
            f"but has {packed_P.numel()}."
        )
    words_P = _bytes_of_bits(packed_P.device).index_select(0, packed_P.to(torch.int32))
    return words_P.view(torch.bool)[:count]


def count_bits(packed_P: UInt8[Tensor, " P"]) -> int:
    """How many bits are set."""
    table = torch.tensor([byte.bit_count() for byte in range(256)], device=packed_P.device)
    return int((torch.bincount(packed_P, minlength=256) * table).sum())


@functools.cache
def _bytes_of_bits(device: torch.device) -> Tensor:
    """By packed byte, its eight bits as bytes, which are looked up at once as one int64."""
    bits = (torch.arange(256, device=device)[:, None] >> torch.arange(8, device=device)) & 1
    return bits.to(torch.uint8).view(torch.int64).view(-1)
