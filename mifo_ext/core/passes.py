"""How the entries of a model are gone through: what is done to one piece of them at a time.

`TORCH` does it by torch's operations, on any device. Another `Passes` may do the same faster and
must give the same; `mifo_ext.loops.LOOPS` is one for processors.

Dimensions:
    N  consecutive entries of one parameter, with their keys
    K  keys that lie in a band
    B  blocks
    P  bytes that pack N bits, ceil(N / 8)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol, TypeVar

import torch
from jaxtyping import Float32, Float64, Int32, Int64, UInt8
from torch import Tensor

from mifo_ext.core.importance import INFINITY_BITS, decayed_importance, float_bits
from mifo_ext.core.kth_largest import Band
from mifo_ext.core.marks import squared_norm
from mifo_ext.core.masked_adamw import masked_adamw_, squared_norms
from mifo_ext.core.packed_bits import count_bits, pack_bits, unpack_bits
from mifo_ext.core.pieces import Pieces
from mifo_ext.core.placed_keys import Aside, ByBounds, by_bounds, placed, places

_AT_ONCE = 1 << 18
"""Bits set at once, so that their places take little memory."""

T = TypeVar("T")
R = TypeVar("R")


class Each(Protocol):
    """Do some work on every item; what comes of it, in the items' order."""

    def __call__(self, work: Callable[[T], R], items: Iterable[T]) -> list[R]:
        """Call `work` on each."""


class EndedPhase(NamedTuple):
    """An RL phase whose entries are to be weighed, see `weigh_`; each tensor is one piece.

    Attributes:
        starts: values when it began; then importance.
        ends: values when it ended.
        histories: importance at the end of the phase before; None when there was none.
        carried: of which it is carried over, packed, where the pieces have their places.
        pieces: the pieces.
        decay: weight of the history.
    """

    starts: Sequence[Tensor]
    ends: Sequence[Tensor]
    histories: Sequence[Tensor] | None
    carried: Tensor | None
    pieces: Pieces
    decay: float

    @property
    def carries(self) -> bool:
        """Whether its history counts."""
        return self.histories is not None and self.carried is not None and self.decay > 0

    @property
    def device(self) -> torch.device:
        """Where the values are now."""
        return self.ends[0].device


class Passes(NamedTuple):
    """What is done to a piece of a model, and in which way to all of them.

    Attributes:
        each: does some work on every piece.
        weigh_: see `weigh_`.
        around: see `around`.
        by_bounds: see `mifo_ext.core.placed_keys.by_bounds`.
        set_bits: see `set_bits`.
        ties_by_block: see `ties_by_block`.
        histogram: see `histogram`.
        pack: see `pack`.
        overlap: see `overlap`.
        squared_norms: see `mifo_ext.core.masked_adamw.squared_norms`.
        masked_adamw_: see `mifo_ext.core.masked_adamw.masked_adamw_`.
        piece: how many entries a piece has; a multiple of 8.
        room: how many keys are set aside at most, each with its place in 8 bytes.
        largest: the k-th largest of keys, from 1, for several k; the keys may be left in another
            order. None where that takes longer than counting them again and again.
        squared_norms_of: as `squared_norms`, of many pieces at once; None piece by piece.
        masked_adamw_of_: as `masked_adamw_`, of many pieces at once, given flat weights, gradients
            and moments in which they lie, the mask, the pieces, where these lie in the moments
            (`moments_at`) and each weight tensor's number of this update (`steps`), from 1; None
            piece by piece.
        sample_of: what `write_sample` would write of an ended phase once it is weighed, for
            `moved_most`; None piece by piece.
        weigh_around_of_: `weigh_` and `around` of an ended phase at once, for `moved_most`; None
            piece by piece.
        around_of: `around` of many pieces' importance at once, for `moved_most`, given them and the
            pieces; None piece by piece.
        copy_of_: copies values that lie on the device, each one piece, to the host, given targets,
            sources and the pieces; None piece by piece.
    """

    each: Each
    weigh_: Callable[..., Tensor]
    around: Callable[[Tensor, Tensor, Band, Aside, int, Tensor, Tensor], None]
    by_bounds: ByBounds
    set_bits: Callable[[Tensor, Tensor, int, int], None]
    ties_by_block: Callable[..., Tensor]
    histogram: Callable[[Tensor, int, int, int, Tensor], None]
    pack: Callable[[Tensor, int, int, Tensor], None]
    overlap: Callable[[Tensor, Tensor], Tensor]
    squared_norms: Callable[..., Tensor]
    masked_adamw_: Callable[..., Tensor]
    piece: int
    room: int
    largest: Callable[[Tensor, Sequence[int]], list[int]] | None = None
    squared_norms_of: Callable[..., Tensor] | None = None
    masked_adamw_of_: Callable[..., Tensor] | None = None
    sample_of: Callable[[EndedPhase, Tensor, int], Tensor] | None = None
    weigh_around_of_: Callable[[EndedPhase, Band, Aside, Tensor], tuple[Tensor, Tensor]] | None = (
        None
    )
    around_of: Callable[[Sequence[Tensor], Pieces, Band, Aside, Tensor], Tensor] | None = None
    copy_of_: Callable[[Sequence[Tensor], Sequence[Tensor], Pieces], None] | None = None


