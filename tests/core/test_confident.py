"""Dynamic fine-tuning's weights: each token's own probability, held still."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mifo_ext.core.weights import confident, token_mean_weights, weighted_nll

F64 = torch.float64


def loss_of(log_probs: Tensor, weights: Tensor) -> Tensor:
    return weighted_nll(log_probs, confident(weights, log_probs))


def test_a_tokens_weight_is_multiplied_with_its_probability() -> None:
    log_probs = torch.tensor([0.5, 0.25, 1.0], dtype=F64).log()

    weights = confident(torch.tensor([2.0, 1.0, 0.5], dtype=F64), log_probs)

    assert weights.tolist() == [1.0, 0.25, 0.5]


def test_the_loss_is_minus_p_log_p_over_all_tokens_and_its_slope_minus_p() -> None:
    log_probs = torch.tensor([0.5, 0.25], dtype=F64).log().requires_grad_()
    weights = token_mean_weights(torch.tensor([True, True]), tokens=4, dtype=F64)

    loss = loss_of(log_probs, weights)
    loss.backward()

    # Divided by the 4 tokens of the global batch, not by the sum of probabilities.
    assert loss.item() == pytest.approx((0.5 * math.log(2) + 0.25 * math.log(4)) / 4)
    assert log_probs.grad is not None
    # Were p not held still, the slope would be -p (1 + log p) / 4.
    torch.testing.assert_close(log_probs.grad, -torch.tensor([0.5, 0.25], dtype=F64) / 4)


@given(st.lists(st.floats(-5, 0), min_size=1, max_size=6), st.integers(0, 99))
def test_slopes_are_finite_differences_with_the_probability_held_still(
    values: list[float], seed: int
) -> None:
    weights = torch.rand(
        len(values), generator=torch.Generator().manual_seed(seed), dtype=F64
    ).clamp(min=0.1)
    log_probs, step = torch.tensor(values, dtype=F64, requires_grad=True), 1e-6
    held = confident(weights, log_probs)

    loss_of(log_probs, weights).backward()

    for token in range(len(values)):
        nudge = step * torch.eye(len(values), dtype=F64)[token]
        rise = weighted_nll(log_probs + nudge, held) - weighted_nll(log_probs - nudge, held)
        assert log_probs.grad is not None
        assert float(log_probs.grad[token]) == pytest.approx(rise.item() / (2 * step), abs=1e-7)


@given(st.lists(st.tuples(st.floats(-5, 0), st.floats(0, 1)), max_size=6), st.data())
def test_neither_padding_nor_order_changes_the_loss(
    tokens: list[tuple[float, float]], data: st.DataObject
) -> None:
    moved = data.draw(st.permutations([*tokens, (math.nan, 0.0), (-math.inf, 0.0)]))

    def told(tokens: list[tuple[float, float]]) -> float:
        table = torch.tensor(tokens, dtype=F64).reshape(-1, 2)
        return loss_of(table[:, 0], table[:, 1]).item()

    assert told(moved) == pytest.approx(told(tokens), abs=1e-12)


@pytest.mark.parametrize("bad", [math.nan, -math.inf])
def test_tokens_of_weight_zero_stay_at_zero_whatever_their_log_probability(bad: float) -> None:
    assert confident(torch.tensor([0.0, 1.0]), torch.tensor([bad, 0.0])).tolist() == [0.0, 1.0]


@pytest.mark.parametrize("shape", [(0,), (2, 3)])
def test_nothing_but_padding_gives_zero_and_still_takes_a_backward_pass(
    shape: tuple[int, ...],
) -> None:
    log_probs = torch.full(shape, -3.0, requires_grad=True)

    loss = loss_of(log_probs, torch.zeros(shape))
    loss.backward()

    assert loss.item() == 0.0
    assert log_probs.grad is not None
    assert not log_probs.grad.any()


def test_probabilities_are_taken_in_the_type_of_the_weights() -> None:
    log_probs = torch.tensor([-0.1, -0.1], dtype=torch.bfloat16)

    weights = confident(torch.ones(2), log_probs)

    assert weights.dtype == torch.float32
    assert weights[0].item() == pytest.approx(math.exp(log_probs[0].item()), rel=1e-6)
