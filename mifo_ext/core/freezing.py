"""Which entries of a model are held still: exactly so many, the same ones however it is sharded.

The entries are never gathered or sorted: a few are set aside, each on its rank. Ranks exchange
counts only, at most 48 KiB and 8 bytes a parameter, and then know the exact key at the threshold
(`mifo_ext.core.kth_largest`). Entries tied with it are taken in the order of (parameter name, index
in the unsharded parameter). Most often one look at all entries is enough: the mask is written while
they are counted, and completed close to the threshold.

Dimensions:
    N  consecutive entries of one parameter, in the order of its flattened tensor
    P  bytes that pack N bits, ceil(N / 8)
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

import torch
from jaxtyping import Bool, UInt8
from torch import Tensor

from mifo_ext.core.importance import RANKINGS, Chunk
from mifo_ext.core.keyed_entries import KeyedEntries
from mifo_ext.core.kth_largest import LARGEST, Band, SumOverRanks, alone
from mifo_ext.core.looks import Around, FirstLook
from mifo_ext.core.packed_bits import unpack_bits
from mifo_ext.core.passes import TORCH, Passes
from mifo_ext.core.ties import Cut


class Selection(NamedTuple):
    """Which entries are held, as a rule that every rank can apply to its own.

    Held is every entry whose key is above `threshold_key`, and those equal to it that come before
    (`cut_name`, `cut_index`) in the order of parameter names and indices.

    Attributes:
        held: entries held, over all ranks.
        threshold: score of the last entry held; None when nothing is.
        threshold_key: its key.
        cut_name: the parameter in which the tied entries run out.
        cut_index: index in that parameter from which on tied entries are live.
        entries: the word for the order that was used.
        seed: seed of that order.
    """

    held: int
    threshold: float | None
    threshold_key: int
    cut_name: str
    cut_index: int
    entries: str
    seed: int

    def mask(self, chunk: Chunk) -> Bool[Tensor, " N"]:
        """True on the chunk's held entries."""
        bytes_, device = -(-chunk.weight.numel() // 8), chunk.weight.device
        packed_P = torch.empty(bytes_, dtype=torch.uint8, device=device)
        self.pack(chunk, packed_P, TORCH)
        return unpack_bits(packed_P, chunk.weight.numel())

    def pack(self, chunk: Chunk, out_P: UInt8[Tensor, " P"], passes: Passes) -> None:
        """Write the mask with one bit an entry, piece by piece where the chunk's weights lie."""
        if self.held == 0:
            out_P.zero_()
            return
        cut = Cut(self.cut_name, self.cut_index)
        for piece in chunk.pieces(passes.piece):
            keys_N = RANKINGS[self.entries].keys(piece, self.seed)
            first = (piece.start - chunk.start) // 8
            part_P = out_P[first : first - (-keys_N.numel() // 8)]
            passes.pack(keys_N, self.threshold_key, cut.held_of(piece), part_P)

    def pack_all(self, chunks: Sequence[Chunk], out_P: UInt8[Tensor, " P"], passes: Passes) -> None:
        """`pack` all chunks, each from a byte of its own on (`masks_of`)."""
        masks = masks_of(out_P, [chunk.weight.numel() for chunk in chunks])
        passes.each(lambda pair: self.pack(*pair, passes), zip(chunks, masks, strict=True))


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
    chunks: Sequence[Chunk],
    *,
    names: Sequence[str],
    total: int,
    count: int,
    entries: str = "moved_most",
    seed: int = 0,
    sum_over_ranks: SumOverRanks = alone,
    passes: Passes = TORCH,
    first_look: FirstLook | None = None,
) -> tuple[Selection, UInt8[Tensor, " P"]]:
    """Find the `count` first entries of the whole model, exactly (MIFO, section 3.2).

    Args:
        chunks: this rank's chunks of stride 1, on one device, in any order.
        names: every parameter of the model, sorted, the same on all ranks.
        total: entries of the model, over all ranks. Sets how many are sampled, not the result.
        count: entries to hold; fewer are held when fewer are eligible.
        entries: which come first, a word of `mifo_ext.core.importance.RANKINGS`.
        seed: seed of the random order.
        sum_over_ranks: adds int64 counts over the ranks that share the model. It is called
            the same number of times on every rank, with at most 1,024 or `len(names)` counts.
        passes: how the entries are gone through; changes no result.
        first_look: how the entries are looked at first, if in a way of the caller's own.

    Returns:
        The rule, and the packed mask by it of all chunks, where their weights lie: each begins in
        a byte of its own (`masks_of`).

    Raises:
        ValueError: on every rank alike, if an importance is not finite or negative (the parameter
            is named) or `entries` is unknown.
    """
    if entries not in RANKINGS:
        raise ValueError(f"`entries` must be one of {', '.join(RANKINGS)}, but is {entries!r}.")
    keyed = KeyedEntries(chunks, names, RANKINGS[entries], seed, sum_over_ranks, passes)
    found = _around_threshold(keyed, count, total, first_look)
    held = min(count, found.above + found.inside)
    selection = Selection(0, None, 0, "", 0, entries, seed)
    if held > 0:
        kth, found = keyed.kth_largest(held, found)
        cut, known = keyed.cut(kth, found)
        score = RANKINGS[entries].score(kth.key)
        selection = Selection(held, score, kth.key, cut.name, cut.entry, entries, seed)
        if known is not None:
            known.complete(cut, found.mask)
            return selection, found.mask
    selection.pack_all(chunks, found.mask, passes)
    return selection, found.mask


def _around_threshold(
    keyed: KeyedEntries, count: int, total: int, first_look: FirstLook | None
) -> Around:
    """What lies around the likely band, or around all keys if fewer than `count` reach up to it."""
    found = keyed.count_around(keyed.likely_band(count, total, first_look), first_look)
    if found.above + found.inside < count and found.band.low > 1:
        found = keyed.count_around(Band(1, LARGEST), again=found)
    return found


def masks_of(packed_P: UInt8[Tensor, " P"], lengths: Sequence[int]) -> list[UInt8[Tensor, " p"]]:
    """The packed masks of chunks of so many entries, as views of the mask of all."""
    return list(torch.split(packed_P, [-(-length // 8) for length in lengths]))
