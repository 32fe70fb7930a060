"""Keys with places, searched in order and in any order."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mifo_ext.core import placed_keys
from mifo_ext.core.kth_largest import LARGEST
from mifo_ext.core.placed_keys import PLACES, placed, places

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
    key_K, bound_B = torch.tensor(keys, dtype=dtype), torch.tensor(sorted(bounds))
    expected = [sum(key <= bound for key in keys) for bound in sorted(bounds)]
    assert placed_keys.counted_at_most(key_K, bound_B).tolist() == expected
    assert placed_keys.at_most(placed_keys.searchable(key_K), bound_B).tolist() == expected


def test_more_keys_than_are_counted_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placed_keys, "_AT_ONCE", 3)
    counted = placed_keys.counted_at_most(torch.tensor([5, 1, 4, 1, 9, 2, 6]), torch.tensor([1, 5]))
    assert counted.tolist() == [2, 5]


@given(keys=some_keys, key=st.integers(0, 6))
def test_equal_keys_come_in_order_and_larger_ones_beside(keys: list[int], key: int) -> None:
    placed_K = placed(torch.tensor(keys, dtype=torch.int32), torch.arange(len(keys)).flip(0))
    in_order = placed_keys.searchable(placed_K)
    equal = sorted(value for value in placed_K.tolist() if value // PLACES == key)
    larger = {value for value in placed_K.tolist() if value // PLACES > key}
    for found in (
        placed_keys.equal_and_larger(in_order, key),
        placed_keys.picked_equal_and_larger(placed_K, key),
    ):
        assert found[0].tolist() == equal
        assert set(found[1].tolist()) == larger
