"""The choice of held entries over gloo ranks: what is exchanged, and whether it is the same."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from selection_entries import entries_of
from torch import Tensor

from mifo_ext.core.freezing import choose_held, masks_of
from mifo_ext.core.importance import Chunk
from mifo_ext.core.packed_bits import unpack_bits

ENTRIES = 1 << 22
NAMES = tuple(f"layers.{i:03d}.weight" for i in range(400))
"""As many parameters as a model of 32 layers has; all entries lie in some of them."""


def over_ranks(kind: str, ranks: int) -> dict[str, object]:
    """Choose on so many ranks; every rank holds a slice of each parameter."""
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(_on_rank, args=(ranks, kind, folder), nprocs=ranks)
        parts = [
            torch.load(Path(folder) / f"{rank}.pt", weights_only=True) for rank in range(ranks)
        ]
    alone, _ = _choose(_slices(kind, 1, 0), lambda counts: counts)
    together = [torch.cat([part["masks"][i] for part in parts]) for i in range(len(alone))]
    return {
        "ranks": ranks,
        "kind": kind,
        "entries_a_rank": ENTRIES // ranks,
        "bytes_a_rank": max(part["bytes"] for part in parts),
        "same_as_one_rank": all(map(torch.equal, alone, together)),
    }


def _slices(kind: str, ranks: int, rank: int) -> list[Chunk]:
    held = NAMES[::100]
    wholes = entries_of(kind, ENTRIES).chunk(len(held))
    chunks = []
    for name, whole in zip(held, wholes, strict=True):
        part = whole.chunk(ranks)[rank]
        chunks.append(Chunk(name, rank * whole.chunk(ranks)[0].numel(), part, part))
    return chunks


def _choose(chunks: list[Chunk], sum_over_ranks: object) -> tuple[list[Tensor], int]:
    sent = 0

    def counted(counts: Tensor) -> Tensor:
        nonlocal sent
        sent += counts.numel() * counts.element_size()
        total: Tensor = sum_over_ranks(counts)  # type: ignore[operator]
        return total

    _, packed_P = choose_held(
        chunks, names=NAMES, total=ENTRIES, count=ENTRIES // 2, sum_over_ranks=counted
    )
    lengths = [chunk.weight.numel() for chunk in chunks]
    pairs = zip(masks_of(packed_P, lengths), lengths, strict=True)
    return [unpack_bits(mask_P, length) for mask_P, length in pairs], sent


def _on_rank(rank: int, ranks: int, kind: str, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=ranks
    )

    def add_up(counts: Tensor) -> Tensor:
        total = counts.clone()
        dist.all_reduce(total)
        return total

    masks, sent = _choose(_slices(kind, ranks, rank), add_up)
    torch.save({"masks": masks, "bytes": sent}, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()
