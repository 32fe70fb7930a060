"""The k-th largest of integers that lie on many ranks: exact, without gathering or sorting them.

A sample of the integers gives a band that almost surely holds the k-th largest, and holds few of
them. One pass over all counts those above the band and sets aside those inside; the rest of the
search sees only these. Where the band is missed, or holds too many to set aside (many are equal),
passes over all take their place: the answer is the same, only later. (Floyd and Rivest's
selection, Communications of the ACM 18(3), 1975, with histograms in place of partitions, because
ranks can add up histograms.)

Dimensions:
    K  integers
    B  bins of a histogram
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Int32, Int64
from torch import Tensor

SumOverRanks = Callable[[Int64[Tensor, " B"]], Int64[Tensor, " B"]]

LARGEST = (1 << 31) - 1
"""The largest key."""
SET_ASIDE = 1 << 22
"""How many keys a rank sets aside at most; 16 MiB."""
_DEVIATIONS = 4
"""Half the band in standard deviations of a random sample: it misses about once in 16,000."""
_SHORT_BITS, _LONG_BITS = 7, 10
"""Bits that one histogram resolves: 1 KiB where a round costs nothing but the exchange, 8 KiB
where it costs a pass over the model."""


class Band(NamedTuple):
    """Keys from `low` to `high`, both included."""

    low: int
    high: int

    @property
    def bits(self) -> int:
        """How many bits tell its keys apart, at least 1."""
        return max(1, (self.high - self.low).bit_length())

    def inside(self, keys_K: Int32[Tensor, " K"]) -> Int32[Tensor, " _"]:
        """The keys that lie in the band, in order."""
        return keys_K[(keys_K >= self.low) & (keys_K <= self.high)]


class Kth(NamedTuple):
    """The k-th largest key.

    Attributes:
        key: the key.
        rest: how many equal to it are among the k largest.
        tied: how many are equal to it at all.
    """

    key: int
    rest: int
    tied: int


def sample_stride(total: int) -> int:
    """Which share of so many keys is looked at: every stride-th.

    The more are looked at, the fewer lie in the band; twice total^(2/3) of them make the sum of
    both efforts about the least (2 million of a billion). Odd, so that it does not keep step with
    the rows of a matrix.
    """
    return max(1, int(total ** (1 / 3) / 2)) | 1


def likely_band(
    sample: Sequence[Int32[Tensor, " _"]], *, k: int, total: int, sum_over_ranks: SumOverRanks
) -> Band:
    """Where the k-th largest of all keys almost surely lies, from every stride-th of them.

    Args:
        sample: this rank's part of the sample.
        k: rank of the key that is looked for, at least 1. When fewer keys are above 0, it is the
            smallest of those.
        total: number of keys over all ranks.
        sum_over_ranks: adds int64 counts over the ranks.

    Returns:
        The same band on every rank, without 0. It is a guess: nothing here makes sure of it.
    """
    here = [sum(keys.numel() for keys in sample), sum(int(keys.count_nonzero()) for keys in sample)]
    size, positive = sum_over_ranks(torch.tensor(here)).tolist()
    if positive == 0:
        return Band(1, LARGEST)
    share = min(k / max(total, k), positive / size)
    middle, margin = share * size, 0.0
    if size < total:
        margin = _DEVIATIONS * math.sqrt(size * share * (1 - share)) + 1
    first, last = math.floor(middle - margin), math.ceil(middle + margin)

    def key_at(rank: int) -> int:
        band = Band(0, LARGEST)
        return kth_largest(rank, band, sample, sum_over_ranks=sum_over_ranks).key

    high = LARGEST if first < 1 else key_at(first)
    low = 1 if last > positive else key_at(last)
    return Band(low, high)


def kth_largest(
    k: int,
    band: Band,
    keys: Sequence[Int32[Tensor, " K"]],
    *,
    sum_over_ranks: SumOverRanks,
) -> Kth:
    """Find the k-th largest of keys that all lie in the band, by histograms of their bits.

    Args:
        k: from 1 to the number of keys over all ranks.
        band: where they lie.
        keys: this rank's keys, in pieces.
        sum_over_ranks: adds int64 counts over the ranks; called once a round.
    """
    left = list(keys)

    def matching(prefix: int, high: int) -> Iterable[Tensor]:
        nonlocal left
        if high < band.bits:  # No later round needs the others.
            left = [keys_K[((keys_K - band.low) >> high) == prefix] for keys_K in left]
        return left

    return _by_histograms(k, band, matching, sum_over_ranks=sum_over_ranks, bits=_SHORT_BITS)


def kth_largest_of_all(
    k: int,
    band: Band,
    keys: Callable[[], Iterable[Int32[Tensor, " K"]]],
    *,
    sum_over_ranks: SumOverRanks,
) -> Kth:
    """`kth_largest` of those keys that lie in the band, by passes over all.

    `keys` gives this rank's keys, in pieces, and is called once a round.
    """

    def matching(prefix: int, high: int) -> Iterator[Tensor]:
        for keys_K in keys():
            inside_K = band.inside(keys_K)
            yield inside_K[((inside_K - band.low) >> high) == prefix]

    return _by_histograms(k, band, matching, sum_over_ranks=sum_over_ranks, bits=_LONG_BITS)


def _by_histograms(
    k: int,
    band: Band,
    matching: Callable[[int, int], Iterable[Int32[Tensor, " K"]]],
    *,
    sum_over_ranks: SumOverRanks,
    bits: int,
) -> Kth:
    """Resolve so many bits of the k-th largest key a round, from the highest down.

    `matching` gives the keys whose distance from the band's low end has this prefix from bit
    `high` up.
    """
    prefix, rest, tied, high = 0, k, 0, band.bits
    while high > 0:
        low = max(high - bits, 0)
        first, bins = prefix << (high - low), 1 << (high - low)
        counts_B = torch.zeros(bins, dtype=torch.int64)
        for keys_K in matching(prefix, high):
            bin_K = ((keys_K - band.low) >> low) - first
            counts_B += torch.bincount(bin_K, minlength=bins).cpu()
        from_top_B = sum_over_ranks(counts_B).flip(0).cumsum(0)
        steps = int(torch.searchsorted(from_top_B, rest))  # the first with from_top >= rest
        above = int(from_top_B[steps - 1]) if steps else 0
        tied = int(from_top_B[steps]) - above
        rest -= above
        prefix = first + bins - 1 - steps
        high = low
    return Kth(band.low + prefix, rest, tied)
