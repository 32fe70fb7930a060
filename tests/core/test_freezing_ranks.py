"""The choice of held entries by a sample and one pass, on one rank and on many."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mifo_ext.core.freezing import Selection, choose_held
from mifo_ext.core.importance import RANKINGS, Chunk
from mifo_ext.core.keyed_entries import KeyedEntries
from mifo_ext.core.kth_largest import LARGEST, Band
from mifo_ext.core.packed_bits import unpack_bits
from mifo_ext.core.passes import TORCH
from mifo_ext.core.placed_keys import Aside
from tests.support.held_entries import (
    Model,
    by_sorting,
    choose,
    held_by,
    hold,
    models,
    pieces,
)

PLACES = "mifo_ext.core.keyed_entries.PLACES"
BAND = "mifo_ext.core.keyed_entries.KeyedEntries.likely_band"


def sampling(*, stride: int) -> AbstractContextManager[object]:
    """Look at as few entries of a small model as of a large one."""
    return mock.patch("mifo_ext.core.keyed_entries.sample_stride", return_value=stride)


@pytest.mark.parametrize(("band", "room"), [(Band(1, LARGEST), 20), (Band(5, 5), 0)])
def test_no_more_keys_are_set_aside_than_there_is_room_for(band: Band, room: int) -> None:
    seen: list[tuple[int, int]] = []

    def around(keys: Tensor, importance: Tensor, band: Band, aside: Aside, *rest: Any) -> None:
        seen.append((aside.room, int(aside.used)))
        TORCH.around(keys, importance, band, aside, *rest)

    importance = torch.full((40,), 5, dtype=torch.int32).view(torch.float32)
    chunks = [Chunk("a", 0, importance, importance)]
    passes = TORCH._replace(around=around, piece=8, room=20)
    order = RANKINGS["moved_most"]
    entries = KeyedEntries(chunks, ["a"], order, 0, lambda counts: counts, passes)
    found = entries.count_around(band)
    assert seen[:5] == [(room, min(8 * i, room and 24)) for i in range(5)]
    assert found.inside == 40
    assert found.aside is None


def test_a_rank_with_more_places_than_a_key_can_carry_sets_nothing_aside() -> None:
    importance = torch.arange(1, 41, dtype=torch.float32)
    chunks = [Chunk("a", 0, importance, importance)]
    for places, known in ((40, False), (41, True)):
        with sampling(stride=7), mock.patch(PLACES, places):
            entries = KeyedEntries(
                chunks, ["a"], RANKINGS["moved_most"], 0, lambda counts: counts, TORCH
            )
            assert (entries.count_around(Band(1, LARGEST)).aside is not None) == known
            selection = choose(chunks, names=["a"], total=40, count=9)
        assert held_by(selection, chunks) == {("a", index) for index in range(31, 40)}


def test_what_is_set_aside_comes_first_unless_it_is_more_than_fits() -> None:
    aside = Aside(6, torch.device("cpu"))
    for added, used, full in [([1, 2, 3], 3, False), ([4, 5], 5, False), ([6, 7], 7, True)]:
        aside.add(torch.tensor(added))
        assert (int(aside.used), aside.full()) == (used, full)
    aside.add(torch.tensor([8]))
    assert aside.placed_K.tolist() == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("entries", RANKINGS)
@settings(deadline=None)
@given(
    model=models,
    count=st.integers(0, 130),
    stride=st.sampled_from([1, 3, 7, 1001]),
    set_aside=st.sampled_from([0, 3, 1000]),
    cuts=st.lists(st.integers(1, 29)),
)
def test_the_choice_is_exact_whatever_the_sample_says_and_however_many_tie(
    entries: str, model: Model, count: int, stride: int, set_aside: int, cuts: list[int]
) -> None:
    with sampling(stride=stride):
        held = hold(model, count, cuts=cuts, entries=entries, room=set_aside)[1]
    assert held == by_sorting(model, count, entries=entries)


@settings(deadline=None, max_examples=200)
@given(
    values=st.lists(st.floats(0, 2.0**127, width=32), min_size=1, max_size=60),
    count=st.integers(1, 60),
    low=st.floats(0, 2.0**127, width=32),
    width=st.integers(0, 1 << 30),
)
def test_a_band_that_misses_the_threshold_costs_time_only(
    values: list[float], count: int, low: float, width: int
) -> None:
    bits = max(1, float_to_bits(low))
    band = Band(bits, min(bits + width, LARGEST))
    with mock.patch(BAND, return_value=band):
        assert hold({"a": values}, count)[1] == by_sorting({"a": values}, count)


@pytest.mark.parametrize("turned", [False, True])
def test_ties_run_out_in_the_second_chunk_of_a_parameter(turned: bool) -> None:
    # Set aside, every tie is found again by its place in the mask: 0, 8, 12, 13, and 17 for "b";
    # or, where chunks lie the other way round, what is held has a gap.
    first, second = torch.tensor([1.0, 0, 0, 0, 0]), torch.tensor([1.0, 0, 0, 0, 1, 1])
    other = torch.tensor([0.0, 1.0])
    chunks = [Chunk("a", 0, first, first), Chunk("a", 5, second, second)]
    chunks.append(Chunk("b", 0, other, other))
    chunks = chunks[::-1] if turned else chunks
    with mock.patch(BAND, return_value=Band(1, LARGEST)):
        selection = choose(chunks, names=["a", "b"], total=13, count=3)
    assert (selection.held, selection.cut_index) == (3, 10)
    assert held_by(selection, chunks) == {("a", 0), ("a", 5), ("a", 9)}


def float_to_bits(value: float) -> int:
    return int(torch.tensor(value, dtype=torch.float32).view(torch.int32))


def a_model_of(entries: int, *, values: int) -> list[Chunk]:
    """Chunks of a model with so many entries that take so many values."""
    draw = torch.Generator().manual_seed(1)
    importance = torch.randint(1, values + 1, (entries,), generator=draw).float()
    parts = importance.split(1 << 14)
    return [Chunk(f"w{i:03d}", 0, part, part) for i, part in enumerate(parts)]


def test_an_ordinary_choice_looks_at_a_sample_and_once_at_all() -> None:
    chunks, seen = a_model_of(1 << 18, values=1 << 22), 0
    ranking = RANKINGS["moved_most"]

    def counted(chunk: Chunk, seed: int) -> Tensor:
        nonlocal seen
        seen += chunk.weight.numel()
        return ranking.keys(chunk, seed)

    names = [chunk.name for chunk in chunks]
    # The band holds a few per cent of the entries: no more are set aside than have room here.
    passes = TORCH._replace(room=1 << 15)
    with mock.patch.dict(RANKINGS, moved_most=ranking._replace(keys=counted)):
        _, packed_P = choose_held(chunks, names=names, total=1 << 18, count=1 << 17, passes=passes)

    keys = torch.cat([chunk.importance for chunk in chunks])
    held = unpack_bits(packed_P, 1 << 18)  # Each chunk's entries fill whole bytes.
    assert int(held.sum()) == 1 << 17
    assert keys[held].min() >= keys[~held].max()
    assert 1 << 18 < seen < 1.2 * (1 << 18)


def test_a_crowded_band_is_narrowed_once_and_looked_at_again() -> None:
    total, seen = 1 << 18, 0
    chunks, ranking = a_model_of(total, values=1 << 22), RANKINGS["moved_most"]

    def counted(chunk: Chunk, seed: int) -> Tensor:
        nonlocal seen
        seen += chunk.weight.numel()
        return ranking.keys(chunk, seed)

    passes, names = TORCH._replace(room=total // 4), [chunk.name for chunk in chunks]
    with (
        mock.patch(BAND, return_value=Band(1, LARGEST)),
        mock.patch.dict(RANKINGS, moved_most=ranking._replace(keys=counted)),
    ):
        selection, packed_P = choose_held(
            chunks, names=names, total=total, count=total // 2, passes=passes
        )
    assert seen == 3 * total  # A look, a histogram, a look.
    chosen = unpack_bits(packed_P, total)
    assert torch.equal(chosen, torch.cat([selection.mask(chunk) for chunk in chunks]))


def test_a_second_look_writes_over_the_mask_of_the_first() -> None:
    chunks, order = a_model_of(1 << 10, values=99), RANKINGS["moved_most"]
    entries = KeyedEntries(chunks, ["w000"], order, 0, lambda counts: counts, TORCH)
    first = entries.count_around(Band(1, LARGEST))
    again = entries.count_around(Band(1, 5), again=first)
    assert again.mask.data_ptr() == first.mask.data_ptr()
    assert int(unpack_bits(again.mask, 1 << 10).sum()) == again.above > 0


@pytest.mark.parametrize("values", [17, 1 << 22])
@pytest.mark.parametrize("band", [None, Band(1, 2), Band(LARGEST - 1, LARGEST)])
def test_ranks_exchange_at_most_64_kib(values: int, band: Band | None) -> None:
    chunks = a_model_of(1 << 16, values=values)
    # As many parameters as a model of 80 layers has.
    names = sorted({chunk.name for chunk in chunks} | {f"x{i:03d}" for i in range(720)})
    exchanged = 0

    def add_up(counts: Tensor) -> Tensor:
        nonlocal exchanged
        exchanged += counts.numel() * counts.element_size()
        return counts

    with mock.patch(BAND, return_value=band) if band else sampling(stride=41):
        choose_held(chunks, names=names, total=1 << 16, count=1 << 15, sum_over_ranks=add_up)
    assert exchanged <= 64 * 2**10


def on_ranks(
    chunks_by_rank: list[list[Chunk]], names: list[str], count: int, *, room: int
) -> list[Selection]:
    """Select on several ranks, each a thread."""
    gang = Gang(len(chunks_by_rank))

    def select(rank: int) -> Selection:
        return choose(
            chunks_by_rank[rank],
            names=names,
            total=sum(chunk.weight.numel() for chunks in chunks_by_rank for chunk in chunks),
            count=count,
            sum_over_ranks=gang.sum(rank),
            passes=TORCH._replace(room=room),
        )

    with ThreadPoolExecutor(gang.size) as pool:
        return list(pool.map(select, range(gang.size)))


class Gang:
    """Ranks in one process that add up tensors, and remember the largest."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._barrier = threading.Barrier(size, timeout=10)
        self._parts: list[Tensor] = [torch.empty(0)] * size

    def sum(self, rank: int) -> Callable[[Tensor], Tensor]:
        def add_up(part: Tensor) -> Tensor:
            self._parts[rank] = part.clone()
            self._barrier.wait()
            total = torch.stack(self._parts).sum(0)
            self._barrier.wait()
            return total

        return add_up


