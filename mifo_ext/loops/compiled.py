"""Loops compiled by numba, and the threads that run them side by side."""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice
from pathlib import Path
from threading import Lock, current_thread
from typing import Any, TypeVar

import numba
import torch

T = TypeVar("T")
R = TypeVar("R")

_NAME = "mifo-loops"


def compiled(
    signature: str | list[str] | None = None,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Compile a loop, when it is defined if its signatures are given, and keep it on the disk.

    Floating point stays strict: nothing is reordered nor contracted, so an entry has the same bits
    wherever it lies. numba makes anew what it kept when the loop's file changes, and not when a
    file does from which the loop takes others; so its name says in which state all of them are.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        function.__qualname__ += f"_{_state()}"
        options = {"nogil": True, "error_model": "numpy"}  # Division by 0 must not branch.
        try:
            loop = numba.njit(signature, cache=True, **options)(function)
        except RuntimeError:  # No folder can be written to.
            loop = numba.njit(signature, **options)(function)
        return loop  # type: ignore[no-any-return]

    return decorate


@functools.cache
def _state() -> str:
    """Another word for each state of this package's files."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.blake2b(b"".join(f.read_bytes() for f in files), digest_size=6).hexdigest()


def each(work: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """What `work` makes of each item, in order; by as many threads as torch would use.

    Faster only where `work` gives up Python's lock, as compiled loops do.
    """
    items, threads = iter(items), torch.get_num_threads()
    first = list(islice(items, threads))
    helpers = len(first) - 1
    if helpers < 1 or _is_helper():
        return [work(item) for item in chain(first, items)]
    results: dict[int, R] = {}
    # Items are made when it is their turn: those of a large model would take memory together.
    turns, one_at_a_time = enumerate(chain(first, items)), Lock()

    def take_turns() -> None:
        with torch.no_grad():  # A thread begins with gradients on.
            while True:
                with one_at_a_time:
                    turn = next(turns, None)
                if turn is None:
                    return
                results[turn[0]] = work(turn[1])

    futures = [_threads(helpers).submit(take_turns) for _ in range(helpers)]
    try:
        take_turns()
    finally:
        errors = [future.exception() for future in futures]  # Waits.
    for error in errors:
        if error is not None:
            raise error
    return [results[i] for i in range(len(results))]


def _is_helper() -> bool:
    """Whether this is one of the threads below, of which there may be no other."""
    return current_thread().name.startswith(_NAME)


@functools.cache
def _threads(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, thread_name_prefix=_NAME)


# A forked child has none of its parent's threads.
os.register_at_fork(after_in_child=_threads.cache_clear)
