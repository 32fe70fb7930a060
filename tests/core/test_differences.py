"""A tensor kept as a difference comes back with every bit, and takes as little as it may."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mifo_ext.core.differences import Difference, difference, undo_difference

patterns = st.integers(-(2**31), 2**31 - 1)
# Steps at the borders of one, two and three bytes, and any.
border = st.sampled_from([1 << 7, 1 << 15, 1 << 23]).flatmap(lambda b: st.integers(b - 2, b + 2))
steps = border | border.map(lambda b: -b) | st.integers(-300, 300) | patterns


def floats(bits: list[int]) -> Tensor:
    wrapped = [(b + 2**31) % 2**32 - 2**31 for b in bits]
    return torch.tensor(wrapped, dtype=torch.int32).view(torch.float32)


def bytes_of(parts: Difference | Tensor) -> int:
    tensors = [parts] if isinstance(parts, Tensor) else list(parts.values())
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def same_bits(one: Tensor, other: Tensor) -> bool:
    return torch.equal(one.view(torch.int32), other.view(torch.int32))


def test_what_did_not_move_takes_nothing() -> None:
    weight = torch.randn(100)
    parts = difference(weight.clone(), weight)
    assert bytes_of(parts) == 0
    assert same_bits(undo_difference(parts, weight), weight)


def test_a_step_of_a_few_last_places_takes_one_byte_an_entry() -> None:
    known = torch.full((100,), 1.0)
    kept = known.clone()
    kept[::2] = 1.0 + 5 * 2**-23
    parts = difference(kept, known)
    assert not isinstance(parts, Tensor)
    assert parts["planes"].shape == (1, 100)
    assert bytes_of(parts) == 100
    assert parts["planes"][0, :2].tolist() == [256 - 5, 0]


def test_the_few_that_moved_far_are_kept_in_full() -> None:
    known = torch.full((100,), 1.0)
    kept = known.clone()
    kept[7] = -3.0
    parts = difference(kept, known)
    assert not isinstance(parts, Tensor)
    assert parts["places"].tolist() == [7]
    assert bytes_of(parts) == 8
    assert same_bits(undo_difference(parts, known), kept)


def test_an_rl_phase_of_the_papers_size_takes_less_than_three_bytes_an_entry() -> None:
    draw = torch.Generator().manual_seed(0)
    kept = torch.randn(1 << 16, generator=draw) * 0.02
    known = kept + torch.randn(1 << 16, generator=draw) * 1e-6 * 11**0.5
    assert bytes_of(difference(kept, known)) < 3 * kept.numel()


def test_what_moved_far_everywhere_stays_as_it_is() -> None:
    kept = torch.randn(100)
    assert difference(kept, -kept) is kept


@settings(deadline=None)
@given(entries=st.lists(st.tuples(patterns, steps), max_size=50))
def test_every_bit_comes_back_and_no_more_than_four_bytes_an_entry_are_taken(
    entries: list[tuple[int, int]],
) -> None:
    known = floats([bits for bits, _ in entries])
    kept = floats([bits - step for bits, step in entries])
    before = known.clone()

    parts = difference(kept, known)

    assert same_bits(undo_difference(parts, known), kept)
    assert bytes_of(parts) <= 4 * len(entries)
    assert same_bits(known, before)
