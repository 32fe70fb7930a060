"""How much each entry of a model matters to what RL just learned, and which entries come first.

Dimensions:
    N  entries of one parameter, in the order of its flattened tensor
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float32, Int32
from torch import Tensor

# A finite, non-negative float32 and its bit pattern, read as an int32, have the same order; the
# pattern of infinity is above every finite one.
INFINITY_BITS = 0x7F800000


class Chunk(NamedTuple):
    """Entries of one parameter, consecutive unless a stride is given, wherever they are kept.

    Attributes:
        name: the parameter's name in the unsharded model.
        start: index of the first entry in the flattened, unsharded parameter.
        importance: decayed importance of each entry (N), float32, never negative. It may lie in
            host memory while `weight` is on an accelerator.
        weight: value of each entry now (N), float32.
        stride: distance of neighbours in the parameter, at least 1.
    """

    name: str
    start: int
    importance: Tensor
    weight: Tensor
    stride: int = 1

    def part(self, first: int, last: int) -> Chunk:
        """Entries `first` to `last` - 1 of the chunk, as views."""
        inside = slice(first, last)
        return self._replace(
            start=self.start + first * self.stride,
            importance=self.importance[inside],
            weight=self.weight[inside],
        )

    def every(self, stride: int) -> Chunk:
        """The entries whose index in the parameter is a multiple of `stride`, as views.

        Of a chunk of stride 1 only.
        """
        inside = slice(-self.start % stride, None, stride)
        return self._replace(
            start=self.start + inside.start,
            importance=self.importance[inside],
            weight=self.weight[inside],
            stride=stride,
        )

    def sampled(self, stride: int) -> int:
        """How many entries `every` gives."""
        first = -self.start % stride
        return max(0, -(-(self.weight.numel() - first) // stride))

    def pieces(self, size: int) -> Iterator[Chunk]:
        """The chunk in pieces of so many entries, importance brought to the weights."""
        device = self.weight.device
        for first in range(0, self.weight.numel(), size):
            piece = self.part(first, first + size)
            yield piece._replace(importance=piece.importance.to(device, non_blocking=True))


class Ranking(NamedTuple):
    """An order over entries, as integers.

    Attributes:
        keys: from a chunk and a seed, one int32 an entry: larger is held first, 0 is never held.
        score: from a key, the number a person would call its score.
        by_importance: whether a key is the bits of importance.
    """

    keys: Callable[[Chunk, int], Tensor]
    score: Callable[[int], float]
    by_importance: bool = False


def decayed_importance(
    change_N: Float32[Tensor, " N"],
    history_N: Float32[Tensor, " N"] | None = None,
    *,
    decay: float,
) -> Float32[Tensor, " N"]:
    """How far RL moved each entry, mixed with what it held dear before (MIFO, section 3.2).

    Args:
        change_N: values when the RL phase ended, less those when it began.
        history_N: importance carried over from the phase before; None is all zeros.
        decay: weight of the history, in [0, 1); alpha in the paper. At 1 nothing would ever be
            important, because the history starts at zero.

    Returns:
        decay * history + (1 - decay) * |change|.

    Raises:
        ValueError: if `decay` is outside [0, 1).
    """
    check_decay(decay)
    # One rounding per operation. A fused multiply-add rounds differently in a vector loop and in
    # its scalar tail, and then the result would depend on where a shard begins.
    importance_N = change_N.abs().mul_(1 - decay)
    if history_N is not None and decay > 0:
        importance_N.add_(history_N * decay)
    return importance_N


def check_decay(decay: float) -> None:
    """Refuse a decay outside [0, 1)."""
    if not 0 <= decay < 1:
        raise ValueError(
            f"`decay` must be in [0, 1), but is {decay}. MIFO uses 0.5, MIFO without history 0."
        )


def _moved_most(chunk: Chunk, seed: int) -> Int32[Tensor, " N"]:
    """Entries with the largest importance; one that never moved is never held."""
    return float_bits(chunk.importance)


def _moved_least(chunk: Chunk, seed: int) -> Int32[Tensor, " N"]:
    """Entries with the smallest importance among those that moved at all."""
    bits_N = float_bits(chunk.importance)
    return torch.where(bits_N > 0, INFINITY_BITS - bits_N, 0)


def _largest_weight(chunk: Chunk, seed: int) -> Int32[Tensor, " N"]:
    """Entries with the largest magnitude, moved or not."""
    return float_bits(chunk.weight.abs()) + 1


def _random(chunk: Chunk, seed: int) -> Int32[Tensor, " N"]:
    """Entries drawn by a hash of parameter name, index and seed, so by no shard's accident."""
    digest = hashlib.blake2b(f"{seed}/{chunk.name}".encode(), digest_size=8).digest()
    base = int.from_bytes(digest, "little", signed=True)
    end, device = chunk.start + chunk.weight.numel() * chunk.stride, chunk.weight.device

    # SplitMix64 (Steele, Lea and Flood, OOPSLA 2014), in wrapping int64.
    state_N = torch.arange(chunk.start, end, chunk.stride, dtype=torch.int64, device=device)
    state_N = state_N.mul_(_wrapped(0x9E3779B97F4A7C15)).add_(base)
    state_N = (state_N ^ _shifted(state_N, 30)).mul_(_wrapped(0xBF58476D1CE4E5B9))
    state_N = (state_N ^ _shifted(state_N, 27)).mul_(_wrapped(0x94D049BB133111EB))
    return _shifted(state_N, 33).to(torch.int32).clamp_(min=1)


RANKINGS: dict[str, Ranking] = {
    "moved_most": Ranking(_moved_most, lambda key: bits_to_float(key), by_importance=True),
    "moved_least": Ranking(_moved_least, lambda key: bits_to_float(INFINITY_BITS - key)),
    "largest_weight": Ranking(_largest_weight, lambda key: bits_to_float(key - 1)),
    "random": Ranking(_random, lambda key: key / 2**31),
}
"""Which entries are held, one word each. A new one is a function from a chunk to int32 keys."""

ENTRIES = (*RANKINGS, "none")
"""Every word the recipe may use; `none` holds nothing."""


def float_bits(value_N: Float32[Tensor, " N"]) -> Int32[Tensor, " N"]:
    """The bit patterns of non-negative float32 numbers, in the same order as the numbers."""
    return value_N.view(torch.int32)


def bits_to_float(bits: int) -> float:
    """The float32 number with this bit pattern."""
    return torch.tensor(bits, dtype=torch.int32).view(torch.float32).item()


def _wrapped(unsigned: int) -> int:
    return unsigned - (1 << 64) if unsigned >= 1 << 63 else unsigned


def _shifted(value_N: Tensor, bits: int) -> Tensor:
    # A logical shift: torch's own drags the sign along.
    return (value_N >> bits) & ((1 << (64 - bits)) - 1)
