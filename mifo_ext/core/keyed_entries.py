"""A model's entries as integer keys, counted over all ranks: the passes behind `choose_held`.

Dimensions:
    N  entries of a piece
    K  keys set aside
    B  blocks
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from threading import Lock
from typing import NamedTuple

import torch
from jaxtyping import Int32, Int64
from torch import Tensor

from mifo_ext.core.importance import INFINITY_BITS, Chunk, Ranking, float_bits
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
from mifo_ext.core.passes import Counts, Passes

Chunks = Callable[[], Iterable[Chunk]]

_PIECE = 1 << 19
"""Keys set aside or sampled that are worked on at once."""

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


class Origin(NamedTuple):
    """A chunk on this rank.

    Attributes:
        place: its parameter's place among the names.
        start: index of its first entry in the parameter.
    """

    place: int
    start: int


class Around(NamedTuple):
    """What one pass finds around a band of keys.

    Attributes:
        band: the band.
        above: keys above the band, over all ranks.
        inside: keys in the band, over all ranks.
        aside: this rank's keys in the band, each piece with the chunk it is of; None when some
            rank had too many.
        ties: how many keys in the band this rank has in a chunk; used where the band is one key.
    """

    band: Band
    above: int
    inside: int
    aside: list[tuple[Origin, Int32[Tensor, " _"]]] | None
    ties: Counter[Origin]


class KeyedEntries(NamedTuple):
    """This rank's entries in an order, beside those of other ranks.

    Attributes:
        chunks: gives this rank's chunks; called once a pass.
        names: every parameter of the model, sorted.
        ranking: the order.
        seed: seed of a random order.
        sum_over_ranks: adds int64 counts over the ranks.
        passes: how the entries are gone through.
    """

    chunks: Chunks
    names: Sequence[str]
    ranking: Ranking
    seed: int
    sum_over_ranks: SumOverRanks
    passes: Passes

    def likely_band(self, k: int, total: int) -> Band:
        """Where the k-th largest of `total` keys almost surely lies, or the smallest above 0."""
        stride = sample_stride(total)

        def keys(chunk: Chunk) -> list[Tensor]:
            # Improper importance is refused later, on all ranks; its keys may be negative.
            pieces = chunk.every(stride).pieces(self.passes.piece)
            return [self.ranking.keys(piece, self.seed).clamp(min=0) for piece in pieces]

        sample = _joined(chain.from_iterable(self.passes.each(keys, self.chunks())))
        return likely_band(sample, k=max(k, 1), total=total, sum_over_ranks=self.sum_over_ranks)

    def count_around(self, band: Band) -> Around:
        """One pass over all entries.

        Raises:
            ValueError: on every rank, if an importance is not finite or negative.
        """
        # Where the band is one key, the number of its keys is all there is to know.
        room = _Room(0 if band.low == band.high else SET_ASIDE)

        def look(item: tuple[Origin, Chunk]) -> tuple[Origin, Counts, Tensor | None]:
            origin, piece = item
            keys_N = self.ranking.keys(piece, self.seed)
            counts, inside = self.passes.around(keys_N, piece.importance, band, room.left)
            return origin, counts, inside if room.take(counts.inside) else None

        ties: Counter[Origin] = Counter()
        aside: list[tuple[Origin, Tensor]] = []
        totals = [0, 0, 0]  # pieces with improper importance, keys above, keys inside
        for origin, counts, inside in self.passes.each(look, self._pieces()):
            ties[origin] += counts.inside
            for i, number in enumerate((counts.improper, counts.above, counts.inside)):
                totals[i] += number
            if inside is not None and counts.inside:
                aside.append((origin, inside))
        crowded = int(totals[2] > SET_ASIDE)
        improper, above, found, crowded = self.sum_over_ranks(
            torch.tensor([*totals, crowded])
        ).tolist()
        if improper:
            self._refuse()
        return Around(band, above, found, None if crowded else aside, ties)

    def kth_largest(self, k: int, found: Around) -> Kth:
        """The k-th largest key, k from 1 to the keys above and inside the band."""
        band, rest = found.band, k - found.above
        if rest <= 0:
            band, rest = Band(band.high + 1, LARGEST), k
        elif band.low == band.high:
            return Kth(band.low, rest, found.inside)
        elif found.aside is not None:
            aside = _joined(keys_K for _, keys_K in found.aside)
            return kth_largest(rest, band, aside, sum_over_ranks=self.sum_over_ranks)
        return kth_largest_of_all(
            rest,
            band,
            lambda: (self.ranking.keys(piece, self.seed) for _, piece in self._pieces()),
            sum_over_ranks=self.sum_over_ranks,
        )

    def cut(self, kth: Kth, found: Around) -> Cut:
        """Where the first `kth.rest` of the entries tied at `kth.key` end."""
        if kth.rest == kth.tied:  # All of them: the cut lies behind the last parameter.
            return Cut(self.names[-1], 1 << _INDEX_BITS)
        ties = self._ties(kth.key, found)
        by_name = torch.zeros(len(self.names), dtype=torch.int64)
        for origin, number in ties.items():
            by_name[origin.place] += number
        before = [0, *self.sum_over_ranks(by_name).cumsum(0).tolist()]
        place = bisect_left(before, kth.rest) - 1  # before[place] < rest <= before[place + 1]
        name, rest = self.names[place], kth.rest - before[place]
        chunks = [c for c in self.chunks() if c.name == name and ties[Origin(place, c.start)]]
        block, bits = 0, _INDEX_BITS
        for smaller in _BLOCK_BITS:
            counts_B = self._ties_by_block(chunks, kth.key, block, bits, smaller)
            up_to_B = self.sum_over_ranks(counts_B).cumsum(0)
            step = int(torch.searchsorted(up_to_B, rest))  # the first with up_to >= rest
            rest -= int(up_to_B[step - 1]) if step else 0
            block, bits = block + (step << smaller), smaller
        return Cut(name, block + 1)

    def _pieces(self) -> Iterator[tuple[Origin, Chunk]]:
        for chunk in self.chunks():
            origin = Origin(bisect_left(self.names, chunk.name), chunk.start)
            for piece in chunk.pieces(self.passes.piece):
                yield origin, piece

    def _ties(self, key: int, found: Around) -> Counter[Origin]:
        """How many of this rank's keys are equal to `key`, by chunk."""
        band, ties = found.band, Counter[Origin]()
        if band.low == band.high == key:
            return found.ties
        if found.aside is None or not band.low <= key <= band.high:

            def count(item: tuple[Origin, Chunk]) -> tuple[Origin, int]:
                origin, piece = item
                keys_N = self.ranking.keys(piece, self.seed)
                one = self.passes.ties_by_block(keys_N, key, at=0, size=keys_N.numel(), blocks=1)
                return origin, int(one)

            for origin, number in self.passes.each(count, self._pieces()):
                ties[origin] += number
        elif found.aside:
            origins, keys = zip(*found.aside, strict=True)
            lengths = torch.tensor([keys_K.numel() for keys_K in keys])
            at = (torch.cat(keys) == key).nonzero().squeeze(1).cpu()
            for piece in torch.searchsorted(lengths.cumsum(0), at, right=True).tolist():
                ties[origins[piece]] += 1
        return ties

    def _ties_by_block(
        self, chunks: Sequence[Chunk], key: int, block: int, bits: int, smaller: int
    ) -> Int64[Tensor, " B"]:
        """Ties of a parameter in the smaller blocks of a block, as far as they lie in chunks."""
        blocks, size = 1 << (bits - smaller), 1 << smaller

        def count(piece: Chunk) -> Tensor:
            keys_N = self.ranking.keys(piece, self.seed)
            at = piece.start - block
            return self.passes.ties_by_block(keys_N, key, at=at, size=size, blocks=blocks)

        def pieces() -> Iterator[Chunk]:
            for chunk in chunks:
                first = max(block - chunk.start, 0)
                last = min(block + (1 << bits) - chunk.start, chunk.weight.numel())
                if first < last:
                    yield from chunk.part(first, last).pieces(self.passes.piece)

        counts = self.passes.each(count, pieces())
        return torch.stack([torch.zeros(blocks, dtype=torch.int64), *counts]).sum(0)

    def _refuse(self) -> None:
        """Name the parameters whose importance is no number from 0 up."""
        improper = torch.zeros(len(self.names), dtype=torch.int64)
        for origin, piece in self._pieces():
            bits_N = float_bits(piece.importance)
            improper[origin.place] += int(((bits_N < 0) | (bits_N >= INFINITY_BITS)).sum())
        counts = self.sum_over_ranks(improper).tolist()
        bad = [f"{name} ({n} entries)" for name, n in zip(self.names, counts, strict=True) if n]
        raise ValueError(
            "The importance of every entry must be finite and 0 or more, but is not in "
            f"{', '.join(bad)}. The weights have diverged: go back to an earlier checkpoint."
        )


class _Room:
    """How many keys may still be set aside; several threads ask at once."""

    def __init__(self, left: int) -> None:
        self.left = left
        self._lock = Lock()

    def take(self, keys: int) -> bool:
        """Whether so many still fit; if so, they have their place."""
        with self._lock:
            fits = keys <= self.left
            self.left -= keys
            return fits


def _joined(parts: Iterable[Int32[Tensor, " _"]]) -> Sequence[Int32[Tensor, " _"]]:
    """Many small tensors as few that are worked on at once."""
    parts = list(parts)
    return torch.split(torch.cat(parts), _PIECE) if parts else []
