"""The masked AdamW step as loops: held bits stay, live entries follow torch."""

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mifo_ext.core.adamw import AdamWSettings, Moments
from mifo_ext.core.packed_bits import pack_bits
from mifo_ext.core.passes import TORCH, Passes
from mifo_ext.loops import LOOPS
from mifo_ext.loops.kernels import BLOCK

LR = 0.01
BOTH = pytest.mark.parametrize("passes", [TORCH, LOOPS], ids=["torch", "loops"])
# Bits that arithmetic would not keep: signed zeros, infinities, denormals, NaNs with a payload.
DELICATE = torch.tensor(
    [0, -(1 << 31), 0x7F800000, -0x800000, 1, -(1 << 31) + 1, 0x7FC01234, 0x7F801234, -1],
    dtype=torch.int32,
)


def random(*shape: int, seed: int) -> Tensor:
    """Numbers over many orders of magnitude."""
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.randint(-12, 4, shape, generator=generator)
    return torch.randn(*shape, generator=generator) * 10.0**sizes


def same_bits(one: Tensor, other: Tensor) -> bool:
    return torch.equal(one.view(torch.int32), other.view(torch.int32))


def torch_adamw(weight: Tensor, gradients: Tensor, constants: AdamWSettings) -> tuple[Tensor, ...]:
    """Weight and moments that torch's own AdamW makes, all entries free."""
    parameter = torch.nn.Parameter(weight.clone())
    optimizer = torch.optim.AdamW(
        [parameter],
        lr=LR,
        betas=constants.betas,
        eps=constants.eps,
        weight_decay=constants.weight_decay,
    )
    for gradient in gradients:
        parameter.grad = gradient.clone()
        optimizer.step()
    state = optimizer.state[parameter]
    return parameter.detach(), state["exp_avg"], state["exp_avg_sq"]


def step(passes: Passes, values: tuple[Tensor, ...], gradient: Tensor, **options: object) -> Tensor:
    weight, first, second = values
    moments = Moments(first, second)
    return passes.masked_adamw_(weight, gradient, moments, lr=LR, **options)


def follow_torch(passes: Passes, values: Sequence[Tensor], torchs: Sequence[Tensor]) -> None:
    """Moments have torch's bits; weights, too, or but for the rounding of a square root."""
    (weight, first, second), (free, *free_moments) = values, torchs
    assert same_bits(first, free_moments[0])
    assert same_bits(second, free_moments[1])
    if passes is TORCH:
        assert same_bits(weight, free)
    else:
        # Four steps of at most 10 times the learning rate each, to 2e-6; and their last bits.
        bound = 2e-6 * 40 * LR + 4 * 2.0**-23 * free.abs()
        assert bool(((weight - free).abs() <= bound).all())


def lengths(low: int) -> st.SearchStrategy[int]:
    """Short ones, and those around one and two blocks of a loop."""
    around = [BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 13]
    return st.integers(low, 100) | st.sampled_from(around)


constants_of_adamw = st.builds(
    AdamWSettings,
    betas=st.sampled_from([(0.9, 0.999), (0.3, 0.5), (0.0, 0.0), (0.8, 0.95)]),
    eps=st.sampled_from([1e-8, 1e-6]),
    weight_decay=st.sampled_from([0.0, 0.01, 0.5]),
)


@BOTH
@settings(deadline=None)
@given(
    count=lengths(1),
    steps=st.integers(1, 4),
    seed=st.integers(0, 10**6),
    scale=st.sampled_from([1.0, 0.37]),
    constants=constants_of_adamw,
)
def test_held_entries_keep_every_bit_and_live_ones_follow_torch(
    passes: Passes, count: int, steps: int, seed: int, scale: float, constants: AdamWSettings
) -> None:
    weight, gradients = random(count, seed=seed), random(steps, count, seed=seed + 1)
    held = random(count, seed=seed + 2) > 0
    values = (weight.clone(), torch.zeros(count), torch.zeros(count))
    # Held entries go their own way in the reference, so delicate bits there do no harm.
    for i, value in enumerate(values):
        picked = DELICATE[(torch.arange(count) * 5 + seed + i) % len(DELICATE)]
        value.view(torch.int32)[held] = picked[held]
    before, kept = [v.clone() for v in values], gradients.clone()

    for number, gradient in enumerate(gradients, start=1):
        step(
            passes,
            values,
            gradient,
            held=pack_bits(held),
            step=number,
            settings=constants,
            gradient_scale=scale,
        )

    scaled = gradients if scale == 1.0 else gradients * scale
    free = torch_adamw(weight, scaled, constants)
    assert all(same_bits(now[held], then[held]) for now, then in zip(values, before, strict=True))
    follow_torch(passes, [v[~held] for v in values], [v[~held] for v in free])
    assert torch.equal(gradients, kept)


