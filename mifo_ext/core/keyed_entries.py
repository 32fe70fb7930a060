"""A model's entries as integer keys, counted over all ranks: the passes behind `choose_held`.

Dimensions:
    N  entries of a piece
    K  keys set aside
    B  blocks
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Int32, Int64
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
from mifo_ext.core.marks import as_mask, count_marks, marked, marks

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
            above_N = marks(torch.gt, keys_N, band.high)
            at_least_N = marks(torch.ge, keys_N, band.low)
            extremes = float_bits(piece.importance).aminmax()
            counts = torch.stack([count_marks(above_N), count_marks(at_least_N), *extremes])
            above, at_least, least, most = counts.tolist()
            improper = least < 0 or most >= INFINITY_BITS
            for i, number in enumerate((improper, above, at_least)):
                totals[i] += number
            if band.low == band.high:
                ties[self._place(piece)] += at_least - above
            else:
                room -= at_least - above
                if room >= 0 and at_least > above:
                    inside_N = at_least_N.bitwise_xor_(above_N)
                    aside.append((self._place(piece), marked(keys_N, inside_N)))
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
            counts_B = self._ties_by_block(name, kth.key, block, bits, smaller)
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
            if found.aside:
                places, keys = zip(*found.aside, strict=True)
                lengths = torch.tensor([keys_K.numel() for keys_K in keys])
                at = as_mask(marks(torch.eq, torch.cat(keys), key)).nonzero().squeeze(1).cpu()
                piece = torch.searchsorted(lengths.cumsum(0), at, right=True)
                ties += torch.bincount(torch.tensor(places)[piece], minlength=len(self.names))
        else:
            for chunk, keys_N in self._pieces():
                ties[self._place(chunk)] += int(count_marks(marks(torch.eq, keys_N, key)))
        return ties

    def _ties_by_block(
        self, name: str, key: int, block: int, bits: int, smaller: int
    ) -> Int64[Tensor, " B"]:
        """Ties of one parameter in the smaller blocks of a block, as far as they lie here."""
        counts_B = torch.zeros(1 << (bits - smaller), dtype=torch.int64)
        for chunk in self.chunks():
            first = max(block - chunk.start, 0)
            last = min(block + (1 << bits) - chunk.start, chunk.weight.numel())
            if chunk.name != name or first >= last:
                continue
            for piece in chunk.part(first, last).pieces():
                mark_N = marks(torch.eq, self.ranking.keys(piece, self.seed), key)
                _add_by_block(counts_B, mark_N, at=piece.start - block, size=1 << smaller)
        return counts_B

    def _refuse(self) -> None:
        """Name the parameters whose importance is no number from 0 up."""
        improper = torch.zeros(len(self.names), dtype=torch.int64)
        for piece, _ in self._pieces():
            bits_N = float_bits(piece.importance)
            improper[self._place(piece)] += int(((bits_N < 0) | (bits_N >= INFINITY_BITS)).sum())
        counts = self.sum_over_ranks(improper).tolist()
        bad = [f"{name} ({n} entries)" for name, n in zip(self.names, counts, strict=True) if n]
        raise ValueError(
            "The importance of every entry must be finite and 0 or more, but is not in "
            f"{', '.join(bad)}. The weights have diverged: go back to an earlier checkpoint."
        )


def _joined(parts: Iterable[Int32[Tensor, " _"]]) -> Sequence[Int32[Tensor, " _"]]:
    """Many small tensors as few that are worked on at once."""
    parts = list(parts)
    return torch.split(torch.cat(parts), PIECE) if parts else []


def _add_by_block(
    counts_B: Int64[Tensor, " B"], mark_N: Int32[Tensor, " N"], *, at: int, size: int
) -> None:
    """Count marks by block, in place, where the first one lies `at` so many entries."""
    head = min(-at % size, mark_N.numel())
    rows = (mark_N.numel() - head) // size
    whole = head + rows * size
    first = (at + head) // size
    if head:
        counts_B[at // size] += int(count_marks(mark_N[:head]))
    if rows:
        by_row = mark_N[head:whole].view(rows, size).sum(1, dtype=torch.int32)
        counts_B[first : first + rows] += by_row.cpu()
    if whole < mark_N.numel():
        counts_B[first + rows] += int(count_marks(mark_N[whole:]))
