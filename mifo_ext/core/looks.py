"""What a look at all of a model's entries finds, and what a caller may do in its place.

Dimensions:
    P  bytes of this rank's packed mask
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from mifo_ext.core.kth_largest import Band
from mifo_ext.core.placed_keys import Aside


class Around(NamedTuple):
    """What one pass finds around a band of keys.

    Attributes:
        band: the band.
        above: keys above the band, over all ranks.
        inside: keys in the band, over all ranks.
        mask: this rank's mask of keys above the band, packed (P): chunk after chunk, each
            in whole bytes.
        aside: this rank's keys in the band with their places in the mask; None when some rank
            had too many, or the band is one key that might have too many.
        by_chunk: how many keys in the band each of this rank's chunks has.
    """

    band: Band
    above: int
    inside: int
    mask: Tensor
    aside: Tensor | None
    by_chunk: list[int]


class FirstLook(NamedTuple):
    """How a caller that has more to do with all entries looks at them the first time.

    Attributes:
        sample: gives what `write_sample` writes of `Chunk.every` for `sample_stride`, of all of
            this rank's chunks, in any order; it may be overwritten. Called once, before `around`.
        around: does to all of them what `Passes.around` does to a piece, from a band, the keys set
            aside and the packed mask; by chunk the three counts. Called once. None does it as
            usual.
    """

    sample: Callable[[], Tensor]
    around: Callable[[Band, Aside, Tensor], Tensor] | None = None
