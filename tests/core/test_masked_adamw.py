"""AdamW around held entries."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mifo_ext.core.adamw import AdamWSettings, Moments
from mifo_ext.core.masked_adamw import clip_scale, masked_adamw_, squared_norms

SETTINGS = AdamWSettings(betas=(0.8, 0.95), eps=1e-6, weight_decay=0.1)
LR = 0.01


def random(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def torch_adamw(weight: Tensor, gradients: list[Tensor]) -> tuple[Tensor, Moments]:
    """What torch's own AdamW makes of the same weight and gradients."""
    parameter = torch.nn.Parameter(weight.clone())
    optimizer = torch.optim.AdamW(
        [parameter], lr=LR, betas=SETTINGS.betas, eps=SETTINGS.eps, weight_decay=0.1
    )
    for gradient in gradients:
        parameter.grad = gradient.clone()
        optimizer.step()
    state = optimizer.state[parameter]
    return parameter.detach(), Moments(state["exp_avg"], state["exp_avg_sq"])


def ours(
    weight: Tensor,
    gradients: list[Tensor],
    *,
    held: list[Tensor | None],
    mode: str = "exact",
) -> tuple[Tensor, Moments]:
    weight, moments = weight.clone(), Moments(torch.zeros_like(weight), torch.zeros_like(weight))
    for step, (gradient, mask) in enumerate(zip(gradients, held, strict=True), start=1):
        masked_adamw_(
            weight,
            gradient,
            moments,
            held=mask,
            step=step,
            lr=LR,
            settings=SETTINGS,
            mode=mode,
        )
    return weight, moments


@settings(deadline=None)
@given(count=st.integers(1, 70), steps=st.integers(1, 4), seed=st.integers(0, 10**6))
def test_live_entries_are_torch_adamw_and_held_ones_keep_every_bit(
    count: int, steps: int, seed: int
) -> None:
    weight, gradients = random(count, seed=seed), list(random(steps + 1, count, seed=seed + 1))
    mask = random(count, seed=seed + 2) > 0
    # One step without a mask gives the held entries momentum to be carried by.
    before, moments_before = torch_adamw(weight, gradients[:1])
    plain, plain_moments = torch_adamw(weight, gradients)

    after, moments = ours(weight, gradients, held=[None] + [mask] * steps)

    for now, then, free in zip(
        (after, *moments), (before, *moments_before), (plain, *plain_moments), strict=True
    ):
        assert torch.equal(now[mask], then[mask])
        assert torch.equal(now[~mask], free[~mask])
    assert not (after[~mask] == before[~mask]).any()


def test_a_gradient_mask_lets_momentum_and_weight_decay_move_the_entry() -> None:
    weight, gradients = torch.tensor([1.0, 1.0]), [torch.tensor([1.0, 1.0])] * 2
    mask = torch.tensor([True, False])
    zeroed = [gradients[0], torch.tensor([0.0, 1.0])]

    after, moments = ours(weight, gradients, held=[None, mask], mode="gradient_mask")

    expected, expected_moments = torch_adamw(weight, zeroed)
    assert torch.equal(after, expected)
    assert torch.equal(moments.exp_avg, expected_moments.exp_avg)
    exact, _ = ours(weight, gradients, held=[None, mask])
    assert abs(after[0] - exact[0]) > 0.5 * abs(after[1] - exact[0])


def test_held_entries_keep_signed_zeros_and_need_no_finite_gradient() -> None:
    weight, gradient = torch.tensor([-0.0, 1.0]), torch.tensor([float("nan"), 1.0])
    after, moments = ours(weight, [gradient], held=[torch.tensor([True, False])])
    assert math.copysign(1, after[0]) == -1
    assert moments.exp_avg[0] == 0
    assert after[1] < 1


def test_the_change_is_reported_and_the_gradient_is_scaled_but_left_as_it_is() -> None:
    gradient = torch.tensor([3.0, 4.0, 5.0])
    mask = torch.tensor([False, False, True])
    weight, moments = torch.zeros(3), Moments(torch.zeros(3), torch.zeros(3))

    change = masked_adamw_(
        weight,
        gradient,
        moments,
        held=mask,
        step=1,
        lr=0.5,
        settings=AdamWSettings(weight_decay=0.0, eps=1e-12),
        gradient_scale=0.5,
    )

    # A first step of AdamW is the learning rate, whatever the gradient: 0.5^2 + 0.5^2.
    assert change.item() == pytest.approx(0.5)
    assert moments.exp_avg.tolist() == pytest.approx([0.15, 0.2, 0.0])
    assert gradient.tolist() == [3.0, 4.0, 5.0]


def test_norms_are_taken_apart_for_live_and_held_entries() -> None:
    gradient = torch.tensor([3.0, 12.0, 4.0])
    held = torch.tensor([False, True, False])
    assert squared_norms(gradient, held).tolist() == pytest.approx([25.0, 144.0])
    assert squared_norms(gradient, None).tolist() == pytest.approx([169.0, 0.0])


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("held", [True, False])
def test_a_gradient_that_is_not_finite_shows_in_the_norms(bad: float, held: bool) -> None:
    norms = squared_norms(torch.tensor([1.0, bad]), torch.tensor([False, held]))
    assert not norms.sum().isfinite()


def test_norms_of_huge_finite_gradients_are_finite() -> None:
    assert squared_norms(torch.full((4,), 3e38), None).isfinite().all()


def test_clipping_shrinks_to_the_limit_and_never_grows() -> None:
    assert clip_scale(4.0, 1.0) == pytest.approx(0.25)
    assert clip_scale(0.5, 1.0) == 1.0
    assert clip_scale(4.0, None) == 1.0
    gradient = torch.nn.Parameter(torch.zeros(2))
    gradient.grad = torch.tensor([3.0, 4.0])
    torch.nn.utils.clip_grad_norm_([gradient], 2.0)
    scale = clip_scale(5.0, 2.0)
    assert gradient.grad.tolist() == pytest.approx([3 * scale, 4 * scale], rel=1e-6)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"betas": (0.9, 1.0)}, "`betas` must be two numbers"),
        ({"eps": 0.0}, "`eps` must be above 0"),
        ({"weight_decay": -1.0}, "`weight_decay` must be 0 or more"),
    ],
)
def test_settings_outside_their_range_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AdamWSettings(**wrong)  # type: ignore[arg-type]


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(ValueError, match="one of exact, gradient_mask, but is 'soft'"):
        ours(torch.ones(1), [torch.ones(1)], held=[None], mode="soft")


@pytest.mark.parametrize("threads", [1, 2])
def test_long_parameters_follow_torch_whatever_pieces_and_threads_there_are(threads: int) -> None:
    count = 3 * (1 << 17) + 5
    weight, gradients = random(count, seed=1), list(1e-3 * random(2, count, seed=2))
    mask = random(count, seed=3) > 0
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        after, moments = ours(weight, gradients, held=[mask, mask])
        plain, plain_moments = torch_adamw(weight, gradients)
    finally:
        torch.set_num_threads(before)
    for now, free in zip((after, *moments), (plain, *plain_moments), strict=True):
        assert torch.equal(now[~mask], free[~mask])
    assert torch.equal(after[mask], weight[mask])
