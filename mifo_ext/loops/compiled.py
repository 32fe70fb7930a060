"""Loops compiled by numba: strict arithmetic, many entries at a time, without Python's lock.

Dimensions:
    N  consecutive entries of one parameter
    P  bytes that pack a mask of N entries, ceil(N / 8)
    B  entries of a block
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any, TypeVar

import numba
import numpy as np
import torch
from numba.core import types
from numba.extending import intrinsic

BLOCK = 1024
"""Entries whose mask is unpacked at once."""

_EIGHT_BITS = np.arange(256, dtype=np.uint8)[:, None]
BYTES_OF_BITS = np.unpackbits(_EIGHT_BITS, axis=1, bitorder="little").view(np.uint64)[:, 0]
"""By packed byte, its eight bits as bytes, in one word."""

T = TypeVar("T")
R = TypeVar("R")


def compiled(signature: str | None = None) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Compile a loop, when it is defined if its signature is given, and keep it on the disk.

    Floating point stays strict: nothing is reordered nor contracted, so an entry has the same bits
    wherever it lies.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        options = {"nogil": True, "error_model": "numpy"}  # Division by 0 must not branch.
        try:
            loop = numba.njit(signature, cache=True, **options)(function)
        except RuntimeError:  # No folder can be written to.
            loop = numba.njit(signature, **options)(function)
        return loop  # type: ignore[no-any-return]

    return decorate


@intrinsic  # type: ignore[untyped-decorator]
def fused_multiply_add(typing: Any, factor: Any, value: Any, term: Any) -> Any:
    """`factor * value + term` in float32, rounded once."""
    del typing, factor, value, term
    signature = types.float32(types.float32, types.float32, types.float32)
    return signature, lambda context, builder, signature, arguments: builder.fma(*arguments)


@intrinsic  # type: ignore[untyped-decorator]
def ones_in(typing: Any, byte: Any) -> Any:
    """How many bits of a byte are set."""
    del typing, byte
    return types.uint8(types.uint8), lambda context, builder, signature, arguments: builder.ctpop(
        *arguments
    )


@compiled()
def unpack_block(packed_P: Any, start: int, words: Any) -> None:
    """Spread the bits from entry `start` on, a multiple of 8, over the bytes of `words`."""
    first = start >> 3
    for i in range(min(words.size, packed_P.size - first)):
        words[i] = BYTES_OF_BITS[packed_P[first + i]]


def each(work: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """What `work` makes of each item, in order; by as many threads as torch would use.

    Faster only where `work` gives up Python's lock, as compiled loops do.
    """
    items = list(items)
    helpers = min(torch.get_num_threads(), len(items)) - 1
    if helpers < 1:
        return [work(item) for item in items]
    results: dict[int, R] = {}
    turns = iter(range(len(items)))  # Python's lock gives each turn to one thread.

    def take_turns() -> None:
        with torch.no_grad():  # A thread begins with gradients on.
            for i in turns:
                results[i] = work(items[i])

    futures = [_threads(helpers).submit(take_turns) for _ in range(helpers)]
    try:
        take_turns()
    finally:
        wait(futures)
    for future in futures:
        future.result()
    return [results[i] for i in range(len(items))]


@functools.cache
def _threads(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, thread_name_prefix="mifo-loops")


# A forked child has none of its parent's threads.
os.register_at_fork(after_in_child=_threads.cache_clear)
