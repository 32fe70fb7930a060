"""Which entries of a model are held still: exactly so many, the same ones however it is sharded.

The entries are never gathered nor sorted. Every rank counts its own keys into histograms of the
keys' leading bits, the ranks add these up (`sum_over_ranks`), and after three rounds the exact
key at the threshold is known to all. Entries tied with it are taken in the order of (parameter
name, index in the unsharded parameter).

Dimensions:
    N  consecutive entries of one parameter, in the order of its flattened tensor
    P  bytes that pack N bits, ceil(N / 8)
    B  bins of a histogram
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import NamedTuple

import torch
from jaxtyping import Bool, Int64, UInt8
from torch import Tensor

from mifo_ext.core.importance import RANKINGS, Chunk

Chunks = Callable[[], Iterable[Chunk]]
SumOverRanks = Callable[[Int64[Tensor, " B"]], Int64[Tensor, " B"]]

# Where a key's bits are cut for counting: at most 2,048 bins, 16 KiB, a round.
_KEY_CUTS = (31, 20, 9, 0)
_INDEX_CUTS = (33, 22, 11, 0)
_LAST_INDEX = (1 << 33) - 1


class Selection(NamedTuple):
    """Which entries are held, as a rule that every rank can apply to its own.

    Held is every entry whose key is above `threshold_key`, and those equal to it that come before
    (`cut_name`, `cut_index`) in the order of parameter names and indices.

    Attributes:
        held: entries held, over all ranks.
        eligible: entries that could have been held.
        threshold: score of the last entry held; None when nothing is.
        threshold_key: its key.
        cut_name: the parameter in which the tied entries run out.
        cut_index: index in that parameter from which on tied entries are live.
        entries: the word for the order that was used.
        seed: seed of that order.
    """

    held: int
    eligible: int
    threshold: float | None
    threshold_key: int
    cut_name: str
    cut_index: int
    entries: str
    seed: int

    def mask(self, chunk: Chunk) -> Bool[Tensor, " N"]:
        """True on the chunk's held entries."""
        keys_N = RANKINGS[self.entries].keys(chunk, self.seed)
        if self.held == 0:
            return torch.zeros_like(keys_N, dtype=torch.bool)
        ties = keys_N.numel() if chunk.name < self.cut_name else 0
        if chunk.name == self.cut_name:
            ties = min(max(self.cut_index - chunk.start, 0), keys_N.numel())
        return torch.cat([keys_N[:ties] >= self.threshold_key, keys_N[ties:] > self.threshold_key])


