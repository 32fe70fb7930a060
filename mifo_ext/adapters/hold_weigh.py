"""From the weights before and after an RL phase to the importance of every entry."""

from __future__ import annotations

from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor

from mifo_ext.adapters.hold_state import HostMemory
from mifo_ext.adapters.host_link import HostLink
from mifo_ext.adapters.shards import SPAN, Layout, Part
from mifo_ext.core.importance import RANKINGS, Chunk
from mifo_ext.core.keyed_entries import write_sample
from mifo_ext.core.kth_largest import sample_stride
from mifo_ext.core.passes import Passes
from mifo_ext.settings import HoldSettings


class Weighed(NamedTuple):
    """What is known of a phase before anything is chosen.

    Attributes:
        moved: entries that the phase changed, over all ranks.
        update_norm: Euclidean norm of the change, over all ranks.
        sample: keys of a sample of this rank's entries, on the device; see `choose_held`.
    """

    moved: int
    update_norm: float
    sample: Tensor


def weigh(layout: Layout, host: HostMemory, settings: HoldSettings, passes: Passes) -> Weighed:
    """Turn the snapshot into importance, where it lies; a phase must be under way.

    The sample is taken on the way, while a piece is on the device.
    """
    assert host.snapshot is not None
    values, snapshot, carried = layout.values(), host.snapshot, host.carried()
    link = HostLink(layout.device, SPAN)
    parts = layout.parts(passes.piece)
    chunks = [_chunk(layout, part, snapshot, values) for part in parts]
    stride = sample_stride(layout.entries)
    ranking = RANKINGS.get(settings.entries)  # None: nothing will be held.
    counts = [0 if ranking is None else chunk.sampled(stride) for chunk in chunks]
    *places, size = accumulate(counts, initial=0)
    sample_K = torch.empty(size, dtype=torch.int32, device=layout.device)

    def weigh_part(item: tuple[Part, Chunk, int, int]) -> Tensor:
        part, chunk, at, count = item
        before = [] if carried is None else [part.of(carried[0]), part.of_mask(carried[1])]
        importance_N, *before = link.bring(chunk.importance, *before)
        history_N, carried_P = before or (None, None)
        totals = passes.weigh_(
            importance_N, chunk.weight, history_N, carried_P, decay=settings.decay
        )
        link.put_back((chunk.importance, importance_N))
        if ranking is not None and count > 0:
            sampled = chunk._replace(importance=importance_N).every(stride)
            write_sample(ranking, sampled, settings.seed, sample_K[at : at + count])
        return totals

    totals = passes.each(weigh_part, zip(parts, chunks, places, counts, strict=True))
    layout.wait()
    changed, squared = layout.sum_pairs(totals)
    return Weighed(int(changed), squared**0.5, sample_K)


def _chunk(layout: Layout, part: Part, importance: list[Tensor], values: list[Tensor]) -> Chunk:
    span = layout.spans[part.span]
    return Chunk(span.name, span.start + part.inside.start, part.of(importance), part.of(values))