@BOTH
@settings(deadline=None)
@given(count=lengths(1), seed=st.integers(0, 10**6), masked=st.booleans())
def test_all_free_and_masked_gradients_follow_torch_too(
    passes: Passes, count: int, seed: int, masked: bool
) -> None:
    weight, gradients = random(count, seed=seed), random(3, count, seed=seed + 1)
    held = random(count, seed=seed + 2) > 0
    values = (weight.clone(), torch.zeros(count), torch.zeros(count))
    mode, mask = ("gradient_mask", pack_bits(held)) if masked else ("exact", None)

    for number, gradient in enumerate(gradients, start=1):
        step(passes, values, gradient, held=mask, step=number, settings=AdamWSettings(), mode=mode)

    seen = gradients.masked_fill(held, 0) if masked else gradients
    follow_torch(passes, values, torch_adamw(weight, seen, AdamWSettings()))


def test_an_entry_has_the_same_bits_wherever_it_lies() -> None:
    count = 2 * BLOCK + 13
    weight, gradient = random(count, seed=1), random(count, seed=2)
    held = random(count, seed=3) > 0

    def stepped(first: int) -> Tensor:
        values = (weight[first:].clone(), *torch.zeros(2, count - first))
        step(
            LOOPS,
            values,
            gradient[first:],
            held=pack_bits(held[first:]),
            step=1,
            settings=AdamWSettings(),
        )
        return values[0]

    whole = stepped(0)
    assert all(same_bits(stepped(first), whole[first:]) for first in range(1, 40))


@BOTH
@settings(deadline=None)
@given(count=lengths(0), seed=st.integers(0, 10**6), masked=st.booleans())
def test_norms_and_change_are_those_of_the_whole(
    passes: Passes, count: int, seed: int, masked: bool
) -> None:
    gradient, held = random(count, seed=seed), random(count, seed=seed + 1) > 0
    held &= masked
    weight = random(count, seed=seed + 2)
    values = (weight.clone(), torch.zeros(count), torch.zeros(count))
    mask = pack_bits(held) if masked else None

    norms = passes.squared_norms(gradient, mask)
    change = step(passes, values, gradient, held=mask, step=1, settings=AdamWSettings())

    exact, precision = gradient.double() ** 2, 1e-12 if passes is TORCH else 1e-5
    assert norms.tolist() == pytest.approx(
        [exact[~held].sum().item(), exact[held].sum().item()], rel=precision
    )
    difference = (values[0] - weight).double()
    assert change.item() == pytest.approx((difference**2).sum().item(), rel=precision)


@BOTH
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_an_entry_that_is_not_finite_is_found_wherever_it_lies(passes: Passes, bad: float) -> None:
    held = torch.arange(53) % 3 == 0
    for position in range(53):
        gradient = torch.ones(53)
        gradient[position] = bad
        live, of_held = passes.squared_norms(gradient, pack_bits(held)).isfinite().tolist()
        assert [live, of_held] == [bool(held[position]), not held[position]]


@BOTH
def test_norms_of_huge_finite_gradients_are_finite(passes: Passes) -> None:
    norms = passes.squared_norms(torch.full((2 * BLOCK,), 3e38), None)
    assert norms.tolist() == pytest.approx([2 * BLOCK * 9e76, 0], rel=1e-6)


@BOTH
def test_an_unknown_mode_is_refused(passes: Passes) -> None:
    values = (torch.ones(1), torch.zeros(1), torch.zeros(1))
    with pytest.raises(ValueError, match="one of exact, gradient_mask, but is 'soft'"):
        step(
            passes, values, torch.ones(1), held=None, step=1, settings=AdamWSettings(), mode="soft"
        )


@BOTH
@pytest.mark.parametrize("mode", ["exact", "gradient_mask"])
def test_what_fills_the_last_of_a_loop_is_no_entry(passes: Passes, mode: str) -> None:
    values = (torch.ones(65), torch.zeros(65), torch.zeros(65))
    held = pack_bits(torch.zeros(65, dtype=torch.bool))
    bare = AdamWSettings(eps=1e-50, weight_decay=0.0)  # In float32 zero: 0 by 0 is NaN.
    change = step(passes, values, torch.ones(65), held=held, step=1, settings=bare, mode=mode)
    assert change.item() == pytest.approx(65 * LR**2, rel=1e-2)
