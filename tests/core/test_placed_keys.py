"""Keys with places, searched in order and in any order."""

from __future__ import annotations

from unittest import mock

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mifo_ext.core import placed_keys
from mifo_ext.core.kth_largest import LARGEST
from mifo_ext.core.placed_keys import PLACES, between, picked_between, placed, places

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
    assert placed_keys.counted_at_most(key_K, bound_B).tolist() == expected
    assert placed_keys.at_most(placed_keys.searchable(key_K), bound_B).tolist() == expected


def test_more_keys_than_are_counted_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placed_keys, "_COUNTED_AT_ONCE", 3)
    counted = placed_keys.counted_at_most(torch.tensor([5, 1, 4, 1, 9, 2, 6]), torch.tensor([1, 5]))
    assert counted.tolist() == [2, 5]


@given(keys=some_keys, pair=st.lists(st.integers(0, 7), min_size=2, max_size=2))
@pytest.mark.parametrize("at_once", [3, 1 << 20])
def test_keys_between_two_are_found_with_their_places(
    at_once: int, keys: list[int], pair: list[int]
) -> None:
    placed_K = placed(torch.tensor(keys, dtype=torch.int32), torch.arange(len(keys)).flip(0))
    first, last = sorted(pair)[0] * PLACES + 3, sorted(pair)[1] * PLACES + 5
    expected = sorted(value for value in placed_K.tolist() if first <= value <= last)
    with mock.patch.object(placed_keys, "_PICKED_AT_ONCE", at_once):
        in_order = torch.cat([*between(placed_keys.searchable(placed_K), first, last)])
        picked = torch.cat([*picked_between(placed_K, first, last)])
    assert in_order.tolist() == expected
    assert sorted(picked.tolist()) == expected


def test_the_largest_key_at_the_last_place_is_found() -> None:
    placed_K = placed(torch.tensor([LARGEST], dtype=torch.int32), torch.tensor([PLACES - 1]))
    bound = int(placed_K)
    for find in (between, picked_between):
        assert torch.cat([*find(placed_K, bound, bound)]).tolist() == [bound]
        assert torch.cat([*find(placed_K, 0, bound - 1)]).tolist() == []
