"""Losses of demonstrations among rollouts: worked examples, slopes, padding, order."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mifo_ext.core.mixed_policy import (
    likelihood_loss,
    mean_entropy,
    scheduled,
    shaped_policy_loss,
    signed_likelihood_loss,
)

F64 = torch.float64
Loss = Callable[[Tensor, Tensor], Tensor]
LOSSES: dict[str, Loss] = {
    "shaped": lambda log_probs, of_row: shaped_policy_loss(log_probs, of_row, gamma=0.1),
    "likelihood": likelihood_loss,
    "undecided": lambda log_probs, of_row: likelihood_loss(log_probs, of_row, undecided=True),
    "signed": lambda log_probs, of_row: signed_likelihood_loss(
        log_probs, of_row.sign(), of_row.abs()
    ),
}
"""Each takes log-probabilities, and one number for each row."""


def logs(*rows: list[float]) -> Tensor:
    """Log-probabilities of tokens with these probabilities."""
    return torch.tensor(rows, dtype=F64).log()


def some(rows: int, tokens: int, seed: int) -> tuple[Tensor, Tensor]:
    """Log-probabilities from 0 down to -4, and a number from -1 to 1 for each row."""
    generator = torch.Generator().manual_seed(seed)
    log_probs = -4 * torch.rand(rows, tokens, generator=generator, dtype=F64)
    return log_probs, 2 * torch.rand(rows, generator=generator, dtype=F64) - 1


def slope(loss: Loss, log_probs: Tensor, of_row: Tensor) -> Tensor:
    """Gradient of the summed loss."""
    log_probs = log_probs.clone().requires_grad_()
    loss(log_probs, of_row).sum().backward()
    assert log_probs.grad is not None
    return log_probs.grad


def test_the_shaped_loss_is_minus_the_advantage_times_pi_over_pi_plus_gamma() -> None:
    log_probs = logs([0.1, 0.3, 0.9], [0.5, 0.5, 0.5])

    loss = shaped_policy_loss(log_probs, torch.tensor([2.0, 0.0], dtype=F64), gamma=0.1)

    # 2 times 0.1/0.2, 0.3/0.4, 0.9/1.0; the second row carries no such loss.
    torch.testing.assert_close(loss, -torch.tensor([[1.0, 1.5, 1.8], [0, 0, 0]], dtype=F64))


def test_shaping_lifts_what_the_policy_finds_improbable() -> None:
    advantage = torch.ones(2, dtype=F64)

    slopes = slope(LOSSES["shaped"], logs([0.001, 0.1], [0.5, 0.9]), advantage)

    # 0.1 pi / (pi + 0.1)^2, where -A pi would have a slope of pi.
    expected = [[0.0001 / 0.101**2, 0.01 / 0.2**2], [0.05 / 0.6**2, 0.09 / 1.0**2]]
    torch.testing.assert_close(slopes, -torch.tensor(expected, dtype=F64))
    assert slopes[0, 0].abs() > 9 * 0.001


@pytest.mark.parametrize("gamma", [0.0, -0.1, math.nan])
def test_a_gamma_that_does_not_shape_is_refused(gamma: float) -> None:
    with pytest.raises(ValueError, match="`gamma` must be above 0, but is"):
        shaped_policy_loss(torch.zeros(1, 1), torch.ones(1), gamma=gamma)


def test_the_likelihood_loss_weighs_rows_alike_over_their_tokens() -> None:
    log_probs = torch.tensor([[-1.0, -2.0], [-3.0, -4.0]])

    loss = likelihood_loss(log_probs, torch.tensor([0.5, 2.0]))

    assert loss.tolist() == [[0.5, 1.0], [6.0, 8.0]]


def test_undecided_tokens_weigh_most_and_sure_ones_nothing() -> None:
    log_probs = logs([0.5, 0.25, 1.0])

    loss = likelihood_loss(log_probs, torch.ones(1, dtype=F64), undecided=True)

    # p (1 - p) is 1/4, 3/16 and 0.
    expected = torch.tensor([[0.25 * math.log(2), 3 / 16 * math.log(4), 0.0]], dtype=F64)
    torch.testing.assert_close(loss, expected)


def test_no_gradient_flows_through_the_weight_of_undecided_tokens() -> None:
    slopes = slope(LOSSES["undecided"], logs([0.5, 0.25, 1.0]), torch.ones(1, dtype=F64))

    torch.testing.assert_close(slopes, -torch.tensor([[0.25, 3 / 16, 0.0]], dtype=F64))


def test_right_answers_are_made_likelier_by_their_weight_and_wrong_ones_unlikelier() -> None:
    log_probs = torch.full((3, 2), -2.0)

    loss = signed_likelihood_loss(
        log_probs, torch.tensor([1.0, -1.0, 0.0]), torch.tensor([0.25, 0.25, 0.25])
    )

    # The weight is for right answers alone; the third row carries no such loss.
    assert loss.tolist() == [[0.5, 0.5], [-2.0, -2.0], [0.0, 0.0]]


def test_the_mean_entropy_of_a_row_is_over_its_own_tokens() -> None:
    entropy = torch.tensor([[1.0, 2.0, 6.0], [3.0, math.nan, math.nan], [math.nan] * 3])
    mask = torch.tensor([[True] * 3, [True, False, False], [False] * 3])

    # An empty row has 0.
    assert mean_entropy(entropy, mask).tolist() == [3.0, 3.0, 0.0]


def test_no_gradient_flows_through_the_mean_entropy() -> None:
    entropy = torch.ones(1, 2, requires_grad=True)
    assert not mean_entropy(entropy, torch.ones(1, 2, dtype=torch.bool)).requires_grad


@given(st.integers(1, 4), st.integers(1, 5), st.integers(0, 999))
def test_padding_never_changes_a_mean_entropy(rows: int, tokens: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    entropy = torch.rand(rows, tokens, generator=generator, dtype=F64)
    mask = torch.rand(rows, tokens, generator=generator) < 0.7
    wider = torch.nn.functional.pad(entropy, (0, 3), value=math.nan)

    padded = mean_entropy(wider, torch.nn.functional.pad(mask, (0, 3)))

    torch.testing.assert_close(padded, mean_entropy(entropy, mask))


@pytest.mark.parametrize("name", LOSSES)
@given(rows=st.integers(1, 4), tokens=st.integers(1, 4), seed=st.integers(0, 999))
def test_neither_padding_nor_the_order_of_rows_changes_a_tokens_loss_or_slope(
    name: str, rows: int, tokens: int, seed: int
) -> None:
    loss, (log_probs, of_row) = LOSSES[name], some(rows, tokens, seed)
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(seed))
    wider = torch.nn.functional.pad(log_probs, (0, 2))[order]

    def told(log_probs: Tensor, of_row: Tensor) -> list[Tensor]:
        return [loss(log_probs, of_row), slope(loss, log_probs, of_row)]

    for moved, kept in zip(told(wider, of_row[order]), told(log_probs, of_row), strict=True):
        torch.testing.assert_close(moved[:, :tokens], kept[order])


@pytest.mark.parametrize("name", ["shaped", "likelihood", "signed"])
@given(rows=st.integers(1, 3), tokens=st.integers(1, 3), seed=st.integers(0, 999))
def test_slopes_are_those_of_finite_differences(
    name: str, rows: int, tokens: int, seed: int
) -> None:
    log_probs, of_row = some(rows, tokens, seed)
    assert torch.autograd.gradcheck(
        lambda free: LOSSES[name](free, of_row), log_probs.requires_grad_()
    )


@given(st.integers(1, 3), st.integers(1, 3), st.integers(0, 999))
def test_the_slope_of_undecided_tokens_is_that_of_a_weight_held_still(
    rows: int, tokens: int, seed: int
) -> None:
    log_probs, of_row = some(rows, tokens, seed)
    weights = of_row[:, None] * log_probs.exp() * (1 - log_probs.exp())
    step = 1e-6

    rise = -weights * (log_probs + step) + weights * (log_probs - step)

    torch.testing.assert_close(slope(LOSSES["undecided"], log_probs, of_row), rise / (2 * step))


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("shape", [(0, 3), (2, 0), (2, 3)])
def test_rows_without_such_a_loss_give_zero_and_still_take_a_backward_pass(
    name: str, shape: tuple[int, int]
) -> None:
    log_probs = torch.full(shape, -2.0, requires_grad=True)

    loss = LOSSES[name](log_probs, torch.zeros(shape[0])).sum()
    loss.backward()

    assert loss.item() == 0.0
    assert log_probs.grad is not None
    assert not log_probs.grad.any()


def test_the_coefficient_goes_along_half_a_cosine_and_stays() -> None:
    steps = [scheduled(step, first=0.9, final=0.1, steps=4) for step in range(1, 8)]

    # 1, 0.854, 0.5, 0.146, 0 of the way from 0.1 to 0.9.
    eighth = 0.4 * math.cos(math.pi / 4)
    expected = [0.9, 0.5 + eighth, 0.5, 0.5 - eighth, 0.1, 0.1, 0.1]
    assert steps == pytest.approx(expected)


def test_the_coefficient_may_rise() -> None:
    assert [scheduled(step, first=0.0, final=1.0, steps=2) for step in (1, 2, 3)] == [0.0, 0.5, 1.0]


@pytest.mark.parametrize(("step", "steps"), [(0, 4), (1, 0), (-1, -1)])
def test_a_schedule_counts_from_one(step: int, steps: int) -> None:
    with pytest.raises(ValueError, match=f"must be at least 1, but are {step} and {steps}"):
        scheduled(step, first=0.9, final=0.1, steps=steps)
