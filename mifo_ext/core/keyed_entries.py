"""A model's entries as integer keys, counted over all ranks: the passes behind `choose_held`.

Dimensions:
    N  entries of a piece
    K  keys set aside, or sampled
    Q  pieces of this rank
    C  chunks of this rank
    B  bins of a histogram
    T  tied entries on this rank
    P  bytes of this rank's packed mask
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import accumulate
from typing import NamedTuple

import torch
from jaxtyping import Int32, Int64, UInt8
from torch import Tensor

from mifo_ext.core.importance import INFINITY_BITS, Chunk, Ranking, float_bits
from mifo_ext.core.kth_largest import (
    LARGEST,
    Band,
    Kth,
    Largest,
    Narrowed,
    SumOverRanks,
    alone,
    kth_largest,
    likely_band,
    narrowed_by_all,
    sample_stride,
)
from mifo_ext.core.looks import Around, FirstLook
from mifo_ext.core.passes import Passes
from mifo_ext.core.pieces import wholes
from mifo_ext.core.placed_keys import PLACES, Aside, at_most, up_to
from mifo_ext.core.ties import Cut, KnownTies, SoughtTies, Ties, behind_all, end_here, end_of

_ONCE_MORE = 4
"""A so-manyth of the room for keys may be taken once more, so that ties are searched alone."""


class _Piece(NamedTuple):
    """A piece of this rank's entries.

    Attributes:
        chunk: number of its chunk.
        entries: the entries, with their importance where their weights are.
        place: place of its first entry in the packed mask, a multiple of 8.
    """

    chunk: int
    entries: Chunk
    place: int

    def of_mask(self, packed_P: Tensor) -> Tensor:
        """Its bytes of the mask, as a view."""
        first = self.place // 8
        return packed_P[first : first - (-self.entries.weight.numel() // 8)]


def write_sample(ranking: Ranking, sampled: Chunk, seed: int, out_K: Int32[Tensor, " K"]) -> None:
    """Write the keys of a sample; improper importance is refused later, on all ranks."""
    torch.clamp(ranking.keys(sampled, seed), min=0, out=out_K)


class KeyedEntries(NamedTuple):
    """This rank's entries in an order, beside those of other ranks.

    Attributes:
        chunks: this rank's chunks, on one device.
        names: every parameter of the model, sorted.
        ranking: the order.
        seed: seed of a random order.
        sum_over_ranks: adds int64 counts over the ranks.
        passes: how the entries are gone through.
    """

    chunks: Sequence[Chunk]
    names: Sequence[str]
    ranking: Ranking
    seed: int
    sum_over_ranks: SumOverRanks
    passes: Passes

    def likely_band(self, k: int, total: int, first: FirstLook | None = None) -> Band:
        """Where the k-th largest of `total` keys almost surely lies, or the smallest above 0."""
        sample_K = self._sample(total) if first is None else first.sample()
        return likely_band(
            sample_K.numel(),
            lambda key_B: at_most(sample_K, key_B, self.passes.by_bounds),
            k=max(k, 1),
            total=total,
            sum_over_ranks=self.sum_over_ranks,
            largest=self._largest_of(sample_K),
        )

    def count_around(
        self,
        band: Band,
        first: FirstLook | None = None,
        *,
        few: bool = False,
        again: Around | None = None,
    ) -> Around:
        """One pass over all entries, by the first look if there is one.

        Args:
            band: the band.
            first: the first look.
            few: whether the keys in the band are known to have room.
            again: an earlier look, whose mask is written over.

        Raises:
            ValueError: on every rank, if an importance is not finite or negative.
        """
        places_here = self._starts[-1]
        # Where the band is one key of many, the number of its keys is all there is to know.
        known = (few or band.low < band.high) and places_here < PLACES
        aside = Aside(min(self.passes.room, places_here) if known else 0, self._device)
        if again is None:
            words = torch.empty(-(-places_here // 32), dtype=torch.int32, device=self._device)
            packed_P = words.view(torch.uint8)[: places_here // 8]
        else:
            packed_P = again.mask

        look = self._around if first is None or first.around is None else first.around
        counts_C3 = look(band, aside, packed_P).cpu()
        here_3 = counts_C3.sum(0)
        crowded = here_3[1:2] > aside.room
        totals = self.sum_over_ranks(torch.cat([here_3, crowded.long()])).tolist()
        above, inside, improper, some_crowded = totals
        if improper:
            self._refuse()
        kept = None if some_crowded else aside.placed_K[: int(here_3[1])]
        return Around(band, above, inside, packed_P, kept, counts_C3[:, 1].tolist())

    def kth_largest(self, k: int, found: Around) -> tuple[Kth, Around]:
        """The k-th largest key, and what lies around it.

        Args:
            k: from 1 to the keys above and inside the band.
            found: what lies around the band; looked at anew where that does not show the key, as
                soon as few enough keys are left.
        """
        part = Narrowed(found.band, k - found.above, found.inside)
        if part.rest <= 0:
            part = Narrowed(Band(found.band.high + 1, LARGEST), k, found.above)
        elif found.aside is not None:
            return self._kth_aside(part, found.aside), found
        while part.band.low < part.band.high:
            part = narrowed_by_all(
                part.rest, part.band, self._histogram, sum_over_ranks=self.sum_over_ranks
            )
            if part.inside <= self.passes.room:
                found = self.count_around(part.band, few=True, again=found)
                if found.aside is not None:
                    return self._kth_aside(part, found.aside), found
        return Kth(part.band.low, part.rest, part.inside), found

    def cut(self, kth: Kth, found: Around) -> tuple[Cut, KnownTies | None]:
        """Where the first `kth.rest` of the entries tied at `kth.key` end.

        Returns:
            The cut, and this rank's tied entries if all of them are set aside.
        """
        known = None
        if found.aside is not None and found.band.low <= kth.key <= found.band.high:
            known = KnownTies(kth.key, found.aside, self._starts, self.chunks, self.passes)
        if kth.rest == kth.tied:
            return behind_all(self.names), known
        ties: Ties
        if known is None:
            by_chunk = self._ties_by_chunk(kth.key, found)
            ties = SoughtTies(kth.key, by_chunk, self.chunks, self._keys, self.passes)
        else:
            ties = known
        if self.sum_over_ranks is alone:
            return end_here(kth.rest, ties), known
        if known is not None and kth.tied <= self.passes.room // _ONCE_MORE:
            ties = known.without_others()
        cut = end_of(kth.rest, ties, names=self.names, sum_over_ranks=self.sum_over_ranks)
        return cut, known

    @property
    def _device(self) -> torch.device:
        return self.chunks[0].weight.device if self.chunks else torch.device("cpu")

    @property
    def _starts(self) -> list[int]:
        """The place in the packed mask where each chunk begins, and where the last ends."""
        lengths = (-(-chunk.weight.numel() // 8) * 8 for chunk in self.chunks)
        return list(accumulate(lengths, initial=0))

    def _keys(self, entries: Chunk) -> Int32[Tensor, " N"]:
        return self.ranking.keys(entries, self.seed)

    def _pieces(self) -> Iterator[_Piece]:
        for number, (chunk, at) in enumerate(zip(self.chunks, self._starts, strict=False)):
            for entries in chunk.pieces(self.passes.piece):
                yield _Piece(number, entries, at + entries.start - chunk.start)

    def _around(
        self, band: Band, aside: Aside, packed_P: UInt8[Tensor, " P"]
    ) -> Int64[Tensor, "C 3"]:
        if self.passes.around_of is not None and self.ranking.by_importance and self.chunks:
            importances = [chunk.importance for chunk in self.chunks]
            pieces = wholes(map(len, importances), self._starts[:-1])
            return self.passes.around_of(importances, pieces, band, aside, packed_P)
        each = [-(-chunk.weight.numel() // self.passes.piece) for chunk in self.chunks]
        counts_Q3 = torch.zeros(sum(each), 3, dtype=torch.int64, device=self._device)

        def look(item: tuple[int, _Piece]) -> None:
            number, piece = item
            keys_N, mask_P = self._keys(piece.entries), piece.of_mask(packed_P)
            importance_N, counts_3 = piece.entries.importance, counts_Q3[number]
            self.passes.around(keys_N, importance_N, band, aside, piece.place, mask_P, counts_3)

        self.passes.each(look, enumerate(self._pieces()))
        chunk_Q = torch.arange(len(each)).repeat_interleave(torch.tensor(each, dtype=torch.int64))
        counts_C3 = torch.zeros(len(each), 3, dtype=torch.int64)
        return counts_C3.index_add_(0, chunk_Q, counts_Q3.cpu())

    def _sample(self, total: int) -> Int32[Tensor, " K"]:
        stride = sample_stride(total)
        ends = list(accumulate((chunk.sampled(stride) for chunk in self.chunks), initial=0))
        sample_K = torch.empty(ends[-1], dtype=torch.int32, device=self._device)

        def look(item: tuple[Chunk, int]) -> None:
            chunk, at = item
            for piece in chunk.every(stride).pieces(self.passes.piece):
                count = piece.weight.numel()
                write_sample(self.ranking, piece, self.seed, sample_K[at : at + count])
                at += count

        self.passes.each(look, zip(self.chunks, ends[:-1], strict=True))
        return sample_K

    def _kth_aside(self, part: Narrowed, aside_K: Int64[Tensor, " K"]) -> Kth:
        def seek(key_B: Tensor) -> Tensor:
            return up_to(aside_K, key_B, self.passes.by_bounds)

        largest = self._largest_of(aside_K)
        if largest is None:
            return kth_largest([part.rest], part.band, seek, self.sum_over_ranks)[0]
        key = largest([part.rest])[0] // PLACES
        below, not_above = seek(torch.tensor([key - 1, key])).tolist()
        return Kth(key, part.rest - (aside_K.numel() - not_above), not_above - below)

    def _largest_of(self, key_K: Int32[Tensor, " K"] | Int64[Tensor, " K"]) -> Largest | None:
        """What looks up the largest of keys, where this rank has all and it takes less time."""
        if self.sum_over_ranks is not alone or self.passes.largest is None:
            return None
        return partial(self.passes.largest, key_K)

    def _ties_by_chunk(self, key: int, found: Around) -> list[int]:
        """How many of this rank's keys are equal to `key`, by chunk."""
        if found.band.low == found.band.high == key:
            return found.by_chunk

        def count(piece: _Piece) -> tuple[int, Tensor]:
            keys_N = self._keys(piece.entries)
            ties = self.passes.ties_by_block(keys_N, key, at=0, size=keys_N.numel(), blocks=1)
            return piece.chunk, ties

        counted = self.passes.each(count, self._pieces())
        by_chunk_C = torch.zeros(len(self.chunks), dtype=torch.int64)
        if counted:
            ties_Q = torch.cat([ties for _, ties in counted]).cpu()
            by_chunk_C.index_add_(0, torch.tensor([chunk for chunk, _ in counted]), ties_Q)
        return by_chunk_C.tolist()

    def _histogram(self, first: int, last: int, low: int, bins: int) -> Int64[Tensor, " B"]:
        counts_B = torch.zeros(bins, dtype=torch.int64, device=self._device)
        for piece in self._pieces():
            self.passes.histogram(self._keys(piece.entries), first, last, low, counts_B)
        return counts_B.cpu()

    def _refuse(self) -> None:
        """Name the parameters whose importance is no number from 0 up."""
        improper = torch.zeros(len(self.names), dtype=torch.int64)
        for piece in self._pieces():
            bits_N = float_bits(piece.entries.importance)
            count = ((bits_N < 0) | (bits_N >= INFINITY_BITS)).sum()
            improper[bisect_left(self.names, piece.entries.name)] += int(count)
        counts = self.sum_over_ranks(improper).tolist()
        bad = [f"{name} ({n} entries)" for name, n in zip(self.names, counts, strict=True) if n]
        raise ValueError(
            "The importance of every entry must be finite and 0 or more, but is not in "
            f"{', '.join(bad)}. The weights have diverged: go back to an earlier checkpoint."
        )
