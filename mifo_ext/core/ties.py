"""Entries that are tied at the threshold, and where the first so many of them end.

Dimensions:
    T  tied entries on this rank
    M  parameters of the model
    B  blocks
    P  bytes of this rank's packed mask
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from mifo_ext.core.importance import Chunk
from mifo_ext.core.kth_largest import LARGEST, SumOverRanks
from mifo_ext.core.passes import Passes
from mifo_ext.core.placed_keys import PLACES, at_most, between

# A parameter's index is found block by block: 2**33 entries at first, then these.
_BLOCK_BITS = (26, 19, 12, 5, 0)
_INDEX_BITS = 33
_LOOKED_THROUGH = 4096
"""Entries that are looked through for one, once it is known to be among them."""


class Cut(NamedTuple):
    """Where the entries that are tied at the threshold run out.

    Attributes:
        name: the parameter.
        entry: index in it from which on tied entries are live.
    """

    name: str
    entry: int

    def held_of(self, chunk: Chunk) -> int:
        """How many of a chunk's first entries are held if they are tied at the threshold."""
        length = chunk.weight.numel()
        if chunk.name == self.name:
            return min(max(self.entry - chunk.start, 0), length)
        return length if chunk.name < self.name else 0


class Blocks(NamedTuple):
    """Consecutive entries of a parameter, in blocks of equal size.

    Attributes:
        start: index of the first entry.
        number: how many blocks there are.
        size: entries of a block.
    """

    start: int
    number: int
    size: int


class KnownTies(NamedTuple):
    """Tied entries that are set aside, among others.

    Attributes:
        key: their key, at least 1.
        placed: all keys that are set aside with their places in the packed mask (T).
        starts: the place where each chunk begins, and where the last ends.
        chunks: this rank's chunks.
        passes: how keys are gone through.
    """

    key: int
    placed: Tensor
    starts: Sequence[int]
    chunks: Sequence[Chunk]
    passes: Passes

    def without_others(self) -> KnownTies:
        """The same, placed alone, to be searched again and again."""
        placed_T = between(self.placed, self._at(0), self._at(PLACES) - 1)
        return self._replace(placed=placed_T)

    def by_chunk(self) -> list[int]:
        """How many each chunk has."""
        counts: list[int] = self._before(torch.tensor(self.starts)).diff().tolist()
        return counts

    def by_block(self, name: str, blocks: Blocks) -> Int64[Tensor, " B"]:
        """How many of a parameter each block has."""
        mine = sorted(
            (chunk.start, place, chunk.weight.numel())
            for chunk, place in zip(self.chunks, self.starts, strict=False)
            if chunk.name == name and chunk.weight.numel() > 0
        )
        if not mine:
            return torch.zeros(blocks.number, dtype=torch.int64)
        start_C, place_C, length_C = map(torch.tensor, zip(*mine, strict=True))
        edge_B = blocks.start + torch.arange(blocks.number + 1) * blocks.size
        # The last chunk that begins before an edge, and how much of it does.
        last_B = (torch.searchsorted(start_C, edge_B, right=True) - 1).clamp_(min=0)
        part_B = (edge_B - start_C[last_B]).clamp_(min=0).minimum(length_C[last_B])
        # One search for all: each goes over all keys of an accelerator.
        found = self._before(torch.cat([place_C, place_C + length_C, place_C[last_B] + part_B]))
        begin_C, end_C, edge_B = torch.split(found, [len(mine), len(mine), blocks.number + 1])
        ties_C = end_C - begin_C
        earlier_C = ties_C.cumsum(0) - ties_C
        return (earlier_C[last_B] + edge_B - begin_C[last_B]).diff()

    def place_in(self, number: int, n: int) -> int:
        """The place in a chunk of the n-th that it has."""
        first = self._at(self.starts[number])
        inside_K = between(self.placed, first, self._at(self.starts[number + 1]) - 1)
        return int(inside_K.kthvalue(n).values) - first

    def complete(self, cut: Cut, packed_P: UInt8[Tensor, " P"]) -> None:
        """Set the bits of those that come before the cut, and of what has a larger key."""
        if self.key < LARGEST:
            self.passes.set_bits(
                packed_P, self.placed, self._at(PLACES), LARGEST * PLACES + PLACES - 1
            )
        for first, end in self._held_places(cut):
            self.passes.set_bits(packed_P, self.placed, self._at(first), self._at(end) - 1)

    def _held_places(self, cut: Cut) -> list[tuple[int, int]]:
        """Where what comes before the cut begins and ends, in ranges as few as can be."""
        ranges: list[tuple[int, int]] = []
        for chunk, start, following in zip(
            self.chunks, self.starts[:-1], self.starts[1:], strict=True
        ):
            held = cut.held_of(chunk)
            if held == 0:
                continue
            # Spare bits behind a chunk are nobody's.
            end = following if held == chunk.weight.numel() else start + held
            if ranges and ranges[-1][1] == start:
                ranges[-1] = (ranges[-1][0], end)
            else:
                ranges.append((start, end))
        return ranges

    def _at(self, place: int) -> int:
        return self.key * PLACES + place

    def _before(self, place_B: Tensor) -> Tensor:
        """How many that are set aside come before the key at each of these places."""
        return at_most(self.placed, place_B + (self._at(0) - 1), self.passes.by_bounds)


