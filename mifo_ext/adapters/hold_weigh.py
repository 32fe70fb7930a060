"""From the weights before and after an RL phase to the importance of every entry."""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor

from mifo_ext.adapters.hold_state import HostMemory
from mifo_ext.adapters.host_link import HostLink
from mifo_ext.adapters.shards import SPAN, Layout, Part
from mifo_ext.core.importance import RANKINGS, Chunk
from mifo_ext.core.keyed_entries import write_sample
from mifo_ext.core.kth_largest import Band, sample_stride
from mifo_ext.core.looks import FirstLook
from mifo_ext.core.passes import EndedPhase, Passes
from mifo_ext.core.placed_keys import Aside
from mifo_ext.settings import HoldSettings


class Weighed(NamedTuple):
    """A phase's entries, to be chosen from.

    Attributes:
        look: how they are looked at first.
        moved: called once, after that: how many entries the phase changed, and the Euclidean norm
            of the change, over all ranks.
    """

    look: FirstLook
    moved: Callable[[], tuple[int, float]]


def weigh(layout: Layout, host: HostMemory, settings: HoldSettings, passes: Passes) -> Weighed:
    """Turn the snapshot into importance, where it lies; a phase must be under way.

    Either at once, or where it can be while entries are looked at, so that nothing that lies in
    host memory is gone through twice.
    """
    known = settings.entries == "moved_most"  # Its keys are known with the importance.
    if known and passes.weigh_around_of_ is not None and layout.spans:
        return _while_looking(layout, host, settings, passes)
    return _by_parts(layout, host, settings, passes)


def _while_looking(
    layout: Layout, host: HostMemory, settings: HoldSettings, passes: Passes
) -> Weighed:
    assert host.snapshot is not None
    assert passes.sample_of is not None
    assert passes.weigh_around_of_ is not None
    pieces, values, history = layout.spans_alone, layout.values(), host.history
    phase = EndedPhase(host.snapshot, values, history, host.mask, pieces, settings.decay)
    start_Q = torch.tensor([span.start for span in layout.spans])
    stride, totals = sample_stride(layout.entries), []
    sample_of, weigh_around_of_ = passes.sample_of, passes.weigh_around_of_

    def around(band: Band, aside: Aside, packed_P: Tensor) -> Tensor:
        counts_Q3, total = weigh_around_of_(phase, band, aside, packed_P)
        totals.append(total)
        return counts_Q3

    look = FirstLook(lambda: sample_of(phase, start_Q, stride), around)
    return Weighed(look, lambda: _moved(layout, totals))


def _by_parts(layout: Layout, host: HostMemory, settings: HoldSettings, passes: Passes) -> Weighed:
    """Of one part after the other; the sample is taken while a part is on the device."""
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
    return Weighed(FirstLook(lambda: sample_K), lambda: _moved(layout, totals))


def _moved(layout: Layout, totals: list[Tensor]) -> tuple[int, float]:
    changed, squared = layout.sum_pairs(totals)
    return int(changed), squared**0.5


def _chunk(layout: Layout, part: Part, importance: list[Tensor], values: list[Tensor]) -> Chunk:
    span = layout.spans[part.span]
    return Chunk(span.name, span.start + part.inside.start, part.of(importance), part.of(values))
