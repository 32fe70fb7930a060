"""Importance of entries, and the orders they can be held in."""

import struct

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mifo_ext.core.importance import (
    ENTRIES,
    RANKINGS,
    Chunk,
    bits_to_float,
    decayed_importance,
    float_bits,
)

finite = st.floats(0, 2.0**127, width=32)


def chunk_of(importance: list[float], weight: list[float], *, start: int = 0) -> Chunk:
    return Chunk("w", start, torch.tensor(importance), torch.tensor(weight))


def test_importance_is_the_size_of_the_move_mixed_with_the_history() -> None:
    start = torch.tensor([1.0, 1.0, 1.0])
    end = torch.tensor([1.5, 0.75, 1.0])
    history = torch.tensor([0.0, 1.0, 2.0])

    # 0.5 * history + 0.5 * |end - start|, and the inputs stay as they are.
    change = end - start
    mixed = decayed_importance(change, history, decay=0.5)
    assert mixed.tolist() == [0.25, 0.625, 1.0]
    assert change.tolist() == [0.5, -0.25, 0.0]
    assert history.tolist() == [0.0, 1.0, 2.0]


def test_the_history_counts_by_its_decay_and_the_move_by_the_rest() -> None:
    change, history = torch.tensor([-8.0]), torch.tensor([4.0])
    assert decayed_importance(change, history, decay=0.25).tolist() == [7.0]


def test_without_history_importance_is_the_move_alone() -> None:
    change = torch.tensor([0.25, -4.0])
    assert decayed_importance(change, torch.tensor([9.0, 9.0]), decay=0.0).tolist() == [0.25, 4]
    assert decayed_importance(change, None, decay=0.5).tolist() == [0.125, 2]


@pytest.mark.parametrize("decay", [-0.1, 1.0, float("nan")])
def test_a_decay_outside_its_range_is_refused(decay: float) -> None:
    one = torch.ones(1)
    with pytest.raises(ValueError, match=r"`decay` must be in \[0, 1\), but is"):
        decayed_importance(one, one, decay=decay)


@settings(deadline=None)
@given(cut=st.integers(0, 200))
def test_importance_has_the_same_bits_wherever_a_shard_begins(cut: int) -> None:
    generator = torch.Generator().manual_seed(0)
    change, history = torch.rand(2, 200, generator=generator).sub_(0.5).unbind()
    whole = decayed_importance(change, history, decay=0.3)

    parts = [
        decayed_importance(change[part], history[part], decay=0.3)
        for part in (slice(0, cut), slice(cut, 200))
    ]
    assert torch.equal(torch.cat(parts), whole)


@settings(deadline=None)
@given(small=finite, large=finite)
def test_bit_patterns_are_ordered_like_the_numbers(small: float, large: float) -> None:
    keys = float_bits(torch.tensor([small, large])).tolist()
    assert (keys[0] < keys[1]) == (small < large)
    assert bits_to_float(keys[0]) == small
    assert keys[0] == struct.unpack("<i", struct.pack("<f", small))[0]


def order_by(entries: str, chunk: Chunk, seed: int = 0) -> list[int]:
    """Indices from first held to last, without those that are never held."""
    keys = RANKINGS[entries].keys(chunk, seed)
    order: list[int] = keys.argsort(descending=True, stable=True).tolist()
    return [i for i in order if keys[i] > 0]


def test_each_word_orders_entries_by_what_it_says() -> None:
    chunk = chunk_of([0.5, 0.0, 2.0, 1e-40], [-3.0, 4.0, 0.0, 1.0])

    assert order_by("moved_most", chunk) == [2, 0, 3]  # entry 1 never moved
    assert order_by("moved_least", chunk) == [3, 0, 2]
    assert order_by("largest_weight", chunk) == [1, 0, 3, 2]  # moved or not
    assert sorted(order_by("random", chunk)) == [0, 1, 2, 3]
    assert set(ENTRIES) == {"moved_most", "moved_least", "largest_weight", "random", "none"}


@pytest.mark.parametrize(
    ("entries", "score"), [("moved_most", 0.5), ("moved_least", 0.5), ("largest_weight", 3.0)]
)
def test_a_key_gives_its_score_back(entries: str, score: float) -> None:
    ranking = RANKINGS[entries]
    keys = ranking.keys(chunk_of([0.5], [-3.0]), 0)
    assert ranking.score(int(keys[0])) == score


def random_keys(start: int, length: int, *, name: str = "w", seed: int = 0) -> Tensor:
    chunk = Chunk(name, start, torch.zeros(length), torch.zeros(length))
    return RANKINGS["random"].keys(chunk, seed)


def test_random_order_depends_on_seed_name_and_index_but_not_on_the_shard() -> None:
    whole = random_keys(0, 1000)

    assert torch.equal(torch.cat([random_keys(0, 333), random_keys(333, 667)]), whole)
    assert not torch.equal(random_keys(0, 1000, seed=1), whole)
    assert not torch.equal(random_keys(0, 1000, name="v"), whole)
    assert whole.unique().numel() == 1000


def test_parts_and_samples_of_a_chunk_know_their_place_in_the_parameter() -> None:
    keys = RANKINGS["random"].keys
    chunk = Chunk("w", 7, torch.arange(40.0), torch.arange(40.0) + 7)

    assert torch.equal(keys(chunk.part(8, 16), 0), keys(chunk, 0)[8:16])
    sample = chunk.every(3)
    assert sample.weight.tolist() == [9.0 + 3 * i for i in range(13)]
    assert torch.equal(keys(sample, 0), keys(chunk, 0)[2::3])
    assert torch.equal(keys(sample.part(4, 9), 0), keys(sample, 0)[4:9])


def test_random_order_is_even() -> None:
    keys = random_keys(5, 100_000).double() / 2**31
    # Ten bins of about 10,000 entries: a standard deviation is 95.
    bins = torch.histc(keys, bins=10, min=0, max=1)
    assert (bins - 10_000).abs().max() < 500
    # Neighbours are unrelated: a correlation's standard deviation is 0.003.
    assert torch.corrcoef(torch.stack([keys[:-1], keys[1:]]))[0, 1].abs() < 0.02
