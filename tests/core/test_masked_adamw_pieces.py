"""The masked AdamW step on a processor: piece by piece, with masks of bits."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mifo_ext.core import masked_adamw_cpu
from mifo_ext.core.adamw import AdamWSettings, Moments
from mifo_ext.core.masked_adamw import masked_adamw_, squared_norms
from mifo_ext.core.masked_adamw_cpu import Scratch
from mifo_ext.core.packed_bits import pack_bits

LR = 0.01
# Bits that arithmetic would not keep: signed zeros, infinities, denormals, NaNs with a payload.
DELICATE = torch.tensor(
    [0, -(1 << 31), 0x7F800000, -0x800000, 1, -(1 << 31) + 1, 0x7FC01234, 0x7F801234, -1],
    dtype=torch.int32,
)


@pytest.fixture(autouse=True, scope="module", params=[8, 24])
def small_pieces(request: pytest.FixtureRequest) -> object:
    """Pieces of a few entries, so that many are cut and the last one is short."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(masked_adamw_cpu, "LARGEST_PIECE", request.param)
        yield


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


def step(values: tuple[Tensor, ...], gradient: Tensor, **options: object) -> Tensor:
    weight, first, second = values
    return masked_adamw_(weight, gradient, Moments(first, second), lr=LR, **options)  # type: ignore[arg-type]


constants_of_adamw = st.builds(
    AdamWSettings,
    betas=st.sampled_from([(0.9, 0.999), (0.3, 0.5), (0.0, 0.0), (0.8, 0.95)]),
    eps=st.sampled_from([1e-8, 1e-6]),
    weight_decay=st.sampled_from([0.0, 0.01, 0.5]),
)


@settings(deadline=None)
@given(
    count=st.integers(1, 100),
    steps=st.integers(1, 4),
    seed=st.integers(0, 10**6),
    scale=st.sampled_from([1.0, 0.37]),
    constants=constants_of_adamw,
    packed=st.booleans(),
)
def test_live_entries_are_torch_adamw_bit_for_bit_in_every_piece(
    count: int, steps: int, seed: int, scale: float, constants: AdamWSettings, packed: bool
) -> None:
    weight, gradients = random(count, seed=seed), random(steps, count, seed=seed + 1)
    held = random(count, seed=seed + 2) > 0
    mask = pack_bits(held) if packed else held
    values = (weight.clone(), torch.zeros(count), torch.zeros(count))
    # Held entries go their own way in the reference, so delicate bits there do no harm.
    for i, value in enumerate(values):
        picked = DELICATE[(torch.arange(count) * 5 + seed + i) % len(DELICATE)]
        value.view(torch.int32)[held] = picked[held]
    before, scratch, kept = [v.clone() for v in values], Scratch(), gradients.clone()

    for number, gradient in enumerate(gradients, start=1):
        step(
            values,
            gradient,
            held_N=mask,
            step=number,
            settings=constants,
            gradient_scale=scale,
            scratch=scratch,
        )

    scaled = gradients if scale == 1.0 else gradients * scale
    for now, then, free in zip(values, before, torch_adamw(weight, scaled, constants), strict=True):
        assert same_bits(now[held], then[held])
        assert same_bits(now[~held], free[~held])
    assert torch.equal(gradients, kept)


@settings(deadline=None)
@given(count=st.integers(1, 100), seed=st.integers(0, 10**6), masked=st.booleans())
def test_all_free_and_masked_gradients_are_torch_adamw_too(
    count: int, seed: int, masked: bool
) -> None:
    weight, gradients = random(count, seed=seed), random(3, count, seed=seed + 1)
    held = random(count, seed=seed + 2) > 0
    values = (weight.clone(), torch.zeros(count), torch.zeros(count))
    mode = "gradient_mask" if masked else "exact"

    for number, gradient in enumerate(gradients, start=1):
        mask = held if masked else None
        step(values, gradient, held_N=mask, step=number, settings=AdamWSettings(), mode=mode)

    seen = gradients.masked_fill(held, 0) if masked else gradients
    expected = torch_adamw(weight, seen, AdamWSettings())
    assert all(map(same_bits, values, expected))


@settings(deadline=None)
@given(count=st.integers(0, 100), seed=st.integers(0, 10**6), packed=st.booleans())
def test_norms_and_change_are_those_of_the_whole(count: int, seed: int, packed: bool) -> None:
    gradient, held = random(count, seed=seed), random(count, seed=seed + 1) > 0
    mask = pack_bits(held) if packed else held
    weight = random(count, seed=seed + 2)
    values = (weight.clone(), torch.zeros(count), torch.zeros(count))

    norms = squared_norms(gradient, mask)
    change = step(values, gradient, held_N=mask, step=1, settings=AdamWSettings())

    exact = gradient.double() ** 2
    assert norms.tolist() == pytest.approx(
        [exact[~held].sum().item(), exact[held].sum().item()], rel=1e-12
    )
    difference = (values[0] - weight).double()
    assert change.item() == pytest.approx((difference**2).sum().item(), rel=1e-12)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("packed", [True, False])
def test_an_entry_that_is_not_finite_is_found_wherever_it_lies(bad: float, packed: bool) -> None:
    held = torch.arange(53) % 3 == 0
    mask = pack_bits(held) if packed else held
    for position in range(53):
        gradient = torch.ones(53)
        gradient[position] = bad
        live, of_held = squared_norms(gradient, mask).isfinite().tolist()
        assert [live, of_held] == [bool(held[position]), not held[position]]


def test_scratch_serves_tensors_of_any_length_one_after_another() -> None:
    scratch = Scratch()
    for count in (3, 100, 1, 0, 17):
        gradient, held = random(count, seed=count), torch.arange(count) % 2 == 0
        again = squared_norms(gradient, held, scratch=scratch)
        assert torch.equal(again, squared_norms(gradient, held))
