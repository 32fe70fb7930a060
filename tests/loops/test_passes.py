"""The loops over a model's entries give what torch's operations give."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mifo_ext.core.importance import INFINITY_BITS, float_bits
from mifo_ext.core.kth_largest import LARGEST, Band
from mifo_ext.core.packed_bits import pack_bits
from mifo_ext.core.passes import TORCH, Passes
from mifo_ext.core.placed_keys import PLACES, Aside, placed
from mifo_ext.loops import LOOPS, bit_kernels
from mifo_ext.loops.bit_kernels import SPARE
from mifo_ext.loops.kernels import BLOCK
from mifo_ext.loops.lanes import apart

BOTH = pytest.mark.parametrize("passes", [TORCH, LOOPS], ids=["torch", "loops"])
lengths = st.integers(1, 100) | st.sampled_from([BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 13])
seeds = st.integers(0, 10**6)


def drawn(count: int, seed: int) -> Tensor:
    """Numbers of which some are equal, and some are zero."""
    generator = torch.Generator().manual_seed(seed)
    number = torch.randn(count, generator=generator)
    return torch.where(torch.rand(count, generator=generator) < 0.3, number.round(), number)


def mask(count: int, seed: int) -> Tensor:
    return pack_bits(drawn(count, seed) > 0)


@settings(deadline=None)
@given(count=lengths, seed=seeds, decay=st.sampled_from([0.0, 0.3, 0.5]), carried=st.booleans())
def test_importance_has_the_same_bits(count: int, seed: int, decay: float, carried: bool) -> None:
    start, end = drawn(count, seed), drawn(count, seed + 1)
    history = (drawn(count, seed + 2).abs(), mask(count, seed + 3)) if carried else (None, None)

    found = [start.clone(), start.clone()]
    totals = [
        passes.weigh_(importance, end, *history, decay=decay).tolist()
        for passes, importance in zip((TORCH, LOOPS), found, strict=True)
    ]

    assert torch.equal(float_bits(found[0]), float_bits(found[1]))
    assert totals[0][0] == totals[1][0] == int((start != end).sum())
    assert totals[1][1] == pytest.approx(totals[0][1], rel=1e-5)


@BOTH
def test_importance_of_a_worked_example(passes: Passes) -> None:
    start = torch.tensor([1.0, 2.0, 3.0])
    history, carried = torch.tensor([8.0, 8.0, 8.0]), pack_bits(torch.tensor([True, False, True]))
    totals = passes.weigh_(start, torch.tensor([1.0, 4.0, 0.0]), history, carried, decay=0.25)
    assert start.tolist() == [2.0, 1.5, 4.25]
    assert totals.tolist() == pytest.approx([2.0, 13.0])


@BOTH
@pytest.mark.parametrize("decay", [-0.1, 1.0, math.nan])
def test_a_decay_outside_its_range_is_refused(passes: Passes, decay: float) -> None:
    with pytest.raises(ValueError, match=r"`decay` must be in \[0, 1\)"):
        passes.weigh_(torch.zeros(1), torch.ones(1), None, None, decay=decay)


def around(
    passes: Passes,
    keys: Tensor,
    importance: Tensor,
    band: Band,
    room: int,
    place: int,
    above: Tensor,
) -> tuple[list[int], Aside]:
    """What one piece alone gives: counts, and what is set aside."""
    aside, counts = Aside(room, keys.device), torch.zeros(3, dtype=torch.int64)
    passes.around(keys, importance, band, aside, place, above, counts)
    return counts.tolist(), aside


@settings(deadline=None)
@given(count=st.integers(1, 300) | st.sampled_from([1023, 1024]), seed=seeds, data=st.data())
def test_keys_around_a_band_are_counted_and_picked_alike(
    count: int, seed: int, data: st.DataObject
) -> None:
    importance = drawn(count, seed).abs()
    keys = float_bits(importance)
    bounds = st.sampled_from([*keys.tolist(), 1, LARGEST]) | st.integers(1, LARGEST)
    low, high = sorted((data.draw(bounds), data.draw(bounds)))
    room = data.draw(st.sampled_from([0, 1, 10, count]))

    place = data.draw(st.sampled_from([0, 8, PLACES - 1024]))
    is_inside = (keys >= low) & (keys <= high)
    expected = [
        (key, place + i)
        for i, (key, inside) in enumerate(zip(keys.tolist(), is_inside.tolist(), strict=True))
        if inside
    ]
    for passes in (TORCH, LOOPS):
        above = torch.full((-(-count // 8),), 255, dtype=torch.uint8)
        counts, aside = around(passes, keys, importance, Band(low, high), room, place, above)
        assert counts == [int((keys > high).sum()), len(expected), 0]
        assert torch.equal(above, pack_bits(keys > high))
        kept = aside.placed_K[: len(expected)].tolist()
        assert int(aside.used) == (len(expected) if room else 0)
        found = {divmod(key, PLACES) for key in kept}
        assert len(found) == len(kept) == min(room, len(expected))
        assert found <= set(expected)


some_keys = st.lists(st.integers(0, 5) | st.integers(0, LARGEST), max_size=40)


@BOTH
@given(
    keys=some_keys,
    bounds=st.lists(st.integers(-1, 6) | st.integers(-1, LARGEST), max_size=20).map(sorted),
    kind=st.sampled_from([torch.int32, torch.int64]),
)
def test_keys_are_counted_between_bounds(
    passes: Passes, keys: list[int], bounds: list[int], kind: torch.dtype
) -> None:
    expected = [0] * (len(bounds) + 1)
    for key in keys:
        expected[sum(bound < key for bound in bounds)] += 1
    bound_B = torch.tensor(bounds, dtype=torch.int64)
    assert passes.by_bounds(torch.tensor(keys, dtype=kind), bound_B).tolist() == expected


def test_many_keys_are_counted_part_by_part() -> None:
    keys, bounds = torch.arange(200_000).flip(0), torch.tensor([5, 70_000, 70_000, 199_999])
    assert LOOPS.by_bounds(keys, bounds).tolist() == [6, 69_995, 0, 129_999, 0]


@given(keys=some_keys, kind=st.sampled_from([torch.int32, torch.int64]), data=st.data())
def test_the_largest_are_looked_up_and_no_key_is_lost(
    keys: list[int], kind: torch.dtype, data: st.DataObject
) -> None:
    ranks = data.draw(st.lists(st.integers(1, len(keys)), max_size=2) if keys else st.just([]))
    key_K = torch.tensor(keys, dtype=kind)
    assert LOOPS.largest is not None
    expected = [sorted(keys, reverse=True)[rank - 1] for rank in ranks]
    assert LOOPS.largest(key_K, ranks) == expected
    assert sorted(key_K.tolist()) == sorted(keys)


@BOTH
@given(
    lies=st.dictionaries(st.integers(0, 99), st.integers(0, 3)),
    bounds=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 99)), min_size=2, max_size=2),
)
def test_bits_are_set_at_the_places_of_keys_between_two(
    passes: Passes, lies: dict[int, int], bounds: list[tuple[int, int]]
) -> None:
    there, (first, last) = {5, 50}, sorted(bounds)
    mask, expected = torch.zeros(100, dtype=torch.bool), torch.zeros(100, dtype=torch.bool)
    mask[list(there)] = True
    expected[list(there)] = True
    lies = {place: key for place, key in lies.items() if place not in there}
    expected[[place for place, key in lies.items() if first <= (key, place) <= last]] = True
    packed = torch.cat([pack_bits(mask), torch.zeros(3, dtype=torch.uint8)])  # Whole words.
    placed_K = placed(
        torch.tensor([*lies.values()], dtype=torch.int32),
        torch.tensor([*lies.keys()], dtype=torch.int64),
    )
    passes.set_bits(packed, placed_K, *(key * PLACES + place for key, place in (first, last)))
    assert packed.tolist() == [*pack_bits(expected).tolist(), 0, 0, 0]


@BOTH
@pytest.mark.parametrize("bad", [-1.0, -0.0, math.inf, -math.inf, math.nan])
def test_importance_that_is_no_number_from_0_up_shows_wherever_it_lies(
    passes: Passes, bad: float
) -> None:
    for position in (0, 1, 40, 1023, 1024, 1054):
        importance = torch.linspace(0, 3e38, 1055)
        assert improper(passes, importance) == 0
        importance[position] = bad
        assert improper(passes, importance) > 0


def improper(passes: Passes, importance: Tensor) -> int:
    packed = torch.empty(-(-importance.numel() // 8), dtype=torch.uint8)
    return around(passes, float_bits(importance), importance, Band(5, 9), 0, 0, packed)[0][2]


@given(count=st.integers(0, 5000))
def test_64s_that_are_gone_through_apart_are_all_of_them(count: int) -> None:
    found = [apart(number, count) for number in range(count)]
    assert sorted(found) == [64 * number for number in range(count)]
    assert count < 8 or len({at % (1 << 10) for at in found[:4]}) == 4


@pytest.mark.parametrize("count", [1, 2, 63, 64, 65, 127, 128, 200, 1000])
def test_nothing_is_written_behind_the_room_for_what_is_picked(count: int) -> None:
    keys = np.arange(1, count + 1, dtype=np.int32)
    found = np.full(count + 2 * SPARE, -7, dtype=np.int64)
    packed = np.zeros(-(-count // 8), dtype=np.uint8)
    bit_kernels.around(keys, keys, 1, LARGEST, INFINITY_BITS, 0, packed, found[: count + SPARE])
    assert sorted(found[:count].tolist()) == [(i + 1) * PLACES + i for i in range(count)]
    assert found[count + SPARE :].tolist() == [-7] * SPARE


def test_keys_may_lie_apart() -> None:
    both = torch.arange(40, dtype=torch.int32).view(20, 2)
    keys, packed = both[:, 1], torch.empty(3, dtype=torch.uint8)
    counts, aside = around(LOOPS, keys, torch.ones(20), Band(5, 9), 20, 0, packed)
    assert counts == [15, 3, 0]
    inside = aside.placed_K[:3].tolist()
    assert [divmod(key, PLACES) for key in inside] == [(5, 2), (7, 3), (9, 4)]
    assert packed.tolist() == pack_bits(keys > 9).tolist()
    assert LOOPS.ties_by_block(keys, 7, at=0, size=2, blocks=10).tolist() == [0, 1] + [0] * 8
    LOOPS.pack(keys, 7, 0, packed)
    assert packed.tolist() == pack_bits(keys > 7).tolist()


def test_keys_that_are_negative_lie_below_every_band() -> None:
    keys = torch.tensor([-1, -(1 << 31), 0, 5], dtype=torch.int32)
    packed = torch.empty(1, dtype=torch.uint8)
    counts, aside = around(LOOPS, keys, torch.zeros(4), Band(1, LARGEST), 4, 16, packed)
    assert (counts, packed.tolist()) == ([0, 1, 0], [0])
    assert aside.placed_K[:1].tolist() == [5 * PLACES + 19]
    assert int(torch.tensor(math.inf).view(torch.int32)) == INFINITY_BITS


@BOTH
def test_the_last_place_of_all_has_its_bit(passes: Passes) -> None:
    packed = torch.zeros(PLACES // 8, dtype=torch.uint8)  # Pages that nobody writes take no memory.
    place = torch.tensor([(1 << 31) + 3, PLACES - 1])
    keys = placed(torch.tensor([LARGEST, LARGEST], dtype=torch.int32), place)
    passes.set_bits(packed, keys, LARGEST * PLACES, LARGEST * PLACES + PLACES - 1)
    assert (packed[1 << 28].item(), packed[-1].item(), packed[0].item()) == (8, 128, 0)


@settings(deadline=None)
@given(count=lengths, seed=seeds, at=st.integers(0, 3000), size=st.sampled_from([1, 8, 32, 4096]))
def test_ties_are_counted_by_the_block_they_lie_in(
    count: int, seed: int, at: int, size: int
) -> None:
    keys = float_bits(drawn(count, seed).abs())
    key, blocks = int(keys[seed % count]), (at + count - 1) // size + 1
    expected = [0] * blocks
    for i in (keys == key).nonzero().flatten().tolist():
        expected[(at + i) // size] += 1
    for passes in (TORCH, LOOPS):
        counts = passes.ties_by_block(keys, key, at=at, size=size, blocks=blocks)
        assert counts.tolist() == expected


@settings(deadline=None)
@given(count=lengths, seed=seeds, ties=st.integers(0, 3000))
def test_a_mask_is_what_is_above_and_the_first_that_are_tied(
    count: int, seed: int, ties: int
) -> None:
    keys = float_bits(drawn(count, seed).abs())
    key, ties = max(1, int(keys[seed % count])), min(ties, count)
    expected = keys > key
    expected[:ties] |= keys[:ties] == key
    for passes in (TORCH, LOOPS):
        packed = torch.full((-(-count // 8),), 255, dtype=torch.uint8)
        passes.pack(keys, key, ties, packed)
        assert packed.tolist() == pack_bits(expected).tolist()


@settings(deadline=None)
@given(count=lengths, seed=seeds)
def test_overlap_counts_bits_of_both_and_of_either(count: int, seed: int) -> None:
    one, other = mask(count, seed), mask(count, seed + 1)
    counted = [drawn(count, seed) > 0, drawn(count, seed + 1) > 0]
    expected = [int((counted[0] & counted[1]).sum()), int((counted[0] | counted[1]).sum())]
    assert TORCH.overlap(one, other).tolist() == LOOPS.overlap(one, other).tolist() == expected
