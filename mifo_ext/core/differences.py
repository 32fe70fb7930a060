"""A tensor kept as its difference from one that is kept anyway: exact, in fewer bytes.

The weights when an RL phase began and those some steps later differ in their low bits only. What is
kept is the difference of their bit patterns, in as few bytes an entry as pay, and the few entries
that need more in full.

Dimensions:
    N  entries
    W  bytes kept of each entry's difference, 0 to 3
    K  entries whose difference needs more
"""

from __future__ import annotations

import torch
from jaxtyping import Float32, Int32
from torch import Tensor

from mifo_ext.core.marks import as_mask, count_marks, marks

_PLACE_AND_VALUE = 8
"""Bytes that an entry costs whose difference needs more than W bytes."""

Difference = dict[str, Tensor]
"""`planes` (W, N), uint8, lowest bytes first; `places` (K) and `steps` (K), int32."""


def difference(
    kept_N: Float32[Tensor, " N"], known_N: Float32[Tensor, " N"]
) -> Difference | Float32[Tensor, " N"]:
    """`kept_N` as its difference from `known_N`; itself where that takes no less.

    Every bit counts, also those of NaN and of signed zeros.
    """
    step_N = known_N.view(torch.int32) - kept_N.view(torch.int32)  # wraps around, and back
    width, bytes_taken = 4, 4 * step_N.numel()
    for fewer in range(4):
        more = int(count_marks(_too_wide(step_N, fewer)))
        cost = fewer * step_N.numel() + _PLACE_AND_VALUE * more
        if cost < bytes_taken:
            width, bytes_taken = fewer, cost
    if width == 4:
        return kept_N
    places = as_mask(_too_wide(step_N, width)).nonzero().squeeze(1)
    planes = [step_N.bitwise_right_shift(8 * i).bitwise_and_(0xFF) for i in range(width)]
    return {
        "planes": torch.stack(planes).to(torch.uint8) if planes else _no_planes(step_N),
        "places": places.to(torch.int32),
        "steps": step_N[places],
    }


def undo_difference(
    parts: Difference | Float32[Tensor, " N"], known_N: Float32[Tensor, " N"]
) -> Float32[Tensor, " N"]:
    """What `difference` was given, from what it gave and the same `known_N`."""
    if isinstance(parts, Tensor):
        return parts
    spare = 32 - 8 * len(parts["planes"])
    step_N = torch.zeros_like(known_N, dtype=torch.int32)
    for i, plane_N in enumerate(parts["planes"]):
        step_N |= plane_N.to(torch.int32) << 8 * i
    if spare < 32:
        step_N = (step_N << spare) >> spare  # the highest bit that was kept is the sign
    step_N[parts["places"]] = parts["steps"]
    return (known_N.view(torch.int32) - step_N).view(torch.float32)


def _too_wide(step_N: Int32[Tensor, " N"], width: int) -> Int32[Tensor, " N"]:
    """Marks differences that so many bytes, with a sign, do not hold."""
    if width == 0:
        return marks(torch.ne, step_N, 0)
    size_N = step_N ^ (step_N >> 31)  # of a negative step its complement
    return marks(torch.ge, size_N, 1 << (8 * width - 1))


def _no_planes(step_N: Int32[Tensor, " N"]) -> Tensor:
    return torch.empty(0, step_N.numel(), dtype=torch.uint8, device=step_N.device)
