"""What is done to all of a model by loops over blocks of its entries.

Dimensions:
    N  entries of a tensor
    Q  pieces
    K  sampled entries
    P  bytes that pack the entries of all pieces
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int32, Int64, UInt8
from torch import Tensor

from mifo_ext.core.adamw import AdamWSettings, Moments
from mifo_ext.core.importance import INFINITY_BITS, check_decay
from mifo_ext.core.kth_largest import Band
from mifo_ext.core.masked_adamw import check_mode
from mifo_ext.core.passes import EndedPhase
from mifo_ext.core.pieces import Pieces
from mifo_ext.core.placed_keys import Aside
from mifo_ext.loops import block_kernels
from mifo_ext.loops.blocks import blocks_of, by_all_threads, table_of


def sample_of(phase: EndedPhase, start_Q: Int64[Tensor, " Q"], stride: int) -> Int32[Tensor, " K"]:
    """Keys by importance of a sample; see `core.passes.Passes`.

    Args:
        phase: the phase; importance is not written.
        start_Q: each piece's first index in its parameter; an index that is a multiple of the
            stride is in the sample.
        stride: distance of neighbours.
    """
    first_Q = -start_Q % stride
    ends_Q = torch.clamp(-(-(phase.pieces.length - first_Q) // stride), min=0).cumsum(0)
    begin_Q = torch.cat([ends_Q.new_zeros(1), ends_Q[:-1]])
    key_K = torch.empty(int(ends_Q[-1]), dtype=torch.int32)
    lies = torch.stack([first_Q, begin_Q], 1).numpy()
    table, shares = _phase_table(phase), _shares(phase)
    by_all_threads(block_kernels.sample, table, shares, stride, lies, key_K.numpy())
    return key_K


def weigh_around_of_(
    phase: EndedPhase, band: Band, aside: Aside, above_P: UInt8[Tensor, " P"]
) -> tuple[Int64[Tensor, "Q 3"], Float64[Tensor, " 2"]]:
    """Turn a phase's start into importance and count around a band; see `core.passes.Passes`."""
    table = _phase_table(phase, above_P)
    counts, totals = _zeros(table, 3, np.int64), _zeros(table, 2, np.float64)
    around = _around(band, aside)
    by_all_threads(block_kernels.weigh_around, table, _shares(phase), *around, counts, totals)
    return _by_piece(table, counts), torch.from_numpy(totals.sum(0))


def around_of(
    importances: Sequence[Float32[Tensor, " N"]],
    pieces: Pieces,
    band: Band,
    aside: Aside,
    above_P: UInt8[Tensor, " P"],
) -> Int64[Tensor, "Q 3"]:
    """Count keys by importance around a band; see `core.passes.Passes`."""
    table = table_of(pieces, [above_P], (importances, pieces))
    counts = _zeros(table, 3, np.int64)
    by_all_threads(block_kernels.around, table, *_around(band, aside), counts)
    return _by_piece(table, counts)


def copy_of_(
    targets: Sequence[Float32[Tensor, " N"]],
    sources: Sequence[Float32[Tensor, " N"]],
    pieces: Pieces,
) -> None:
    """Copy sources to targets; each is one piece."""
    table = table_of(pieces, [], (targets, pieces), (sources, pieces))
    aligned = all(target.data_ptr() % 64 == 0 for target in targets)
    by_all_threads(block_kernels.copy, table, aligned)


def squared_norms_of(
    gradients: Sequence[Float32[Tensor, " N"]], held: UInt8[Tensor, " P"] | None, pieces: Pieces
) -> Float64[Tensor, " 2"]:
    """Squared norms over live and over held entries of all pieces.

    To one part in 100,000; entries below 1e-22 may count as zero.

    Args:
        gradients: flat tensors in which the pieces lie.
        held: the mask in which they have their places, packed; None when all are live.
        pieces: the pieces.
    """
    table = table_of(pieces, [held], (gradients, pieces))
    totals = _zeros(table, 2, np.float64)
    by_all_threads(block_kernels.squared_norms, table, totals)
    return torch.from_numpy(totals.sum(0))


def masked_adamw_of_(
    weights: Sequence[Float32[Tensor, " N"]],
    gradients: Sequence[Float32[Tensor, " N"]],
    moments: Sequence[Moments],
    held: UInt8[Tensor, " P"] | None,
    pieces: Pieces,
    *,
    moments_at: Pieces,
    steps: Sequence[int],
    lr: float,
    settings: AdamWSettings,
    gradient_scale: float = 1.0,
    mode: str = "exact",
) -> Float64[Tensor, ""]:
    """Take one AdamW step on all pieces' live entries, in place.

    See `core.masked_adamw.masked_adamw_` and `core.passes.Passes`. Moments have the bits that torch
    gives them, on every processor with AVX2 or NEON. Weights differ from torch's by rounding, for
    torch's square root is not exact everywhere, and here bias is corrected in the constants, which
    saves a division an entry: by two parts in a million of the update, and the last bit. No
    temporary memory.

    Returns:
        The squared norm of the change, to one part in 100,000; changes below 1e-22 may count as
        zero.
    """
    check_mode(mode)
    table = table_of(
        pieces, [held], (weights, pieces), (gradients, pieces),
        ([m.exp_avg for m in moments], moments_at), ([m.exp_avg_sq for m in moments], moments_at),
    )  # fmt: skip
    first, second = settings.betas
    step_Q = np.asarray(steps, dtype=np.float64)[pieces.tensor.numpy()]
    root_Q = (1 - second**step_Q) ** 0.5
    # As torch's lerp: from the nearer of both ends.
    from_first = 1 - first < 0.5
    numbers = np.empty((step_Q.size, 7), dtype=np.float32)
    numbers[:, :5] = (
        gradient_scale,
        1 - lr * settings.weight_decay,
        1 - first if from_first else -first,
        second,
        1 - second,
    )
    numbers[:, 5], numbers[:, 6] = settings.eps * root_Q, -lr * root_Q / (1 - first**step_Q)
    totals = _zeros(table, 1, np.float64)[:, 0]
    exact = mode == "exact"
    by_all_threads(block_kernels.step, table, exact, from_first, numbers, totals)
    return torch.tensor(totals.sum())


def _phase_table(phase: EndedPhase, *masks: Tensor) -> np.ndarray:
    history = phase.histories if phase.carries else None
    lists = (phase.starts, phase.ends, phase.ends if history is None else history)
    carried = None if history is None else phase.carried
    at = phase.pieces
    return table_of(at, [carried, *masks], *((values, at) for values in lists))


def _shares(phase: EndedPhase) -> tuple[np.float32, np.float32]:
    """Of what is new, and of the history."""
    check_decay(phase.decay)
    return np.float32(1 - phase.decay), np.float32(phase.decay)


def _around(band: Band, aside: Aside) -> tuple[tuple[np.int32, ...], np.ndarray, np.ndarray]:
    bounds = tuple(map(np.int32, (*band, INFINITY_BITS)))
    return bounds, aside.placed_K.numpy(), aside.used.numpy()


def _zeros(table: np.ndarray, number: int, kind: type) -> np.ndarray:
    """So many for every block."""
    return np.zeros((blocks_of(table) * table.shape[1], number), dtype=kind)


def _by_piece(table: np.ndarray, counts: np.ndarray) -> Int64[Tensor, "Q 3"]:
    return torch.from_numpy(counts.reshape(table.shape[1], -1, counts.shape[1]).sum(1))
