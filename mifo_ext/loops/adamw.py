"""The masked AdamW step and its norms, as loops.

Relies on: torch's own AdamW for processors (`torch.optim.adam._single_tensor_adam`) takes the
operations of `_step` in this order, each rounded once, and `torch.lerp` the two of its own as one
where the processor can.

Dimensions:
    N  consecutive entries of one parameter
    P  bytes that pack a mask of N entries, ceil(N / 8)
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Float64, UInt8
from torch import Tensor

from mifo_ext.core.adamw import AdamWSettings, Moments
from mifo_ext.core.masked_adamw import check_mode
from mifo_ext.loops.compiled import BLOCK, compiled, fused_multiply_add, unpack_block

_NOTHING_HELD = np.zeros(0, dtype=np.uint8)


_ONE, _OTHER = torch.linspace(0.1, 0.9, 64), torch.linspace(7.0, 3.0, 64)
# Whether torch rounds these once on this processor, product and sum together.
_LERP_IS_FUSED = not torch.equal(torch.lerp(_ONE, _OTHER, 0.1), _ONE + (_OTHER - _ONE) * 0.1)
_ADDCMUL_IS_FUSED = not torch.equal(
    torch.addcmul(_ONE, _OTHER, _OTHER, value=0.1), _ONE + (_OTHER * 0.1) * _OTHER
)


@compiled()
def _square_block(gradient, marks, live_sums, held_sums):  # type: ignore[no-untyped-def]
    zero = live_sums.dtype.type(0)
    for i in range(gradient.size):
        value = live_sums.dtype.type(gradient[i])
        square = value * value
        live_sums[i] += zero if marks[i] else square
        held_sums[i] += square if marks[i] else zero


@compiled()
def _squared_norms(gradient, held, live_sums, held_sums):  # type: ignore[no-untyped-def]
    words = np.zeros(BLOCK // 8, dtype=np.uint64)
    marks = words.view(np.uint8)
    for start in range(0, gradient.size, BLOCK):
        part = gradient[start : start + BLOCK]
        if held.size:
            unpack_block(held, start, words)
        _square_block(part, marks, live_sums, held_sums)


@compiled("UniTuple(float64, 2)(float32[::1], uint8[::1])")
def _both_squared_norms(gradient, held):  # type: ignore[no-untyped-def]
    live, held_32 = np.zeros(BLOCK, dtype=np.float32), np.zeros(BLOCK, dtype=np.float32)
    _squared_norms(gradient, held, live, held_32)
    sums = live.astype(np.float64).sum(), held_32.astype(np.float64).sum()
    if math.isfinite(sums[0] + sums[1]):
        return sums
    wide, held_wide = np.zeros(BLOCK, dtype=np.float64), np.zeros(BLOCK, dtype=np.float64)
    _squared_norms(gradient, held, wide, held_wide)  # No finite number overflows here.
    return wide.sum(), held_wide.sum()


@compiled()
def _step_block(  # type: ignore[no-untyped-def]
    weight, gradient, first, second, marks, changes, exact,
    scale, shrink, blend, from_first, decay, grow, root, eps, stride,
):  # fmt: skip
    zero = np.float32(0)
    for i in range(weight.size):
        held, w, m, v = marks[i] != 0, weight[i], first[i], second[i]
        g = zero if held and not exact else gradient[i] * scale
        near = m if from_first else g
        away, part, old = g - m, grow * g, v * decay
        new_m = fused_multiply_add(blend, away, near) if _LERP_IS_FUSED else near + blend * away
        new_v = fused_multiply_add(part, g, old) if _ADDCMUL_IS_FUSED else old + part * g
        new_w = w * shrink + (stride * new_m) / (math.sqrt(new_v) / root + eps)
        kept = held and exact
        new_w = w if kept else new_w
        weight[i], first[i], second[i] = new_w, m if kept else new_m, v if kept else new_v
        changes[i] += (new_w - w) * (new_w - w)


@compiled(
    "float64(float32[::1], float32[::1], float32[::1], float32[::1], uint8[::1], boolean,"
    " float32, float32, float32, boolean, float32, float32, float32, float32, float32)"
)
def _step(  # type: ignore[no-untyped-def]
    weight, gradient, first, second, held, exact,
    scale, shrink, blend, from_first, decay, grow, root, eps, stride,
):  # fmt: skip
    changes = np.zeros(BLOCK, dtype=np.float32)
    words = np.zeros(BLOCK // 8, dtype=np.uint64)
    marks = words.view(np.uint8)
    for start in range(0, weight.size, BLOCK):
        if held.size:
            unpack_block(held, start, words)
        stop = min(start + BLOCK, weight.size)
        _step_block(
            weight[start:stop], gradient[start:stop], first[start:stop], second[start:stop],
            marks[: stop - start], changes[: stop - start], exact,
            scale, shrink, blend, from_first, decay, grow, root, eps, stride,
        )  # fmt: skip
    return changes.astype(np.float64).sum()


def squared_norms(
    gradient_N: Float32[Tensor, " N"], held: UInt8[Tensor, " P"] | None
) -> Float64[Tensor, " 2"]:
    """Squared norms over live and over held entries; see `core.masked_adamw.squared_norms`.

    To one part in 100,000; entries below 1e-22 may count as zero.
    """
    norms = _both_squared_norms(gradient_N.contiguous().numpy(), _packed(held))
    return torch.tensor(norms, dtype=torch.float64)


def masked_adamw_(
    weight_N: Float32[Tensor, " N"],
    gradient_N: Float32[Tensor, " N"],
    moments: Moments,
    *,
    held: UInt8[Tensor, " P"] | None,
    step: int,
    lr: float,
    settings: AdamWSettings,
    gradient_scale: float = 1.0,
    mode: str = "exact",
) -> Float64[Tensor, ""]:
    """Take one AdamW step on the live entries, in place; see `core.masked_adamw.masked_adamw_`.

    Moments have the bits that torch gives them. Weights differ from torch's by the roundings of an
    exact square root, which torch's own is not on every processor: by two parts in a million of
    the update, and the last bit. No temporary memory.

    Returns:
        The squared norm of the change, to one part in 100,000; changes below 1e-22 may count as
        zero.
    """
    check_mode(mode)
    first, second = settings.betas
    change = _step(
        weight_N.numpy(),
        gradient_N.contiguous().numpy(),
        moments.exp_avg.numpy(),
        moments.exp_avg_sq.numpy(),
        _packed(held),
        mode == "exact",
        gradient_scale,
        1 - lr * settings.weight_decay,
        # As torch's lerp: from the nearer of both ends.
        *((1 - first, True) if 1 - first < 0.5 else (-first, False)),
        second,
        1 - second,
        (1 - second**step) ** 0.5,
        settings.eps,
        -lr / (1 - first**step),
    )
    return torch.tensor(change, dtype=torch.float64)


def _packed(held: Tensor | None) -> Any:
    return _NOTHING_HELD if held is None else held.numpy()
