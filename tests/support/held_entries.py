"""Small models to choose held entries from, and the choice by its definition."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from hypothesis import strategies as st

from mifo_ext.core.freezing import Selection, choose_held, masks_of
from mifo_ext.core.importance import RANKINGS, Chunk
from mifo_ext.core.packed_bits import pack_bits
from mifo_ext.core.passes import TORCH
from mifo_ext.loops import LOOPS

PIECE = 8
"""Entries worked on at once, so that most parameters take several pieces."""

Model = dict[str, list[float]]

# Few values, so that ties are the normal case; two denormals, and one value that differs from
# another in its last bit only.
scores = st.sampled_from([0.0, 1e-45, 1e-40, 1e-6, 1.0, 1.0000001, 1.5, 3e38])
names = st.sampled_from(["a", "b", "layers.10.w", "layers.2.w"])
models = st.dictionaries(names, st.lists(scores, max_size=30), min_size=1)


def hold(
    model: Model,
    count: int,
    *,
    cuts: Sequence[int] = (),
    entries: str = "moved_most",
    room: int = TORCH.room,
) -> tuple[Selection, set[tuple[str, int]]]:
    """Select on one rank, every parameter in pieces between the cuts, by torch and by loops."""
    chunks = pieces(model, cuts)
    by_torch, by_loops = (
        choose(
            chunks,
            names=sorted(model),
            total=size(model),
            count=count,
            entries=entries,
            passes=passes._replace(piece=PIECE, room=room),
        )
        for passes in (TORCH, LOOPS)
    )
    assert by_torch == by_loops
    return by_torch, held_by(by_torch, chunks)


def choose(chunks: Sequence[Chunk], **what: Any) -> Selection:
    """Select by counts, and where one rank has all by looking up; the masks are by the rule."""
    selection, packed_P = choose_held(chunks, **what)
    again, packed_again_P = choose_held(chunks, **{"sum_over_ranks": lambda c: c} | what)
    assert selection == again
    assert torch.equal(packed_P, packed_again_P)
    masks = masks_of(packed_P, [chunk.weight.numel() for chunk in chunks])
    for packed, chunk in zip(masks, chunks, strict=True):
        assert torch.equal(packed, pack_bits(selection.mask(chunk)))
    return selection


def size(model: Model) -> int:
    return sum(map(len, model.values()))


def pieces(model: Model, cuts: Sequence[int]) -> list[Chunk]:
    chunks = []
    for name, values in model.items():
        bounds = sorted({0, len(values), *(cut for cut in cuts if cut < len(values))})
        for first, last in pairwise(bounds):
            importance = torch.tensor(values[first:last], dtype=torch.float32)
            chunks.append(Chunk(name, first, importance, importance))
    return chunks


def held_by(selection: Selection, chunks: list[Chunk]) -> set[tuple[str, int]]:
    return {
        (chunk.name, chunk.start + i)
        for chunk in chunks
        for i in selection.mask(chunk).nonzero().flatten().tolist()
    }


def by_sorting(model: Model, count: int, *, entries: str = "moved_most") -> set[tuple[str, int]]:
    """The definition, word by word: largest first, ties by name and index."""
    ranked = sorted(
        (-int(key), chunk.name, chunk.start + i)
        for chunk in pieces(model, ())
        for i, key in enumerate(RANKINGS[entries].keys(chunk, 0).tolist())
        if key > 0
    )
    return {(name, index) for _, name, index in ranked[:count]}
