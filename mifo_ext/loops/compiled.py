"""Loops compiled by numba, kept on the disk."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba


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
