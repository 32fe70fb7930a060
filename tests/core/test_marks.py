"""Marks are what torch's own comparisons say; counting them loses none."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mifo_ext.core.marks import as_mask, count_marks, marks, squared_norm

COMPARISONS = [torch.gt, torch.ge, torch.eq]
keys = st.lists(st.integers(-(2**31), 2**31 - 1) | st.integers(0, 3), max_size=40)


def test_a_comparison_is_marked_and_counted() -> None:
    key = torch.tensor([5, 1, 7, 5, 0, 9, 2, 6, 3, 8], dtype=torch.int32)
    mark = marks(torch.gt, key, 5)
    assert mark.tolist() == [0, 0, 1, 0, 0, 1, 0, 1, 0, 1]
    assert as_mask(mark).tolist() == (key > 5).tolist()
    assert int(count_marks(mark)) == 4


@pytest.mark.parametrize("compare", COMPARISONS)
@settings(deadline=None)
@given(values=keys, bound=st.integers(-2, 2**31 - 1))
def test_marks_are_what_torch_says(
    compare: Callable[..., Any], values: list[int], bound: int
) -> None:
    key = torch.tensor(values, dtype=torch.int32)
    before = key.clone()
    mark, mask = marks(compare, key, bound), compare(key, bound)

    assert torch.equal(as_mask(mark), mask)
    assert int(count_marks(mark)) == int(mask.sum())
    assert torch.equal(key, before)


@settings(deadline=None)
@given(count=st.integers(0, 5000), exponent=st.integers(-15, 15))
def test_the_squared_norm_is_within_its_bound(count: int, exponent: int) -> None:
    value = torch.randn(count, generator=torch.Generator().manual_seed(count)) * 10.0**exponent
    exact = math.fsum(x * x for x in value.tolist())
    assert float(squared_norm(value)) == pytest.approx(exact, rel=1e-5)


def test_the_squared_norm_of_alike_numbers_does_not_drift() -> None:
    # Added up one by one in float32, a million of them would be 2 % short.
    value = torch.full((1 << 20,), 0.1)
    exact = (1 << 20) * float(value[0]) ** 2
    assert float(squared_norm(value)) == pytest.approx(exact, rel=1e-6)


def test_a_number_that_is_not_finite_shows_in_the_squared_norm() -> None:
    assert math.isnan(squared_norm(torch.tensor([1.0, float("nan")])))
    assert float(squared_norm(torch.full((2000,), float("inf")))) == float("inf")
