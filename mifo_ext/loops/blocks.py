"""Blocks of a model's entries, at which threads work inside one call of a loop each.

So many small parameters cost no more than one large one: Python is done before the first block.

Dimensions:
    Q  pieces
    R  rows: how long the pieces are, where they lie in a mask, and what a loop reads and writes
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numba
import numpy as np
import torch
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic
from torch import Tensor

from mifo_ext import addresses
from mifo_ext.core.pieces import Pieces
from mifo_ext.loops.compiled import compiled
from mifo_ext.loops.threads import each

BLOCK = 1 << 15
"""Entries: so few that threads end together, and that what was written is still in a cache."""
_WORTH_A_THREAD = 1 << 20
"""Entries: for fewer, two threads take no less time than one."""
_LENGTH, _PLACE, _ADDRESSES = 0, 1, 2
"""Rows of a table, the last of them the first with addresses."""


@intrinsic  # type: ignore[untyped-decorator]
def _pointer(typing: Any, address: Any) -> Any:
    """An address as what it points to."""
    del typing, address

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        del signature
        return builder.inttoptr(arguments[0], context.get_value_type(types.voidptr))

    return types.voidptr(types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def add_to(typing: Any, numbers: Any, amount: Any) -> Any:
    """Add to the first of some numbers, as other threads may, too; what it was before."""
    del typing, amount

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind, zero = signature.args[0], ir.IntType(64)(0)
        fields = context.make_array(kind)(context, builder, arguments[0])
        place = cgutils.get_item_pointer(context, builder, kind, fields, [zero], wraparound=False)
        return builder.atomic_rmw("add", place, arguments[1], "monotonic")

    return types.int64(numbers, types.int64), generate


@compiled()
def floats(table, row, block):  # type: ignore[no-untyped-def]
    """A block's float32 numbers, of the row's, of which the first with addresses is 0."""
    address = table[_ADDRESSES + row, block[1]] + 4 * block[2]
    return numba.carray(_pointer(address), (block[3],), np.float32)


@compiled()
def integers(table, row, block):  # type: ignore[no-untyped-def]
    """The same, of int32."""
    address = table[_ADDRESSES + row, block[1]] + 4 * block[2]
    return numba.carray(_pointer(address), (block[3],), np.int32)


@compiled()
def bits(table, row, block):  # type: ignore[no-untyped-def]
    """The same, of bits, as bytes; none where there is no mask."""
    start = table[_ADDRESSES + row, block[1]]
    size = 0 if start == 0 else (block[3] + 7) // 8
    return numba.carray(_pointer(start + block[2] // 8), (size,), np.uint8)


@compiled()
def place(table, block):  # type: ignore[no-untyped-def]
    """The place of a block's first entry in masks."""
    return table[_PLACE, block[1]] + block[2]


@compiled()
def next_block(turn, table, blocks):  # type: ignore[no-untyped-def]
    """The number of the next block, its piece, its first entry there, its entries: 0 after all.

    Args:
        turn: the number that is next.
        table: see `table_of`.
        blocks: of a piece, so many numbers; those behind its end have no block.
    """
    while True:
        number = add_to(turn, 1)
        piece, first = number // blocks, number % blocks * BLOCK
        if piece >= table.shape[1]:
            return number, piece, first, 0
        size = min(BLOCK, table[_LENGTH, piece] - first)
        if size > 0:
            return number, piece, first, size


def table_of(
    pieces: Pieces, masks: Sequence[Tensor | None], *tensors: tuple[Sequence[Tensor], Pieces]
) -> np.ndarray:
    """Where the pieces begin, for loops (R, Q); the tensors must live as long as it is used.

    Args:
        pieces: the pieces.
        masks: in which they have their places, packed.
        tensors: lists of float32 tensors, and where the pieces lie in them.
    """
    rows = [addresses.of_entries(of_all, where) for of_all, where in tensors]
    packed = [addresses.of_bits(mask, pieces) for mask in masks]
    return np.stack([pieces.length.numpy(), pieces.place.numpy(), *rows, *packed])


def blocks_of(table: np.ndarray) -> int:
    """How many blocks each piece has, as many as the longest."""
    return max(1, -(-int(table[_LENGTH].max()) // BLOCK))


def by_all_threads(loop: Callable[..., Any], table: np.ndarray, *given: Any) -> None:
    """Call the loop in as many threads as torch would use, or as there is work for."""
    turn, blocks = np.zeros(1, dtype=np.int64), blocks_of(table)
    threads = min(torch.get_num_threads(), int(table[_LENGTH].sum()) // _WORTH_A_THREAD)
    each(lambda _: loop(turn, table, blocks, *given), range(max(1, threads)))