class SoughtTies(NamedTuple):
    """Tied entries that passes look for.

    Attributes:
        key: their key.
        counts: how many each chunk has.
        chunks: this rank's chunks.
        keys: the keys of a chunk.
        passes: how the entries are gone through.
    """

    key: int
    counts: list[int]
    chunks: Sequence[Chunk]
    keys: Callable[[Chunk], Tensor]
    passes: Passes

    def by_chunk(self) -> list[int]:
        """How many each chunk has."""
        return self.counts

    def by_block(self, name: str, blocks: Blocks) -> Int64[Tensor, " B"]:
        """How many of a parameter each block has."""

        def count(piece: Chunk) -> Tensor:
            at, (_, number, size) = piece.start - blocks.start, blocks
            keys_N = self.keys(piece)
            return self.passes.ties_by_block(keys_N, self.key, at=at, size=size, blocks=number)

        counts = self.passes.each(count, self._pieces(name, blocks))
        if not counts:
            return torch.zeros(blocks.number, dtype=torch.int64)
        return torch.stack(counts).sum(0).cpu()

    def place_in(self, number: int, n: int) -> int:
        """The place in a chunk of the n-th that it has."""
        chunk = self.chunks[number]
        for piece in chunk.pieces(self.passes.piece):
            keys_N = self.keys(piece)
            blocks = -(-keys_N.numel() // _LOOKED_THROUGH)
            up_to_B = self.passes.ties_by_block(
                keys_N, self.key, at=0, size=_LOOKED_THROUGH, blocks=blocks
            )
            before = [0, *up_to_B.cumsum(0).tolist()]
            if n <= before[-1]:
                block = bisect_left(before, n) - 1
                keys_N = keys_N[block * _LOOKED_THROUGH :][:_LOOKED_THROUGH]
                place = int((keys_N == self.key).nonzero()[n - before[block] - 1])
                return piece.start - chunk.start + block * _LOOKED_THROUGH + place
            n -= before[-1]
        raise ValueError(f"`n` must be at most the chunk's ties, but is {n} too large.")

    def _pieces(self, name: str, blocks: Blocks) -> Iterator[Chunk]:
        """What lies in the blocks, of chunks that have ties."""
        end = blocks.start + blocks.number * blocks.size
        for chunk, ties in zip(self.chunks, self.counts, strict=True):
            first = max(blocks.start - chunk.start, 0)
            last = min(end - chunk.start, chunk.weight.numel())
            if ties and chunk.name == name and first < last:
                yield from chunk.part(first, last).pieces(self.passes.piece)


Ties = KnownTies | SoughtTies


def end_of(rest: int, ties: Ties, *, names: Sequence[str], sum_over_ranks: SumOverRanks) -> Cut:
    """Where the first `rest` of the tied entries end, by parameter name and then by index.

    Args:
        rest: from 1 to the number of tied entries over all ranks.
        ties: those of this rank.
        names: every parameter of the model, sorted.
        sum_over_ranks: adds int64 counts over the ranks.
    """
    by_name = [0] * len(names)
    for chunk, count in zip(ties.chunks, ties.by_chunk(), strict=True):
        by_name[bisect_left(names, chunk.name)] += count
    before = [0, *sum_over_ranks(torch.tensor(by_name)).cumsum(0).tolist()]
    place = bisect_left(before, rest) - 1  # before[place] < rest <= before[place + 1]
    rest -= before[place]
    start, bits = 0, _INDEX_BITS
    for smaller in _BLOCK_BITS:
        counts_B = ties.by_block(names[place], Blocks(start, 1 << (bits - smaller), 1 << smaller))
        up_to_B = sum_over_ranks(counts_B).cumsum(0)
        step = int(torch.searchsorted(up_to_B, rest))  # the first with up_to >= rest
        rest -= int(up_to_B[step - 1]) if step else 0
        start, bits = start + (step << smaller), smaller
    return Cut(names[place], start + 1)


def end_here(rest: int, ties: Ties) -> Cut:
    """`end_of` where this rank has all entries."""
    chunks, counts = ties.chunks, ties.by_chunk()
    in_order = sorted(range(len(chunks)), key=lambda i: (chunks[i].name, chunks[i].start))
    up_to = list(accumulate(counts[i] for i in in_order))
    turn = bisect_left(up_to, rest)  # The first with up_to >= rest.
    number = in_order[turn]
    earlier = up_to[turn] - counts[number]
    place = ties.place_in(number, rest - earlier)
    return Cut(chunks[number].name, chunks[number].start + place + 1)


def behind_all(names: Sequence[str]) -> Cut:
    """The cut where all tied entries are held."""
    return Cut(names[-1], 1 << _INDEX_BITS)
