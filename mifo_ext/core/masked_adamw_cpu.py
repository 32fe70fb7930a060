"""The masked AdamW step for processors, in pieces that stay in the cache.

On a processor the step is bound by memory: each of the many small operations would bring all
entries from main memory and back, and each fresh result would be paid for page by page. So a piece
of the entries goes through all of them at once, in memory that is made once and used again.

`torch.where` and `masked_fill` branch on every entry and are some twenty times slower than
arithmetic, so entries are chosen by their bits instead, which also keeps every NaN and signed zero.

Relies on: torch's own AdamW for processors (`torch.optim.adam._single_tensor_adam`) takes the
operations below in this order; elementwise operations give an entry the same bits wherever it lies.

Dimensions:
    N  consecutive entries of one parameter
    P  bytes that pack a mask of N entries, ceil(N / 8)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float32, Float64, UInt8
from torch import Tensor

from mifo_ext.core.adamw import AdamWSettings, Moments
from mifo_ext.core.packed_bits import unpack_bits

THREAD_PIECE = 1 << 17
"""Entries of a piece for each thread: large enough to hide what calling an operation costs."""
LARGEST_PIECE = 1 << 20
"""Entries of a piece, however many threads there are; both fill whole bytes of a packed mask."""

# Intermediate results of one piece: four of floats, two of masks.
_ROWS = 6


class Scratch:
    """Memory for what is computed on the way, made when first needed and used again.

    24 bytes an entry of a piece: 3 MiB a thread, at most 24 MiB.
    """

    def __init__(self) -> None:
        self._rows = _floats(0)

    def pieces(self, count: int) -> Iterator[tuple[slice, Tensor]]:
        """Cut `count` entries: where each piece lies, and memory for it, (6, entries)."""
        size = min(THREAD_PIECE * torch.get_num_threads(), LARGEST_PIECE)
        if self._rows.shape[1] < min(size, count):
            self._rows = _floats(min(size, count))
        for start in range(0, count, size):
            length = min(size, count - start)
            yield slice(start, start + length), self._rows[:, :length]


def _floats(count: int) -> Tensor:
    return torch.empty(_ROWS, count, dtype=torch.float32, device="cpu")


class _Piece(NamedTuple):
    """Consecutive entries of everything, and memory for what is computed of them."""

    weight: Tensor
    gradient: Tensor
    moments: Moments
    held: Tensor | None
    scratch: Tensor


class _Factors(NamedTuple):
    """What AdamW computes from its settings before it looks at an entry."""

    gradient: float
    weight: float
    first: float
    second: float
    root: float
    eps: float
    step: float


def squared_norms(
    gradient_N: Float32[Tensor, " N"],
    held: Bool[Tensor, " N"] | UInt8[Tensor, " P"],
    scratch: Scratch,
) -> Float64[Tensor, " 2"]:
    """Squared norms over live and over held entries; see `masked_adamw.squared_norms`."""
    norms = []
    for where, rows in scratch.pieces(gradient_N.numel()):
        bits = rows.view(torch.int32)
        live = _live_bits(_part(held, where), out=bits[2])
        gradient = gradient_N[where].view(torch.int32)
        torch.bitwise_and(gradient, live, out=bits[0])
        torch.bitwise_xor(gradient, bits[0], out=bits[1])
        norms.append(torch.linalg.vector_norm(rows[:2], dim=1, dtype=torch.float64))
    if not norms:
        return torch.zeros(2, dtype=torch.float64)
    return torch.stack(norms).square_().sum(0)


def masked_adamw_(
    weight_N: Float32[Tensor, " N"],
    gradient_N: Float32[Tensor, " N"],
    moments: Moments,
    *,
    held: Bool[Tensor, " N"] | UInt8[Tensor, " P"] | None,
    step: int,
    lr: float,
    settings: AdamWSettings,
    gradient_scale: float,
    mode: str,
    scratch: Scratch,
) -> Float64[Tensor, ""]:
    """Take one AdamW step on the live entries, in place; see `masked_adamw.masked_adamw_`."""
    first, second = settings.betas
    factors = _Factors(
        gradient=gradient_scale,
        weight=1 - lr * settings.weight_decay,
        first=first,
        second=second,
        root=(1 - second**step) ** 0.5,
        eps=settings.eps,
        step=lr / (1 - first**step),
    )
    norms = []
    for where, rows in scratch.pieces(weight_N.numel()):
        piece = _Piece(
            weight_N[where],
            gradient_N[where],
            Moments(moments.exp_avg[where], moments.exp_avg_sq[where]),
            None if held is None else _part(held, where),
            rows,
        )
        norms.append(_step(piece, factors, restore=mode == "exact"))
    if not norms:
        return torch.zeros((), dtype=torch.float64)
    return torch.stack(norms).square_().sum()


def _step(piece: _Piece, factors: _Factors, *, restore: bool) -> Tensor:
    """Update a piece and return the norm of its change."""
    weight, gradient, (first, second), held, scratch = piece
    moved, root, new_first, new_second, *masks = scratch
    if factors.gradient != 1.0:
        gradient = torch.mul(gradient, factors.gradient, out=moved)
    live = None
    if held is not None:
        live = _live_bits(held, out=masks[0].view(torch.int32))
    if live is not None and not restore:
        torch.bitwise_and(gradient.view(torch.int32), live, out=moved.view(torch.int32))
        gradient, live = moved, None
    if live is None:
        new_first, new_second = first, second

    torch.lerp(first, gradient, 1 - factors.first, out=new_first)
    torch.mul(second, factors.second, out=new_second)
    new_second.addcmul_(gradient, gradient, value=1 - factors.second)
    torch.sqrt(new_second, out=root).div_(factors.root).add_(factors.eps)
    torch.mul(weight, factors.weight, out=moved)
    moved.addcdiv_(new_first, root, value=-factors.step)

    if live is not None:
        kept = torch.add(live, 1, out=masks[1].view(torch.int32))
        _choose(new_first, first, live, kept, out=first)
        _choose(new_second, second, live, kept, out=second)
        _choose(moved, weight, live, kept, out=moved)
    change: Tensor = torch.linalg.vector_norm(
        torch.sub(moved, weight, out=root), dtype=torch.float64
    )
    weight.copy_(moved)
    return change


def _part(held: Tensor, where: slice) -> Tensor:
    """The mask of a piece, packed if it was."""
    if held.dtype == torch.bool:
        return held[where]
    return held[where.start // 8 : -(-where.stop // 8)]


def _live_bits(held: Tensor, out: Tensor) -> Tensor:
    """A mask in int32 for bits: all ones where live, else 0."""
    mask = held if held.dtype == torch.bool else unpack_bits(held, out.numel())
    return out.copy_(mask.view(torch.int8)).sub_(1)


def _choose(new: Tensor, old: Tensor, live: Tensor, kept: Tensor, *, out: Tensor) -> None:
    """The bits of `new` where `live` is all ones, of `old` where `kept` is 1; `new` is used up."""
    bits = new.view(torch.int32).bitwise_and_(live)
    # One of the terms is 0, so nothing carries.
    torch.addcmul(bits, old.view(torch.int32), kept, out=out.view(torch.int32))
