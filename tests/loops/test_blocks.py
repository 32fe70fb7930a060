"""Blocks that threads take in turn: each of them once."""

from __future__ import annotations

from collections.abc import Iterator

import numba
import numpy as np
import pytest
import torch

from mifo_ext.core.pieces import Pieces, each_alone
from mifo_ext.loops.blocks import BLOCK, blocks_of, next_block, table_of
from mifo_ext.loops.threads import each


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def taken(turn, table, blocks):  # type: ignore[no-untyped-def]
    """How many blocks this thread takes, and how many entries they have."""
    count, entries = 0, 0
    while True:
        block = next_block(turn, table, blocks)
        if block[3] == 0:
            return count, entries
        count, entries = count + 1, entries + block[3]


@pytest.mark.parametrize("lengths", [[1], [BLOCK], [1, BLOCK + 1, 7], [BLOCK << 21, 5]])
def test_threads_take_every_block_once(lengths: list[int]) -> None:
    number = torch.zeros(len(lengths), dtype=torch.int64)
    pieces = each_alone(Pieces(number, number, torch.tensor(lengths), number))
    table = table_of(pieces, [None])
    turn, blocks = np.zeros(1, dtype=np.int64), blocks_of(table)
    found = each(lambda _: taken(turn, table, blocks), range(4))
    assert sum(count for count, _ in found) == sum(-(-length // BLOCK) for length in lengths)
    assert sum(entries for _, entries in found) == sum(lengths)
