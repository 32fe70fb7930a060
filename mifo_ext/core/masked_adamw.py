"""One AdamW step in which some entries are held still.

Under AdamW a zero gradient does not hold an entry: its momentum and the weight decay go on moving
it. `exact` puts value and moments of held entries back bit for bit; `gradient_mask` is the
paper's literal rule, kept for comparison.

Dimensions:
    N  consecutive entries of one parameter
    P  bytes that pack a mask of N entries, ceil(N / 8)
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Bool, Float32, Float64, UInt8
from torch import Tensor
from torch.optim.adamw import adamw

from mifo_ext.core.adamw import AdamWSettings, Moments
from mifo_ext.core.packed_bits import unpack_bits

MODES = ("exact", "gradient_mask")


def squared_norms(
    gradient_N: Float32[Tensor, " N"], held: Bool[Tensor, " N"] | UInt8[Tensor, " P"] | None
) -> Float64[Tensor, " 2"]:
    """The squared norms of a gradient over live and over held entries.

    Taken in float64, where no finite float32 gradient overflows: the sum is not finite exactly
    when some entry is not.

    Args:
        gradient_N: the gradient.
        held: True on held entries, maybe packed by `pack_bits`; None when all are live.

    Returns:
        Squared norm over live entries, squared norm over held entries.
    """
    norm = torch.linalg.vector_norm
    if held is None:
        live = norm(gradient_N, dtype=torch.float64) ** 2
        return torch.stack([live, torch.zeros_like(live)])
    held_N = _unpacked(held, gradient_N.numel())
    live = norm(gradient_N.masked_fill(held_N, 0), dtype=torch.float64) ** 2
    held_norm = norm(gradient_N.masked_fill(~held_N, 0), dtype=torch.float64) ** 2
    return torch.stack([live, held_norm])


def clip_scale(norm: float, limit: float | None) -> float:
    """What a gradient of this norm is multiplied with to keep to the limit, as torch clips.

    Args:
        norm: the gradient's norm.
        limit: the largest norm allowed, above 0; None never clips.
    """
    return 1.0 if limit is None else min(1.0, limit / (norm + 1e-6))


def masked_adamw_(
    weight_N: Float32[Tensor, " N"],
    gradient_N: Float32[Tensor, " N"],
    moments: Moments,
    *,
    held: Bool[Tensor, " N"] | UInt8[Tensor, " P"] | None,
    step: int,
    lr: float,
    settings: AdamWSettings,
    gradient_scale: float = 1.0,
    mode: str = "exact",
) -> Float64[Tensor, ""]:
    """Take one AdamW step on the live entries, in place.

    Live entries get bit for bit what torch's AdamW gives them in the implementation it chooses for
    the device itself; its `fused` one rounds otherwise. In mode `exact` held entries and
    their moments keep every bit; in mode `gradient_mask` held entries get a zero gradient and are
    otherwise treated like all others. Temporary memory: about 7 times `weight_N`.

    Args:
        weight_N: values, updated in place.
        gradient_N: gradient before clipping; not changed.
        moments: AdamW's moments, updated in place.
        held: True on held entries, maybe packed by `pack_bits`; None when all are live.
        step: number of this update, counted from 1, for AdamW's bias correction.
        lr: learning rate.
        settings: the other constants of AdamW.
        gradient_scale: factor on the gradient, from `clip_scale`.
        mode: a word of `MODES`.

    Returns:
        The squared norm of the change of `weight_N`.

    Raises:
        ValueError: if `mode` is unknown.
    """
    check_mode(mode)
    held_N = None if held is None else _unpacked(held, weight_N.numel())
    if gradient_scale != 1.0:
        gradient_N = gradient_N * gradient_scale
    if held_N is not None and mode == "gradient_mask":
        gradient_N, held_N = gradient_N.masked_fill(held_N, 0), None
    update = partial(_adamw_, step=step, lr=lr, settings=settings)
    return _restored_(weight_N, gradient_N, moments, held_N=held_N, update=update)


def check_mode(mode: str) -> None:
    """Refuse an unknown mode."""
    if mode not in MODES:
        raise ValueError(f"`mode` must be one of {', '.join(MODES)}, but is {mode!r}.")


def _restored_(
    weight_N: Tensor,
    gradient_N: Tensor,
    moments: Moments,
    *,
    held_N: Tensor | None,
    update: Callable[[Tensor, Tensor, Moments], None],
) -> Tensor:
    """Update everything, and put held entries back; the squared norm of the change."""
    before_N = weight_N.clone()
    if held_N is None:
        update(weight_N, gradient_N, moments)
    else:
        kept = [(weight_N, before_N), *((value_N, value_N.clone()) for value_N in moments)]
        update(weight_N, gradient_N, moments)
        for value_N, kept_N in kept:
            torch.where(held_N, kept_N, value_N, out=value_N)
    change: Tensor = torch.linalg.vector_norm(before_N.sub_(weight_N), dtype=torch.float64)
    return change**2


def _unpacked(held: Tensor, count: int) -> Tensor:
    return held if held.dtype == torch.bool else unpack_bits(held, count)


def _adamw_(
    weight_N: Tensor,
    gradient_N: Tensor,
    moments: Moments,
    *,
    step: int,
    lr: float,
    settings: AdamWSettings,
) -> None:
    """Let torch update everything, by the implementation it chooses for this device itself."""
    adamw(
        [weight_N],
        [gradient_N],
        [moments.exp_avg],
        [moments.exp_avg_sq],
        [],
        # torch counts a step before it uses the counter.
        [torch.tensor(float(step - 1))],
        amsgrad=False,
        beta1=settings.betas[0],
        beta2=settings.betas[1],
        lr=lr,
        weight_decay=settings.weight_decay,
        eps=settings.eps,
        maximize=False,
    )
