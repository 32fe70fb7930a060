"""A model's entries as integer keys, counted over all ranks: the passes behind `choose_held`.

Dimensions:
    N  entries of a piece
    W  words of eight entries
    K  keys set aside
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Int32, Int64
from torch import Tensor

from mifo_ext.core.importance import INFINITY_BITS, PIECE, Chunk, Ranking, float_bits
from mifo_ext.core.kth_largest import (
    LARGEST,
    SET_ASIDE,
    Band,
    Kth,
    SumOverRanks,
    kth_largest,
    kth_largest_of_all,
    likely_band,
    sample_stride,
)

Chunks = Callable[[], Iterable[Chunk]]

# A parameter's index is found block by block: 2**33 entries at first, then these.
_BLOCK_BITS = (26, 19, 12, 5, 0)
_INDEX_BITS = 33


class Cut(NamedTuple):
    """Where the entries that are tied at the threshold run out.

    Attributes:
        name: the parameter.
        entry: index in it from which on tied entries are live.
    """

    name: str
    entry: int


class Around(NamedTuple):
    """What one pass finds around a band of keys.

    Attributes:
        band: the band.
        above: keys above the band, over all ranks.
        inside: keys in the band, over all ranks.
        aside: this rank's keys in the band, each piece with its parameter's place among the names;
            None when some rank had too many.
        ties: this rank's keys in the band by parameter; used where the band is one key.
    """

    band: Band
    above: int
    inside: int
    aside: list[tuple[int, Int32[Tensor, " _"]]] | None
    ties: Int64[Tensor, " names"]


class KeyedEntries(NamedTuple):
    """This rank's entries in an order, beside those of other ranks.

    Attributes:
        chunks: gives this rank's chunks; called once a pass.
        names: every parameter of the model, sorted.
        ranking: the order.
        seed: seed of a random order.
        sum_over_ranks: adds int64 counts over the ranks.
    """

    chunks: Chunks
    names: Sequence[str]
    ranking: Ranking
    seed: int
    sum_over_ranks: SumOverRanks

    def likely_band(self, k: int, total: int) -> Band:
        """Where the k-th largest of `total` keys almost surely lies, or the smallest above 0."""
        stride = sample_stride(total)
        # Importance that is not finite is refused later, on all ranks; its keys may be negative.
        sample = _joined(
            self.ranking.keys(piece, self.seed).clamp(min=0)
            for chunk in self.chunks()
            for piece in chunk.every(stride).pieces()
        )
        return likely_band(sample, k=max(k, 1), total=total, sum_over_ranks=self.sum_over_ranks)

    def count_around(self, band: Band) -> Around:
        """One pass over all entries.

        Raises:
            ValueError: on every rank, if an importance is not finite or negative.
        """
        ties = torch.zeros(len(self.names), dtype=torch.int64)
        aside: list[tuple[int, Tensor]] = []
        totals = [0, 0, 0]  # pieces with improper importance, keys above, keys at least `low`
        room = SET_ASIDE
        for piece, keys_N in self._pieces():
            above_N, at_least_N = keys_N > band.high, keys_N >= band.low
            extremes = float_bits(piece.importance).aminmax()
            counts = torch.stack([_ones(above_N), _ones(at_least_N), *extremes])
            above, at_least, least, most = counts.tolist()
            improper = least < 0 or most >= INFINITY_BITS
            for i, number in enumerate((improper, above, at_least)):
                totals[i] += number
            if band.low == band.high:
                ties[self._place(piece)] += at_least - above
            else:
                room -= at_least - above
                if room >= 0 and at_least > above:
                    aside.append((self._place(piece), _marked(keys_N, at_least_N ^ above_N)))
        exchanged = self.sum_over_ranks(torch.tensor([*totals, int(room < 0)])).tolist()
        improper, above, at_least, crowded = exchanged
        if improper:
            self._refuse()
        return Around(band, above, at_least - above, None if crowded else aside, ties)

    def kth_largest(self, k: int, found: Around) -> Kth:
        """The k-th largest key, k from 1 to the keys above and inside the band."""
        band, rest = found.band, k - found.above
        if rest <= 0:
            band, rest = Band(band.high + 1, LARGEST), k
        elif band.low == band.high:
            return Kth(band.low, rest, found.inside)
        elif found.aside is not None:
            aside = _joined(keys_K for _, keys_K in found.aside)
            return kth_largest(rest, band, lambda: aside, sum_over_ranks=self.sum_over_ranks)
        return kth_largest_of_all(
            rest,
            band,
            lambda: (keys_N for _, keys_N in self._pieces()),
            sum_over_ranks=self.sum_over_ranks,
        )

    def cut(self, kth: Kth, found: Around) -> Cut:
        """Where the first `kth.rest` of the entries tied at `kth.key` end."""
        if kth.rest == kth.tied:  # All of them: the cut lies behind the last parameter.
            return Cut(self.names[-1], 1 << _INDEX_BITS)
        before = [0, *self.sum_over_ranks(self._ties(kth.key, found)).cumsum(0).tolist()]
        place = bisect_left(before, kth.rest) - 1  # before[place] < rest <= before[place + 1]
        name, rest = self.names[place], kth.rest - before[place]
        block, bits = 0, _INDEX_BITS
        for smaller in _BLOCK_BITS:
            counts_B = torch.zeros(1 << (bits - smaller), dtype=torch.int64)
            for first, ties in self._ties_by_block(name, kth.key, block, bits, smaller):
                counts_B[first] += ties
            up_to_B = self.sum_over_ranks(counts_B).cumsum(0)
            step = int(torch.searchsorted(up_to_B, rest))  # the first with up_to >= rest
            rest -= int(up_to_B[step - 1]) if step else 0
            block, bits = block + (step << smaller), smaller
        return Cut(name, block + 1)

    def _pieces(self) -> Iterator[tuple[Chunk, Int32[Tensor, " N"]]]:
        for chunk in self.chunks():
            for piece in chunk.pieces():
                yield piece, self.ranking.keys(piece, self.seed)

    def _place(self, chunk: Chunk) -> int:
        return bisect_left(self.names, chunk.name)

    def _ties(self, key: int, found: Around) -> Int64[Tensor, " names"]:
        """This rank's keys that are equal to `key`, by parameter."""
        band = found.band
        if band.low == band.high == key:
            return found.ties
        ties = torch.zeros(len(self.names), dtype=torch.int64)
        if found.aside is not None and band.low <= key <= band.high:
            for place, keys_K in found.aside:
                ties[place] += int(_ones(keys_K == key))
        else:
            for piece, keys_N in self._pieces():
                ties[self._place(piece)] += int(_ones(keys_N == key))
        return ties

    def _ties_by_block(
        self, name: str, key: int, block: int, bits: int, smaller: int
    ) -> Iterator[tuple[int, int]]:
        """Ties of one parameter in the smaller blocks of a block, as far as they lie here."""
        for chunk in self.chunks():
            if chunk.name != name:
                continue
            end = min(chunk.start + chunk.weight.numel(), block + (1 << bits))
            at = max(chunk.start, block)
            while at < end:
                number = (at - block) >> smaller
                stop = min(end, block + ((number + 1) << smaller))
                for piece in chunk.part(at - chunk.start, stop - chunk.start).pieces():
                    yield number, int(_ones(self.ranking.keys(piece, self.seed) == key))
                at = stop

    def _refuse(self) -> None:
        """Name the parameters whose importance is no number from 0 up."""
        improper = torch.zeros(len(self.names), dtype=torch.int64)
        for piece, _ in self._pieces():
            bits_N = float_bits(piece.importance)
            improper[self._place(piece)] += _ones((bits_N < 0) | (bits_N >= INFINITY_BITS)).cpu()
        counts = self.sum_over_ranks(improper).tolist()
        bad = [f"{name} ({n} entries)" for name, n in zip(self.names, counts, strict=True) if n]
        raise ValueError(
            "The importance of every entry must be finite and 0 or more, but is not in "
            f"{', '.join(bad)}. The weights have diverged: go back to an earlier checkpoint."
        )


def _ones(mask_N: Bool[Tensor, " N"]) -> Int32[Tensor, ""]:
    """How many are True; several times as fast as `count_nonzero`."""
    return mask_N.view(torch.uint8).sum(dtype=torch.int32)


def _joined(parts: Iterable[Int32[Tensor, " _"]]) -> Sequence[Int32[Tensor, " _"]]:
    """Many small tensors as few that are worked on at once."""
    parts = list(parts)
    return torch.split(torch.cat(parts), PIECE) if parts else []


def _marked(keys_N: Int32[Tensor, " N"], mark_N: Bool[Tensor, " N"]) -> Int32[Tensor, " K"]:
    """The keys that are marked, found by words of eight: few words have a mark at all."""
    whole = mark_N.numel() // 8 * 8
    words_W = mark_N[:whole].view(torch.int64).nonzero().squeeze(1)
    eights = keys_N[:whole].view(-1, 8)[words_W][mark_N[:whole].view(-1, 8)[words_W]]
    return torch.cat([eights, keys_N[whole:][mark_N[whole:]]])
