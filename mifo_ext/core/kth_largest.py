"""The k-th largest of integers that lie on many ranks: exact, without gathering them.

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
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Int32, Int64
from torch import Tensor

from mifo_ext.core.placed_keys import at_most

SumOverRanks = Callable[[Int64[Tensor, " B"]], Int64[Tensor, " B"]]
UpTo = Callable[[Int64[Tensor, " B"]], Int64[Tensor, " B"]]
"""How many of this rank's keys are at most as large as each of the given ones, which ascend from
-1 at least to `LARGEST` at most."""

HistogramOfAll = Callable[[int, int, int, int], Int64[Tensor, " B"]]
"""Counts this rank's keys from the first to the last, in bins of so many low bits, so many bins."""

LARGEST = (1 << 31) - 1
"""The largest key."""
_DEVIATIONS = 3.5
"""Half the band in standard deviations of a random sample: it misses about once in 2,000."""
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


class Narrowed(NamedTuple):
    """A part of a band in which a key lies.

    Attributes:
        band: the part.
        rest: the key is the so many-th largest in it.
        inside: keys in it, over all ranks.
    """

    band: Band
    rest: int
    inside: int


def sample_stride(total: int) -> int:
    """Which share of so many keys is looked at: every stride-th.

    The more are looked at, the fewer lie in the band. With six times total^(2/3) of them (6 million
    of a billion) a rank that has all of 1.7 billion entries has at most two million there. Odd, so
    that it does not keep step with the rows of a matrix.
    """
    return max(1, int(total ** (1 / 3) / 6)) | 1


def likely_band(
    sample_K: Int32[Tensor, " K"], *, k: int, total: int, sum_over_ranks: SumOverRanks
) -> Band:
    """Where the k-th largest of all keys almost surely lies, from every stride-th of them.

    Args:
        sample_K: this rank's part of the sample, from 0 up, searchable (see `placed_keys`).
        k: rank of the key that is looked for, at least 1. When fewer keys are above 0, it is the
            smallest of those.
        total: number of keys over all ranks.
        sum_over_ranks: adds int64 counts over the ranks.

    Returns:
        The same band on every rank, without 0. It is a guess: nothing here makes sure of it.
    """

    def up_to(key_B: Tensor) -> Tensor:
        return at_most(sample_K, key_B)

    size, zeros = sum_over_ranks(
        torch.tensor([sample_K.numel(), int(up_to(torch.zeros(1, dtype=torch.int64)))])
    ).tolist()
    positive = size - zeros
    if positive == 0:
        return Band(1, LARGEST)
    share = min(k / max(total, k), positive / size)
    middle, margin = share * size, 0.0
    if size < total:
        margin = _DEVIATIONS * math.sqrt(size * share * (1 - share)) + 1
    first, last = math.floor(middle - margin), math.ceil(middle + margin)

    def key_at(rank: int) -> int:
        return kth_largest(rank, Band(0, LARGEST), up_to, sum_over_ranks=sum_over_ranks).key

    high = LARGEST if first < 1 else key_at(first)
    low = 1 if last > positive else key_at(last)
    return Band(low, high)


def kth_largest(k: int, band: Band, up_to: UpTo, *, sum_over_ranks: SumOverRanks) -> Kth:
    """Find the k-th largest of keys that all lie in the band, by histograms of their bits.

    Args:
        k: from 1 to the number of keys over all ranks.
        band: where they lie.
        up_to: counts this rank's keys; a search among keys that are in order.
        sum_over_ranks: adds int64 counts over the ranks; called once a round.
    """

    def histogram(first: int, low: int, bins: int) -> Tensor:
        edge_B = first + (torch.arange(bins + 1) << low) - 1
        return up_to(edge_B.clamp(max=LARGEST)).diff()

    found = Narrowed(band, k, 0)
    while found.inside == 0 or found.band.low < found.band.high:
        found = _narrowed(
            found.rest, found.band, histogram, sum_over_ranks=sum_over_ranks, bits=_SHORT_BITS
        )
    return Kth(found.band.low, found.rest, found.inside)


def narrowed_by_all(
    k: int,
    band: Band,
    histogram_of_all: HistogramOfAll,
    *,
    sum_over_ranks: SumOverRanks,
) -> Narrowed:
    """Where the k-th largest of those keys lies that lie in the band, by one pass over all.

    Over and over it finds the key: each time a thousandth of the band is left, at least one key.
    `histogram_of_all` goes over this rank's keys, and is called once.
    """

    def histogram(first: int, low: int, bins: int) -> Tensor:
        return histogram_of_all(first, min(first + (bins << low) - 1, band.high), low, bins)

    return _narrowed(k, band, histogram, sum_over_ranks=sum_over_ranks, bits=_LONG_BITS)


def _narrowed(
    k: int,
    band: Band,
    histogram: Callable[[int, int, int], Int64[Tensor, " B"]],
    *,
    sum_over_ranks: SumOverRanks,
    bits: int,
) -> Narrowed:
    """Resolve so many bits of the k-th largest key, the highest of those that are not known.

    `histogram` counts keys from the first on, in bins of so many low bits, so many bins.
    """
    low = max(band.bits - bits, 0)
    bins = 1 << (band.bits - low)
    from_top_B = sum_over_ranks(histogram(band.low, low, bins)).flip(0).cumsum(0)
    steps = int(torch.searchsorted(from_top_B, k))  # the first with from_top >= k
    above = int(from_top_B[steps - 1]) if steps else 0
    first = band.low + ((bins - 1 - steps) << low)
    last = min(first + (1 << low) - 1, band.high)
    return Narrowed(Band(first, last), k - above, int(from_top_B[steps]) - above)
