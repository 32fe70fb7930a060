"""Work on many pieces by several threads: every piece once, in order, and no error lost."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial

import pytest
import torch

from mifo_ext.core.passes import TORCH
from mifo_ext.loops import threads as own
from mifo_ext.loops.threads import each

TEAM = own._team.__wrapped__


@pytest.fixture(autouse=True, params=["torch's", "Python's"])
def team(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose threads they are."""
    if request.param == "Python's":
        monkeypatch.setattr(own, "_team", lambda process: partial(own._python_team, process))


@pytest.fixture(autouse=True, params=[1, 2, 5])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 100])
def test_what_comes_of_each_item_stands_in_the_items_order(count: int) -> None:
    calls: list[int] = []

    def square(item: int) -> int:
        calls.append(item)
        return item * item

    assert each(square, iter(range(count))) == [item * item for item in range(count)]
    assert sorted(calls) == list(range(count))


def test_items_are_made_when_it_is_their_turn(threads: int) -> None:
    made, done, ahead = 0, 0, []

    def items() -> Iterator[int]:
        nonlocal made
        for item in range(100):
            made += 1
            yield item

    def work(item: int) -> None:
        nonlocal done
        ahead.append(made - done)
        done += 1

    each(work, items())
    assert done == 100
    assert max(ahead) <= 2 * threads


def test_as_many_threads_work_at_once_as_torch_would_use(threads: int) -> None:
    meeting = threading.Barrier(threads)
    assert each(lambda item: meeting.wait(timeout=60) >= 0, range(threads)) == [True] * threads


def test_an_error_in_a_helper_is_raised(threads: int) -> None:
    meeting = threading.Barrier(threads)

    def work(item: int) -> None:
        meeting.wait(timeout=60)  # So that every thread has an item.
        if threads > 1 and threading.current_thread() is not threading.main_thread():
            raise ValueError("not here")

    with pytest.raises(ValueError, match="not here") if threads > 1 else nullcontext():
        each(work, range(threads))


@pytest.mark.parametrize("bad", [0, 1, 17, 39])
def test_an_error_in_any_thread_is_raised(bad: int) -> None:
    def work(item: int) -> None:
        if item == bad:
            raise ValueError(f"item {item}")

    with pytest.raises(ValueError, match=f"item {bad}"):
        each(work, range(40))
    assert each(str, range(3)) == ["0", "1", "2"]


def test_no_thread_builds_a_graph_where_the_caller_does_not() -> None:
    weight = torch.ones(3, requires_grad=True)
    with torch.no_grad():
        found = each(lambda item: (weight * item).requires_grad, range(20))
    assert found == [False] * 20


def test_a_forked_child_has_threads_of_its_own() -> None:
    assert each(abs, range(40)) == list(range(40))
    context = multiprocessing.get_context("fork")
    with context.Pool(1) as pool:
        assert pool.apply_async(each, (abs, range(40))).get(timeout=60) == list(range(40))


def test_torchs_own_passes_go_through_items_one_after_another() -> None:
    seen: list[int] = []

    def items() -> Iterator[int]:
        for item in range(3):
            assert seen == list(range(item))  # An item is not made before the last one is done.
            yield item

    assert TORCH.each(seen.append, items()) == [None] * 3


def test_work_that_has_work_of_its_own_done_by_threads_comes_to_an_end() -> None:
    found = each(lambda item: each(lambda other: (item, other), range(3)), range(4))
    assert found == [[(item, other) for other in range(3)] for item in range(4)]


def test_the_threads_are_torchs_own() -> None:
    # As torch's wheels are; elsewhere it is Python's threads that work.
    assert TEAM(os.getpid()).func is own._openmp_team
    assert TEAM(os.getpid() + 1).func is own._python_team
