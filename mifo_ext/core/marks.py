"""Entries marked by a comparison and counted at a processor's full speed by torch.

torch's comparisons fill single bytes several times as slowly as they fill numbers of four bytes,
and counting by a mask of booleans goes entry by entry. What is here says the same in operations
that go many entries at a time; on an accelerator it costs no more.

Dimensions:
    N  entries
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float32, Float64, Int32
from torch import Tensor

_ROW = 1024


def marks(
    compare: Callable[..., Any], key_N: Int32[Tensor, " N"], bound: int
) -> Int32[Tensor, " N"]:
    """`compare(key_N, bound)`, for one of torch's comparisons, as 0 and 1."""
    mark_N = torch.empty_like(key_N)
    compare(key_N, bound, out=mark_N)
    return mark_N


def count_marks(mark_N: Int32[Tensor, " N"]) -> Int32[Tensor, ""]:
    """How many are 1."""
    return mark_N.sum(dtype=torch.int32)


def as_mask(mark_N: Int32[Tensor, " N"]) -> Bool[Tensor, " N"]:
    """True where the mark is 1."""
    return mark_N.to(torch.int8).view(torch.bool)


def squared_norm(value_N: Float32[Tensor, " N"]) -> Float64[Tensor, ""]:
    """The sum of squares, to one part in 100,000; numbers below 1e-22 may count as zero.

    Rows of 1,024 are added up in float32, and the rows in float64: a quarter of what float64
    throughout costs.
    """
    whole = value_N.numel() // _ROW * _ROW
    rows = torch.linalg.vector_norm(value_N[:whole].view(-1, _ROW), dim=1).double()
    rest = torch.linalg.vector_norm(value_N[whole:], dtype=torch.float64)
    total: Tensor = rows.square_().sum() + rest.square_()
    return total
