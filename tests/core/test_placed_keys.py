"""Keys with places, and how many of them lie where."""

from __future__ import annotations

from unittest import mock

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mifo_ext.core import placed_keys
from mifo_ext.core.kth_largest import LARGEST
from mifo_ext.core.placed_keys import PLACES, at_most, between, by_bounds, placed, places, up_to

some_keys = st.lists(st.integers(0, 5) | st.integers(0, LARGEST), max_size=30)
bounds = st.lists(st.integers(-1, 6) | st.integers(-1, LARGEST), min_size=1, max_size=9)


def test_a_key_and_its_place_are_one_number() -> None:
    both = placed(torch.tensor([7, 0], dtype=torch.int32), torch.tensor([3, PLACES - 1]))
    assert both.tolist() == [7 * PLACES + 3, PLACES - 1]
    assert places(both).tolist() == [3, PLACES - 1]


@given(keys=some_keys, bounds=bounds, dtype=st.sampled_from([torch.int32, torch.int64]))
def test_keys_up_to_a_bound_are_counted(
    keys: list[int], bounds: list[int], dtype: torch.dtype
) -> None:
    key_K, bound_B = torch.tensor(keys, dtype=dtype), torch.tensor(bounds)
    expected = [sum(key <= bound for key in keys) for bound in bounds]
    assert at_most(key_K, bound_B, by_bounds).tolist() == expected


def test_more_keys_than_are_counted_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placed_keys, "_COUNTED_AT_ONCE", 3)
    counted = by_bounds(torch.tensor([5, 1, 4, 1, 9, 2, 6]), torch.tensor([1, 5]))
    assert counted.tolist() == [2, 3, 2]


def test_the_largest_key_at_the_last_place_is_counted() -> None:
    placed_K = placed(torch.tensor([LARGEST], dtype=torch.int32), torch.tensor([PLACES - 1]))
    assert up_to(placed_K, torch.tensor([LARGEST - 1, LARGEST]), by_bounds).tolist() == [0, 1]


@given(keys=some_keys, pair=st.lists(st.integers(0, 7), min_size=2, max_size=2))
@pytest.mark.parametrize("at_once", [3, 1 << 20])
def test_keys_between_two_are_picked(at_once: int, keys: list[int], pair: list[int]) -> None:
    placed_K = placed(torch.tensor(keys, dtype=torch.int32), torch.arange(len(keys)).flip(0))
    first, last = sorted(pair)[0] * PLACES + 3, sorted(pair)[1] * PLACES + 5
    expected = [value for value in placed_K.tolist() if first <= value <= last]
    with mock.patch.object(placed_keys, "_PICKED_AT_ONCE", at_once):
        assert between(placed_K, first, last).tolist() == expected
