"""The k-th largest of integers by histograms, and the band in which it almost surely lies."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mifo_ext.core.kth_largest import (
    LARGEST,
    Band,
    Kth,
    kth_largest,
    likely_band,
    sample_stride,
)
from mifo_ext.core.passes import TORCH
from mifo_ext.core.placed_keys import at_most, by_bounds


class Exchanges:
    """Adds up over one rank, and keeps how many counts it was given each time."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def __call__(self, counts_B: Tensor) -> Tensor:
        self.sizes.append(counts_B.numel())
        return counts_B


@given(keys=st.lists(st.integers(0, 9) | st.integers(0, LARGEST), min_size=1), data=st.data())
def test_several_are_found_side_by_side(keys: list[int], data: st.DataObject) -> None:
    ranks = data.draw(st.lists(st.integers(1, len(keys)), max_size=3))
    key_K = torch.tensor(keys, dtype=torch.int32)
    from_top = sorted(keys, reverse=True)
    expected = [
        Kth(key, rank - from_top.index(key), keys.count(key))
        for rank in ranks
        for key in [from_top[rank - 1]]
    ]
    low = data.draw(st.sampled_from([0, min(keys)]) | st.integers(0, min(keys)))
    high = data.draw(st.sampled_from([LARGEST, max(keys)]) | st.integers(max(keys), LARGEST))

    def up_to(key_B: Tensor) -> Tensor:
        return at_most(key_K, key_B, by_bounds)

    assert kth_largest(ranks, Band(low, high), up_to, Exchanges()) == expected
    exchanges = Exchanges()
    assert kth_largest(ranks, Band(0, LARGEST), up_to, exchanges) == expected
    # 31 bits, seven a round.
    a_round = [128, 128, 128, 128, 8] if ranks else []
    assert exchanges.sizes == [size * len(ranks) for size in a_round]


@pytest.mark.parametrize(
    ("sample", "k", "band"),
    [
        # 50th of 100 are meant, and 3.5 times 5 and 1 to both sides: the 31st and the 69th.
        (range(1, 101), 5_000, Band(32, 70)),
        # The 2nd is the last that may be; none is so large that it may not be.
        (range(1, 101), 1, Band(99, LARGEST)),
        # Of 100 keys there is no 103rd.
        (range(1, 101), 9_990, Band(1, 4)),
        # Zeros are in no band: of 50 keys above them there is no 69th.
        ([0] * 50 + [*range(1, 51)], 9_999, Band(1, 20)),
        ([0] * 100, 5_000, Band(1, LARGEST)),
    ],
)
def test_the_likely_band_of_a_worked_example(sample: list[int], k: int, band: Band) -> None:
    sample_K = torch.tensor(list(sample), dtype=torch.int32)
    exchanges = Exchanges()
    given = (len(sample_K), lambda key_B: at_most(sample_K, key_B, by_bounds))
    assert likely_band(*given, k=k, total=10_000, sum_over_ranks=exchanges) == band
    assert len(exchanges.sizes) <= 6

    def largest(ranks: Sequence[int]) -> list[int]:
        return [sorted(sample, reverse=True)[rank - 1] for rank in ranks]

    alone = Exchanges()
    assert likely_band(*given, k=k, total=10_000, sum_over_ranks=alone, largest=largest) == band
    assert len(alone.sizes) == 1


@pytest.mark.parametrize("total", [1_000_000, 10_000_000, 1_000_000_000, 1_700_000_000])
def test_a_rank_that_has_all_keys_has_room_for_those_in_the_likely_band(total: int) -> None:
    stride = sample_stride(total)
    size = total / stride
    assert stride % 2 == 1
    inside = 2 * (3.5 * (size / 4) ** 0.5 + 1) * stride
    assert inside < TORCH.room
    assert 8 * inside + 4 * size < 64 << 20