@settings(deadline=None, max_examples=50)
@given(
    model=models,
    count=st.integers(0, 130),
    cuts=st.lists(st.integers(1, 29)),
    ranks=st.integers(1, 7),
    stride=st.sampled_from([1, 3, 7]),
    set_aside=st.sampled_from([3, 1000]),
    deal=st.randoms(use_true_random=False),
)
def test_ranks_agree_and_choose_as_one_rank_would(
    model: Model,
    count: int,
    cuts: list[int],
    ranks: int,
    stride: int,
    set_aside: int,
    deal: object,
) -> None:
    chunks_by_rank: list[list[Chunk]] = [[] for _ in range(ranks)]
    for chunk in pieces(model, cuts):
        chunks_by_rank[deal.randrange(ranks)].append(chunk)  # type: ignore[attr-defined]

    with sampling(stride=stride):
        selections = on_ranks(chunks_by_rank, sorted(model), count, room=set_aside)

    alone, held = hold(model, count)
    assert set(selections) == {alone}
    assert set().union(*map(held_by, selections, chunks_by_rank)) == held


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -1.0])
def test_importance_that_is_not_finite_names_its_parameter_on_every_rank(bad: float) -> None:
    good = Chunk("a", 0, torch.ones(3), torch.ones(3))
    broken = Chunk("b", 0, torch.tensor([1.0, bad]), torch.ones(2))
    gang = Gang(2)

    def message(rank: int) -> str:
        with pytest.raises(ValueError, match="must be finite") as error:
            choose_held(
                [[good], [broken]][rank],
                names=["a", "b"],
                total=5,
                count=1,
                sum_over_ranks=gang.sum(rank),
            )
        return str(error.value)

    with ThreadPoolExecutor(2) as pool:
        messages = list(pool.map(message, range(2)))
    assert all("is not in b (1 entries)" in text for text in messages)
