"""Threads that work side by side: torch's own, which are awake where torch has just worked.

Relies on: torch's threads for processors are OpenMP's, and `GOMP_parallel` starts them. It is what
GNU's compiler makes of a parallel region, so its arguments are for good; LLVM's and Intel's OpenMP
have it, too. Where torch has other threads, Python's take their place.
"""

from __future__ import annotations

import ctypes
import functools
import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")
Team = Callable[[Callable[[], None], int], None]
"""Calls something in so many threads, of which this is one, and waits for all."""

_CALLED = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_BORN = os.getpid()
_here = threading.local()


def each(work: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """What `work` makes of each item, in order; by as many threads as torch would use.

    Faster only where `work` gives up Python's lock, as compiled loops do.
    """
    items, threads = iter(items), torch.get_num_threads()
    first = list(islice(items, threads))
    if len(first) < 2 or getattr(_here, "at_work", False):
        return [work(item) for item in chain(first, items)]
    results: dict[int, R] = {}
    errors: list[BaseException] = []
    # Items are made when it is their turn: those of a large model would take memory together.
    turns, one_at_a_time = enumerate(chain(first, items)), threading.Lock()

    def take_turns() -> None:
        _here.at_work = True  # What is done to an item begins no other team.
        try:
            with torch.no_grad():  # A thread begins with gradients on.
                while True:
                    with one_at_a_time:
                        turn = next(turns, None)
                    if turn is None:
                        return
                    results[turn[0]] = work(turn[1])
        except BaseException as error:
            errors.append(error)
        finally:
            _here.at_work = False

    _team(os.getpid())(take_turns, len(first))
    if errors:
        raise errors[0]
    return [results[i] for i in range(len(results))]


@functools.cache
def _team(process: int) -> Team:
    """How threads are called in a process."""
    parallel = getattr(ctypes.CDLL(None) if os.name == "posix" else None, "GOMP_parallel", None)
    is_torchs = "parallel backend: OpenMP" in torch.__config__.parallel_info()
    # OpenMP would wait for the threads of a forked child's parent, which the child has not.
    if parallel is None or not is_torchs or process != _BORN:
        return functools.partial(_python_team, process)
    return functools.partial(_openmp_team, parallel)


def _openmp_team(parallel: Callable[..., None], work: Callable[[], None], threads: int) -> None:
    called = _CALLED(lambda _: work())
    parallel(called, None, ctypes.c_uint(threads), ctypes.c_uint(0))


def _python_team(process: int, work: Callable[[], None], threads: int) -> None:
    futures = [_pool(process, threads - 1).submit(work) for _ in range(threads - 1)]
    work()
    for future in futures:
        future.result()


@functools.cache
def _pool(process: int, count: int) -> ThreadPoolExecutor:
    del process  # A forked child has none of its parent's threads.
    return ThreadPoolExecutor(count, thread_name_prefix="mifo-loops")
