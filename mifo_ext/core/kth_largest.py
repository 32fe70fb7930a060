"""The k-th largest of integers that lie on many ranks: exact, without gathering them.

A sample of the integers gives a band that almost surely holds the k-th largest, and holds few of
them. One pass over all counts those above the band and sets aside those inside; the rest of the
search sees only these. Where the band is missed, or holds too many to set aside (many are equal),
passes over all take their place: the answer is the same, only later. (Floyd and Rivest's
selection, Communications of the ACM 18(3), 1975, with histograms in place of partitions, because
ranks can add up histograms.)

Dimensions:
    B  bins of a histogram
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Int64
from torch import Tensor

SumOverRanks = Callable[[Int64[Tensor, " B"]], Int64[Tensor, " B"]]
UpTo = Callable[[Int64[Tensor, " B"]], Int64[Tensor, " B"]]
"""How many of this rank's keys are at most as large as each of the given ones, from -1 at least to
`LARGEST` at most."""

Largest = Callable[[Sequence[int]], list[int]]
"""This rank's k-th largest key, for several k."""

HistogramOfAll = Callable[[int, int, int, int], Int64[Tensor, " B"]]
"""Counts this rank's keys from the first to the last, in bins of so many low bits, so many bins."""

LARGEST = (1 << 31) - 1
"""The largest key."""
_DEVIATIONS = 3.5
"""Half the band in standard deviations of a random sample: it misses about once in 2,000."""
_SHORT_BITS, _LONG_BITS = 7, 10
"""Bits that one histogram resolves: 1 KiB where a round costs nothing but the exchange, 8 KiB
where it costs a pass over the model."""


def alone(counts_B: Int64[Tensor, " B"]) -> Int64[Tensor, " B"]:
    """What adds up counts where one rank has all keys; so it may look them up."""
    return counts_B


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

    The more are looked at, the fewer lie in the band, and each of both costs about the same. Where
    entries are few, both take the least time about here; where they are many, those in the band
    must have room: of 1.7 billion, a rank that has them all has at most two million there. Odd, so
    that it does not keep step with the rows of a matrix.
    """
    return int(30 * total ** (1 / 12)) | 1


def likely_band(
    size: int, up_to: UpTo, *, k: int, total: int, sum_over_ranks: SumOverRanks,
    largest: Largest | None = None,
) -> Band:  # fmt: skip
    """Where the k-th largest of all keys almost surely lies, from every stride-th of them.

    Args:
        size: how many of the sample this rank has.
        up_to: counts them; they are from 0 up.
        k: rank of the key that is looked for, at least 1. When fewer keys are above 0, it is the
            smallest of those.
        total: number of keys over all ranks.
        sum_over_ranks: adds int64 counts over the ranks.
        largest: looks them up, where this rank has all of the sample.

    Returns:
        The same band on every rank, without 0. It is a guess: nothing here makes sure of it.
    """
    zeros = int(up_to(torch.zeros(1, dtype=torch.int64)))
    size, zeros = sum_over_ranks(torch.tensor([size, zeros])).tolist()
    positive = size - zeros
    if positive == 0:
        return Band(1, LARGEST)
    share = min(k / max(total, k), positive / size)
    middle, margin = share * size, 0.0
    if size < total:
        margin = _DEVIATIONS * math.sqrt(size * share * (1 - share)) + 1
    first, last = math.floor(middle - margin), math.ceil(middle + margin)

    ranks = [rank for rank in (first, last) if 1 <= rank <= positive]
    if largest is None:
        found = kth_largest(ranks, Band(0, LARGEST), up_to, sum_over_ranks)
        keys = [kth.key for kth in found]
    else:
        keys = largest(ranks)
    high = keys[0] if first >= 1 else LARGEST
    low = keys[-1] if last <= positive else 1
    return Band(low, high)


def kth_largest(
    ranks: Sequence[int], band: Band, up_to: UpTo, sum_over_ranks: SumOverRanks
) -> list[Kth]:
    """Find the k-th largest of keys that all lie in the band, for several k side by side.

    Each round resolves some bits of all of them by histograms, which are added up over the ranks
    at once.

    Args:
        ranks: each k, from 1 to the number of keys over all ranks.
        band: where the keys lie.
        up_to: counts this rank's keys.
        sum_over_ranks: adds int64 counts over the ranks; called once a round.
    """
    found = [Narrowed(band, k, 0) for k in ranks]
    while open_ones := [i for i, part in enumerate(found) if _is_open(part)]:
        bins = [_bins(found[i].band, _SHORT_BITS) for i in open_ones]
        edges = [_edges(found[i].band.low, *each) for i, each in zip(open_ones, bins, strict=True)]
        sizes = [edge_B.numel() for edge_B in edges]
        counts = [part.diff() for part in torch.split(up_to(torch.cat(edges)), sizes)]
        totals = torch.split(sum_over_ranks(torch.cat(counts)), [size - 1 for size in sizes])
        for i, (low, _), total_B in zip(open_ones, bins, totals, strict=True):
            found[i] = _narrowed(found[i].rest, found[i].band, low, total_B)
    return [Kth(part.band.low, part.rest, part.inside) for part in found]


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
    low, bins = _bins(band, _LONG_BITS)
    last = min(band.low + (bins << low) - 1, band.high)
    total_B = sum_over_ranks(histogram_of_all(band.low, last, low, bins))
    return _narrowed(k, band, low, total_B)


def _is_open(part: Narrowed) -> bool:
    """Whether its keys are not yet counted, or not yet one."""
    return part.inside == 0 or part.band.low < part.band.high


def _bins(band: Band, bits: int) -> tuple[int, int]:
    """To resolve so many bits of a band, the highest: low bits of a bin, and how many bins."""
    low = max(band.bits - bits, 0)
    return low, 1 << (band.bits - low)


def _edges(first: int, low: int, bins: int) -> Int64[Tensor, " edges"]:
    """The last key before each bin, and the last of all."""
    return (first + (torch.arange(bins + 1) << low) - 1).clamp_(max=LARGEST)


def _narrowed(k: int, band: Band, low: int, total_B: Int64[Tensor, " B"]) -> Narrowed:
    """The bin in which the k-th largest key of a band lies, from counts by so many low bits."""
    from_top_B = total_B.flip(0).cumsum(0)
    steps = int(torch.searchsorted(from_top_B, k))  # the first with from_top >= k
    above = int(from_top_B[steps - 1]) if steps else 0
    first = band.low + ((total_B.numel() - 1 - steps) << low)
    last = min(first + (1 << low) - 1, band.high)
    return Narrowed(Band(first, last), k - above, int(from_top_B[steps]) - above)
