"""The global choice of held entries: exact, however parameters are cut."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mifo_ext.core.freezing import choose_held, held_count
from mifo_ext.core.importance import Chunk
from mifo_ext.core.passes import TORCH, Passes
from mifo_ext.loops import LOOPS
from tests.support.held_entries import Model, by_sorting, choose, held_by, hold, models


def test_holds_the_largest_entries_of_the_whole_model() -> None:
    model = {"a": [0.1, 0.9, 0.2], "b": [0.8, 0.3, 0.0]}

    selection, held = hold(model, 3)

    assert held == {("a", 1), ("b", 0), ("b", 1)}
    assert selection.held == 3
    assert selection.threshold == pytest.approx(0.3)


def test_ties_go_to_the_first_name_and_then_to_the_lowest_index() -> None:
    model = {"b": [1.0, 2.0, 1.0, 1.0], "a": [1.0, 0.0, 1.0]}
    # First the 2.0, then a[0], a[2], b[0].
    assert hold(model, 4)[1] == {("b", 1), ("a", 0), ("a", 2), ("b", 0)}
    # Names are ordered as strings, so layer 10 comes before layer 2.
    assert hold({"layers.2.w": [1.0], "layers.10.w": [1.0]}, 1)[1] == {("layers.10.w", 0)}


def test_entries_that_never_moved_are_never_held() -> None:
    model = {"a": [0.0, 0.0, 1e-45, 0.0]}
    selection, held = hold(model, 4)
    assert held == {("a", 2)}
    assert selection.held == 1


@pytest.mark.parametrize("model", [{"a": [0.0, 0.0]}, {"a": []}])
def test_nothing_is_held_when_nothing_moved(model: Model) -> None:
    selection, held = hold(model, 2)
    assert held == set()
    assert (selection.held, selection.threshold) == (0, None)


def test_nothing_is_held_when_nothing_is_asked_for() -> None:
    assert hold({"a": [1.0, 2.0]}, 0)[1] == set()


@settings(deadline=None)
@given(model=models, count=st.integers(0, 130), cuts=st.lists(st.integers(1, 29)))
def test_the_choice_is_that_of_sorting_however_parameters_are_cut(
    model: Model, count: int, cuts: list[int]
) -> None:
    selection, held = hold(model, count, cuts=cuts)
    eligible = sum(value > 0 for values in model.values() for value in values)

    assert held == by_sorting(model, count)
    assert len(held) == selection.held == min(count, eligible)


@pytest.mark.parametrize("entries", ["moved_least", "largest_weight", "random"])
@settings(deadline=None)
@given(model=models, count=st.integers(0, 130), cuts=st.lists(st.integers(1, 29)))
def test_every_order_is_exact(entries: str, model: Model, count: int, cuts: list[int]) -> None:
    assert hold(model, count, cuts=cuts, entries=entries)[1] == by_sorting(
        model, count, entries=entries
    )


@settings(deadline=None)
@given(
    values=st.lists(st.floats(0, 2.0**127, width=32), min_size=1, max_size=60),
    count=st.integers(1, 60),
)
def test_the_choice_is_exact_for_any_numbers(values: list[float], count: int) -> None:
    assert hold({"a": values}, count)[1] == by_sorting({"a": values}, count)


def test_a_parameter_of_billions_of_entries_is_cut_at_the_right_index() -> None:
    # Two pieces of one parameter, far apart, all tied: only the starts are large.
    first, last = 2**31 + 5, 2**32 + 7
    chunks = [Chunk("a", start, torch.ones(4), torch.ones(4)) for start in (last, first)]
    selection = choose(chunks, names=["a"], total=8, count=6)
    assert held_by(selection, chunks) == {
        ("a", index) for index in (*range(first, first + 4), last, last + 1)
    }


@settings(deadline=None, max_examples=40)
@given(length=st.integers(100, 9000), cuts=st.lists(st.integers(1, 8999)), data=st.data())
def test_ties_over_many_blocks_of_the_search_run_out_at_the_right_index(
    length: int, cuts: list[int], data: st.DataObject
) -> None:
    count = data.draw(st.integers(1, length - 1))
    selection, _ = hold({"a": [1.0] * length}, count, cuts=cuts)
    assert (selection.held, selection.cut_index) == (count, count)


@pytest.mark.parametrize("passes", [TORCH, LOOPS], ids=["torch", "loops"])
@pytest.mark.parametrize("count", [1, 4096, 4097, 9000, 12293, 12294, 24585])
def test_ties_run_out_anywhere_in_a_large_piece(passes: Passes, count: int) -> None:
    importance = torch.ones(2 * 12293)
    chunks = [Chunk("a", i * 12293, part, part) for i, part in enumerate(importance.split(12293))]
    passes = passes._replace(piece=8192)
    selection = choose(chunks, names=["a"], total=2 * 12293, count=count, passes=passes)
    assert (selection.held, selection.cut_index) == (count, count)


@pytest.mark.parametrize("empty_first", [True, False])
def test_a_chunk_without_entries_changes_nothing(empty_first: bool) -> None:
    tied, nothing = torch.ones(12), torch.zeros(0)
    chunks = [Chunk("a", 4, tied, tied), Chunk("a", 4, nothing, nothing)]
    chunks = chunks[::-1] if empty_first else chunks
    selection = choose(chunks, names=["a"], total=12, count=5)
    assert held_by(selection, chunks) == {("a", index) for index in range(4, 9)}


def test_an_unknown_order_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"one of moved_most, .* but is 'biggest'"):
        choose_held([], names=[], total=0, count=1, entries="biggest")


@pytest.mark.parametrize(
    ("fraction", "entries", "count"),
    # In floats 0.29 * 100 is 28.999999999999996, and 0.1 * 3 * 10**17 is off by many.
    [(0.29, 100, 29), (0.5, 7, 3), (0.0, 9, 0), (1.0, 9, 9), (0.1, 3 * 10**17 + 9, 3 * 10**16)],
)
def test_the_count_is_the_exact_floor(fraction: float, entries: int, count: int) -> None:
    assert held_count(fraction, entries) == count


@pytest.mark.parametrize("fraction", [-0.1, 1.1, float("nan")])
def test_a_fraction_outside_its_range_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match=r"`fraction` must be in \[0, 1\], but is"):
        held_count(fraction, 10)