def weigh_(
    start_N: Float32[Tensor, " N"],
    end_N: Float32[Tensor, " N"],
    history_N: Float32[Tensor, " N"] | None,
    carried_P: UInt8[Tensor, " P"] | None,
    *,
    decay: float,
) -> Float64[Tensor, " 2"]:
    """Turn values at an RL phase's start into their importance, in place.

    Args:
        start_N: values when the phase began; then importance, as `decayed_importance` has it.
        end_N: values when it ended.
        history_N: importance at the end of the phase before; None when there was none.
        carried_P: the entries of which it is carried over, packed; on all others it counts as 0.
        decay: weight of the history.

    Returns:
        How many entries changed, and the squared norm of the change (see `squared_norm`).
    """
    change_N = end_N - start_N
    if history_N is not None and carried_P is not None:
        history_N = history_N * unpack_bits(carried_P, history_N.numel())
    start_N.copy_(decayed_importance(change_N, history_N, decay=decay))
    return torch.stack([change_N.count_nonzero().double(), squared_norm(change_N)])


def around(
    keys_N: Int32[Tensor, " N"],
    importance_N: Float32[Tensor, " N"],
    band: Band,
    aside: Aside,
    place: int,
    above_P: UInt8[Tensor, " P"],
    counts_3: Int64[Tensor, " 3"],
) -> None:
    """Count keys around a band, set those inside aside, and look whether importance is proper.

    Nothing waits for an accelerator but what sets keys aside.

    Args:
        keys_N: keys of the entries, at least one.
        importance_N: their importance.
        band: the band.
        aside: gets the keys inside with their places, as long as there is room.
        place: place of the first entry.
        above_P: gets one bit an entry, set where its key is above the band; spare bits are zero.
        counts_3: gets how many keys lie above the band, and in it, and above 0 if some importance
            is negative or not finite. Zeros before.
    """
    above_N = keys_N > band.high
    inside_N = (keys_N >= band.low) & ~above_N
    above_P.copy_(pack_bits(above_N))
    least, most = float_bits(importance_N).aminmax()
    improper = (least < 0) | (most >= INFINITY_BITS)
    torch.stack([above_N.sum(), inside_N.sum(), improper.long()], out=counts_3)
    if not aside.full():
        at_K = inside_N.nonzero().squeeze(1)
        aside.add(placed(keys_N[at_K], at_K.add_(place)))


def set_bits(
    packed_P: UInt8[Tensor, " P"], placed_K: Int64[Tensor, " K"], first: int, last: int
) -> None:
    """Set the bits at the places of those placed keys that are from `first` to `last`.

    Their places are all different, and the bits there not yet set. The memory of the packed mask is
    whole words of 4 bytes.
    """
    for part_K in torch.split(placed_K, _AT_ONCE):
        place_K = places(part_K[(part_K >= first) & (part_K <= last)].to(packed_P.device))
        packed_P.index_add_(0, place_K >> 3, (1 << (place_K & 7)).to(torch.uint8))


def ties_by_block(
    keys_N: Int32[Tensor, " N"], key: int, *, at: int, size: int, blocks: int
) -> Int64[Tensor, " B"]:
    """Count keys that equal `key` by blocks of `size` entries; the first key lies `at` so many."""
    place_K = (keys_N == key).nonzero().squeeze(1) + at
    return torch.bincount(place_K // size, minlength=blocks)


def histogram(
    keys_N: Int32[Tensor, " N"], first: int, last: int, low: int, counts_B: Int64[Tensor, " B"]
) -> None:
    """Add to the counts of bins, of so many low bits each, the keys from `first` to `last`."""
    inside_K = keys_N[(keys_N >= first) & (keys_N <= last)]
    counts_B += torch.bincount((inside_K - first) >> low, minlength=counts_B.numel())


def pack(keys_N: Int32[Tensor, " N"], key: int, ties: int, out_P: UInt8[Tensor, " P"]) -> None:
    """One bit an entry: keys above `key`, and among the first `ties` those equal to it.

    Spare bits are zero. `key` is at least 1.
    """
    mask_N = keys_N > key
    mask_N[:ties] |= keys_N[:ties] == key
    out_P.copy_(pack_bits(mask_N))


def overlap(one_P: UInt8[Tensor, " P"], other_P: UInt8[Tensor, " P"]) -> Int64[Tensor, " 2"]:
    """How many bits are set in both, and in either."""
    return torch.tensor([count_bits(one_P & other_P), count_bits(one_P | other_P)])


def one_by_one(work: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """Call `work` on each item."""
    return [work(item) for item in items]


TORCH = Passes(
    each=one_by_one,
    weigh_=weigh_,
    around=around,
    by_bounds=by_bounds,
    set_bits=set_bits,
    ties_by_block=ties_by_block,
    histogram=histogram,
    pack=pack,
    overlap=overlap,
    squared_norms=squared_norms,
    masked_adamw_=masked_adamw_,
    piece=1 << 20,
    room=1 << 21,
)
"""torch's operations, for accelerators, where each costs a launch; and what others must equal."""