def held_count(fraction: float, entries: int) -> int:
    """How many of `entries` the fraction asks for: the floor of their product, exactly.

    Raises:
        ValueError: if `fraction` is outside [0, 1].
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"`fraction` must be in [0, 1], but is {fraction}.")
    # The decimal as written: in floats 0.29 * 100 is below 29.
    return int(Fraction(str(fraction)) * entries)


def choose_held(
    chunks: Chunks,
    *,
    names: Sequence[str],
    count: int,
    entries: str = "moved_most",
    seed: int = 0,
    sum_over_ranks: SumOverRanks = lambda counts_B: counts_B,
) -> Selection:
    """Find the `count` first entries of the whole model, exactly (MIFO, section 3.2).

    Args:
        chunks: gives this rank's chunks; called once per pass over them, about five times.
        names: every parameter of the model, sorted, the same on all ranks.
        count: entries to hold; fewer are held when fewer are eligible.
        entries: which come first, a word of `mifo_ext.core.importance.RANKINGS`.
        seed: seed of the random order.
        sum_over_ranks: adds int64 counts over the ranks that share the model. It is called
            the same number of times on every rank, with at most 2,048 or `len(names)` + 1 counts.

    Returns:
        The rule that says which entries are held.

    Raises:
        ValueError: on every rank alike, if an importance is not finite (the parameter is named)
            or `entries` is unknown.
    """
    if entries not in RANKINGS:
        raise ValueError(f"`entries` must be one of {', '.join(RANKINGS)}, but is {entries!r}.")

    keyed = _Keyed(chunks, names, entries, seed, sum_over_ranks)
    eligible = keyed.eligible()
    held = min(count, eligible)
    if held == 0:
        return Selection(0, eligible, None, 0, "", 0, entries, seed)

    key, rest, tied = _kth_largest(held, cuts=_KEY_CUTS, histogram=keyed.histogram)
    # All of the tied entries are held: the cut lies behind the last parameter.
    cut = _Cut(names[-1], _LAST_INDEX) if rest == tied else keyed.cut(key, rest)
    threshold = RANKINGS[entries].score(key)
    return Selection(held, eligible, threshold, key, cut.name, cut.entry, entries, seed)


class _Cut(NamedTuple):
    name: str
    entry: int


class _Keyed(NamedTuple):
    """The model's entries as keys, counted over all ranks."""

    chunks: Chunks
    names: Sequence[str]
    entries: str
    seed: int
    sum_over_ranks: SumOverRanks

    def keys(self, chunk: Chunk) -> Tensor:
        return RANKINGS[self.entries].keys(chunk, self.seed)

    def position(self, chunk: Chunk) -> int:
        return bisect_left(self.names, chunk.name)

    def eligible(self) -> int:
        """Count the entries that may be held, and refuse importance that is not finite.

        One reduction for both, so that every rank sees the error and none waits for the others.
        """
        counts_B = torch.zeros(len(self.names) + 1, dtype=torch.int64)
        for chunk in self.chunks():
            finite = chunk.importance.isfinite().count_nonzero()
            counts_B[self.position(chunk)] += chunk.importance.numel() - int(finite)
            counts_B[-1] += int(self.keys(chunk).count_nonzero())
        *unfinite, eligible = self.sum_over_ranks(counts_B).tolist()

        bad = [f"{name} ({n} entries)" for name, n in zip(self.names, unfinite, strict=True) if n]
        if bad:
            raise ValueError(
                "The importance of every entry must be finite, but is not in "
                f"{', '.join(bad)}. The weights have diverged: go back to an earlier checkpoint."
            )
        return int(eligible)

    def histogram(self, prefix: int, high: int, low: int) -> Tensor:
        """Count all keys whose bits from `high` up are `prefix`, by their bits `low` to `high`."""
        bins = torch.zeros(1 << (high - low), dtype=torch.int64)
        for chunk in self.chunks():
            bins += _bin_counts(self.keys(chunk), prefix=prefix, high=high, low=low)
        return self.sum_over_ranks(bins)

    def cut(self, key: int, rest: int) -> _Cut:
        """Where the first `rest` of the entries tied at `key` end."""
        tied = torch.zeros(len(self.names), dtype=torch.int64)
        for chunk in self.chunks():
            tied[self.position(chunk)] += int((self.keys(chunk) == key).count_nonzero())
        before = [0, *self.sum_over_ranks(tied).cumsum(0).tolist()]
        position = bisect_left(before, rest) - 1  # before[position] < rest <= before[position + 1]
        name = self.names[position]

        def histogram(prefix: int, high: int, low: int) -> Tensor:
            bins = torch.zeros(1 << (high - low), dtype=torch.int64)
            for chunk in self.chunks():
                if chunk.name == name:
                    index = (self.keys(chunk) == key).nonzero().squeeze(1) + chunk.start
                    # Turned round, so that the lowest index is the largest.
                    bins += _bin_counts(_LAST_INDEX - index, prefix=prefix, high=high, low=low)
            return self.sum_over_ranks(bins)

        turned = _kth_largest(rest - before[position], cuts=_INDEX_CUTS, histogram=histogram).value
        return _Cut(name, _LAST_INDEX - turned + 1)


class _Kth(NamedTuple):
    value: int
    rest: int  # how many equal to `value` are among the k
    tied: int  # how many are equal to it at all


def _kth_largest(
    k: int, *, cuts: Sequence[int], histogram: Callable[[int, int, int], Tensor]
) -> _Kth:
    """Find the k-th largest of numbers that are known by their histograms only."""
    prefix, rest, tied = 0, k, 0
    for high, low in pairwise(cuts):
        bins_B = histogram(prefix, high, low)
        from_top_B = bins_B.flip(0).cumsum(0)
        steps = int(torch.searchsorted(from_top_B, rest))  # the first with from_top >= rest
        tied = int(bins_B[-1 - steps])
        rest -= int(from_top_B[steps]) - tied
        prefix = (prefix << (high - low)) + bins_B.numel() - 1 - steps
    return _Kth(prefix, rest, tied)


def _bin_counts(keys_N: Tensor, *, prefix: int, high: int, low: int) -> Int64[Tensor, " B"]:
    first = prefix << (high - low)
    if high < 31 or prefix:
        keys_N = keys_N[(keys_N >> high) == prefix]
    return torch.bincount((keys_N >> low) - first, minlength=1 << (high - low)).cpu()


def pack_bits(mask_N: Bool[Tensor, " N"]) -> UInt8[Tensor, " P"]:
    """Pack booleans into bytes, entry i into bit i % 8 of byte i // 8; spare bits are zero."""
    spare = -mask_N.numel() % 8
    padded_N = torch.nn.functional.pad(mask_N, (0, spare)) if spare else mask_N
    # Eight bytes of 0 or 1 as one int64: the product gathers one bit of each in the top byte, and
    # no two of its terms meet, so nothing carries.
    words_P = padded_N.contiguous().view(torch.uint8).view(torch.int64)
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
    bits = torch.arange(8, dtype=torch.uint8, device=packed_P.device)
    table = ((torch.arange(256, device=packed_P.device)[:, None] >> bits) & 1).bool()
    return table.index_select(0, packed_P.to(torch.int32)).view(-1)[:count]


def count_bits(packed_P: UInt8[Tensor, " P"]) -> int:
    """How many bits are set."""
    table = torch.tensor([byte.bit_count() for byte in range(256)], device=packed_P.device)
    return int((torch.bincount(packed_P, minlength=256) * table).sum())
