"""What is done to all of a model in one launch on a GPU.

Tensors may lie in page-locked host memory, where kernels read and write them over the link.

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
import triton
from jaxtyping import Float32, Float64, Int32, Int64, UInt8
from torch import Tensor

from mifo_ext.core.adamw import AdamWSettings, Moments
from mifo_ext.core.importance import check_decay
from mifo_ext.core.kth_largest import Band
from mifo_ext.core.masked_adamw import check_mode
from mifo_ext.core.passes import EndedPhase
from mifo_ext.core.pieces import Pieces
from mifo_ext.core.placed_keys import Aside
from mifo_ext.gpu import kernels, step_kernels
from mifo_ext.gpu.table import AS_WRITTEN, BLOCK, Table


def sample_of(phase: EndedPhase, start_Q: Int64[Tensor, " Q"], stride: int) -> Int32[Tensor, " K"]:
    """Keys by importance of a sample; see `core.passes.Passes`.

    Args:
        phase: the phase; importance is not written.
        start_Q: each piece's first index in its parameter; an index that is a multiple of the
            stride is in the sample.
        stride: distance of neighbours.
    """
    table, history = _table(phase)
    first_Q = -start_Q % stride
    count_Q = torch.clamp(-(-(phase.pieces.length - first_Q) // stride), min=0)
    ends_Q = count_Q.cumsum(0)
    key_K = torch.empty(int(ends_Q[-1]), dtype=torch.int32, device=phase.device)
    firsts, outs = table.to_device(torch.stack([first_Q, ends_Q - count_Q]))
    blocks = max(1, triton.cdiv(int(count_Q.max()), BLOCK))
    kernels.sample[(count_Q.numel() * blocks,)](
        *table.addresses, table.masks[0], table.lengths, firsts, outs, blocks, key_K, stride,
        1 - phase.decay, phase.decay, HISTORY=history, BLOCK=BLOCK, **AS_WRITTEN,
    )  # fmt: skip
    return key_K


def weigh_around_of_(
    phase: EndedPhase, band: Band, aside: Aside, above_P: UInt8[Tensor, " P"]
) -> tuple[Int64[Tensor, "Q 3"], Float64[Tensor, " 2"]]:
    """Turn a phase's start into importance and count around a band; see `core.passes.Passes`."""
    table, history = _table(phase, above_P)
    counts_Q3 = torch.zeros(len(phase.starts), 3, dtype=torch.int64, device=phase.device)
    totals = table.totals(2)
    kernels.weigh_around[table.grid](
        *table.addresses, *table.masks, table.lengths, table.places, table.blocks, totals,
        aside.placed_K, aside.used, counts_Q3, 1 - phase.decay, phase.decay, band.low, band.high,
        aside.room, HISTORY=history, ALIGNED=table.aligned, BLOCK=BLOCK, **AS_WRITTEN,
    )  # fmt: skip
    return counts_Q3, totals.sum(0)


def copy_of_(
    targets: Sequence[Float32[Tensor, " N"]],
    sources: Sequence[Float32[Tensor, " N"]],
    pieces: Pieces,
) -> None:
    """Copy sources that lie on the device to targets; each is one piece."""
    table = Table(sources[0].device, pieces, [], (sources, pieces), (targets, pieces))
    kernels.copy[table.grid](
        *table.addresses, table.lengths, table.blocks, ALIGNED=table.aligned, BLOCK=BLOCK
    )  # fmt: skip


def squared_norms_of(
    gradients: Sequence[Float32[Tensor, " N"]], held: UInt8[Tensor, " P"] | None, pieces: Pieces
) -> Float64[Tensor, " 2"]:
    """Squared norms over live and over held entries of all pieces.

    Args:
        gradients: flat tensors in which the pieces lie.
        held: the mask in which they have their places, packed; None when all are live.
        pieces: the pieces.
    """
    table = Table(gradients[0].device, pieces, [held], (gradients, pieces))
    totals = table.totals(2)
    step_kernels.squared_norms[table.grid](
        *table.addresses, *table.masks, table.lengths, table.blocks, totals,
        HELD=held is not None, ALIGNED=table.aligned, BLOCK=BLOCK,
    )  # fmt: skip
    return totals.sum(0)


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

    See `core.masked_adamw.masked_adamw_` and `core.passes.Passes`. Moments and weights differ from
    those of torch's own AdamW for GPUs by less than two parts in a million of an update, and a last
    bit.

    Returns:
        The squared norm of the change.
    """
    check_mode(mode)
    first, second = settings.betas
    table = Table(
        weights[0].device, pieces, [held], (weights, pieces), (gradients, pieces),
        ([m.exp_avg for m in moments], moments_at), ([m.exp_avg_sq for m in moments], moments_at),
    )  # fmt: skip
    step_Q = np.asarray(steps, dtype=np.float64)[pieces.tensor.numpy()]
    roots = table.to_device((1 - second**step_Q) ** 0.5)
    strides = table.to_device(-lr / (1 - first**step_Q))
    totals = table.totals(1)
    # As torch's lerp: from the nearer of both ends.
    from_first = 1 - first < 0.5
    step_kernels.step[table.grid](
        *table.addresses, *table.masks, table.lengths, roots, strides, table.blocks, totals,
        gradient_scale, 1 - lr * settings.weight_decay, 1 - first if from_first else -first,
        second, 1 - second, settings.eps, FROM_FIRST=from_first, HELD=held is not None,
        EXACT=mode == "exact", ALIGNED=table.aligned, BLOCK=BLOCK, **AS_WRITTEN,
    )  # fmt: skip
    return totals.sum()


def _table(phase: EndedPhase, *masks: Tensor) -> tuple[Table, bool]:
    """The phase's, and whether its history counts."""
    check_decay(phase.decay)
    before = phase.starts
    if phase.carries and phase.histories is not None:
        before = phase.histories
    lists = ((values, phase.pieces) for values in (phase.starts, phase.ends, before))
    return Table(phase.device, phase.pieces, [phase.carried, *masks], *lists), phase.carries
