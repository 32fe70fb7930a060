"""SFT losses from weights: padding, order, layout and micro-batching change neither loss nor grad.

The policy of these tests gives demonstration i, token t the log-probability theta_it * x_it, so
that gradients reach a shared parameter. In float64: equality then means equality.
"""

import math
from itertools import chain, pairwise
from typing import NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mifo_ext.core.weights import (
    full_length_weights,
    full_length_weights_packed,
    token_mean_weights,
    weighted_nll,
)

F64 = torch.float64
# One token: its feature, whether it is a response token, whether it is kept if it is one.
TOKEN = st.tuples(st.floats(-2, 2, width=32), st.booleans(), st.booleans())
DEMONSTRATIONS = st.lists(st.lists(TOKEN, min_size=1, max_size=6), min_size=1, max_size=6)
Rows = list[list[tuple[float, bool, bool]]]
PADDING_ROW = [(math.nan, False, False)] * 2


class Result(NamedTuple):
    loss: float
    gradient: float


def log_probs_of(theta: Tensor, features: Tensor) -> Tensor:
    return -torch.nn.functional.softplus(theta * features)


def packed(rows: Rows) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    features, response, kept = (list(part) for part in zip(*chain(*rows), strict=True))
    offsets = torch.tensor([0, *map(len, rows)]).cumsum(0)
    response_N = torch.tensor(response)
    return torch.tensor(features, dtype=F64), response_N, torch.tensor(kept) & response_N, offsets


def padded(rows: Rows, *, width: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    width = max([width, *map(len, rows)])
    filled = [row + [(math.nan, False, False)] * (width - len(row)) for row in rows]
    features, response, kept, _ = packed(filled)
    shape = (len(rows), width)
    return features.view(shape), response.view(shape), kept.view(shape)


def train(
    micro_batches: list[Rows], *, layout: str, normalise: str, demonstrations: int, tokens: int
) -> Result:
    """Add up losses and gradients of micro-batches, as accumulation over ranks does."""
    theta = torch.tensor(0.7, dtype=F64, requires_grad=True)
    total = 0.0
    for rows in micro_batches:
        if layout == "packed":
            features, response, kept, offsets = packed(rows)
            by_length = full_length_weights_packed(
                kept, response, offsets, demonstrations=demonstrations, dtype=F64
            )
        else:
            features, response, kept = padded(rows, width=9)
            by_length = full_length_weights(
                kept, response, demonstrations=demonstrations, dtype=F64
            )
        by_token = token_mean_weights(kept, tokens=tokens, dtype=F64)
        weights = by_length if normalise == "full_length" else by_token
        # The model never sees padding's NaN: zero features stand for it.
        loss = weighted_nll(log_probs_of(theta, features.nan_to_num()), weights)
        loss.backward()
        total += loss.item()
    assert theta.grad is not None
    return Result(total, theta.grad.item())


def by_hand(rows: Rows, *, normalise: str) -> Result:
    """(1/B) sum_i (1/|s_i|) sum over kept, or the mean over all kept tokens, in plain Python."""
    theta = 0.7
    tokens = sum(is_response and kept for row in rows for _, is_response, kept in row)
    loss = gradient = 0.0
    for row in rows:
        length = sum(is_response for _, is_response, _ in row)
        for x, is_response, kept in row:
            if is_response and kept:
                share = tokens if normalise == "token_mean" else len(rows) * length
                loss += math.log1p(math.exp(theta * x)) / share
                gradient += x / (1 + math.exp(-theta * x)) / share
    return Result(loss, gradient)


def test_full_length_weights_divide_by_the_whole_response_and_the_real_demonstrations() -> None:
    response = torch.tensor([[False, True, True, True, True], [True, True, False, False, False]])
    kept = torch.tensor([[False, False, True, False, True], [True, False, False, False, False]])

    weights = full_length_weights(kept, response, demonstrations=5)

    # 1 / (5 * 4) on two of four tokens, 1 / (5 * 2) on one of two.
    expected = torch.tensor([[0, 0, 0.05, 0, 0.05], [0.1, 0, 0, 0, 0]])
    torch.testing.assert_close(weights, expected)
    flat = full_length_weights_packed(
        kept.flatten(), response.flatten(), torch.tensor([0, 5, 10]), demonstrations=5
    )
    assert torch.equal(flat, weights.flatten())


def test_token_mean_weights_divide_by_the_tokens_of_the_whole_global_batch() -> None:
    kept = torch.tensor([True, False, True])

    assert token_mean_weights(kept, tokens=8).tolist() == [0.125, 0.0, 0.125]


def test_weighted_nll_adds_up_weight_times_minus_log_probability() -> None:
    log_probs = torch.tensor([[-1.0, -2.0], [-4.0, -8.0]], requires_grad=True)
    weights = torch.tensor([[0.5, 0.0], [0.25, 0.125]])

    loss = weighted_nll(log_probs, weights)
    loss.backward()

    assert loss.item() == 0.5 * 1 + 0.25 * 4 + 0.125 * 8
    assert log_probs.grad is not None
    assert torch.equal(log_probs.grad, -weights)


@given(DEMONSTRATIONS, st.sampled_from(["full_length", "token_mean"]), st.data())
def test_padding_order_layout_and_micro_batches_never_change_loss_or_gradient(
    rows: Rows, normalise: str, data: st.DataObject
) -> None:
    order = data.draw(st.permutations(rows + [PADDING_ROW] * data.draw(st.integers(0, 2))))
    cuts = sorted(data.draw(st.lists(st.integers(1, len(order)), max_size=3)))
    bounds = [0, *cuts, len(order)]
    parts = [order[a:b] for a, b in pairwise(bounds) if a < b]
    tokens = sum(is_response and kept for row in rows for _, is_response, kept in row)

    expected = by_hand(rows, normalise=normalise)
    for layout in ("packed", "padded"):
        result = train(
            parts, layout=layout, normalise=normalise, demonstrations=len(rows), tokens=tokens
        )
        assert result == pytest.approx(expected, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("bad", [math.nan, -math.inf])
def test_tokens_of_weight_zero_are_left_out_whatever_their_log_probability(bad: float) -> None:
    log_probs = torch.tensor([-1.0, bad], requires_grad=True)

    loss = weighted_nll(log_probs, torch.tensor([1.0, 0.0]))
    loss.backward()

    assert loss.item() == 1.0
    assert log_probs.grad is not None
    assert log_probs.grad.tolist() == [-1.0, 0.0]


def test_a_bad_log_probability_that_carries_weight_is_not_hidden() -> None:
    assert weighted_nll(torch.tensor([math.nan]), torch.tensor([0.5])).isnan()


@pytest.mark.parametrize("shape", [(0,), (2, 3)])
def test_a_micro_batch_of_nothing_but_padding_has_loss_zero_and_still_runs_backward(
    shape: tuple[int, ...],
) -> None:
    log_probs = torch.full(shape, -3.0, requires_grad=True)
    nothing = torch.zeros(shape, dtype=torch.bool)

    loss = weighted_nll(log_probs, token_mean_weights(nothing, tokens=0))
    loss.backward()

    assert loss.item() == 0.0
    assert log_probs.grad is not None
    assert torch.equal(log_probs.grad, torch.zeros(shape))


def test_the_loss_is_added_up_in_the_type_of_the_weights() -> None:
    # In bfloat16 a sum of 1024 ones stops growing at 256.
    log_probs = -torch.ones(1024, dtype=torch.bfloat16)

    loss = weighted_nll(log_probs, torch.ones(1024))

    assert loss.dtype == torch.float32
    assert loss.item() == 1024
    assert weighted_nll(log_probs.double(), torch.ones(1024)).dtype == torch.float32


@pytest.mark.parametrize("demonstrations", [0, -1])
def test_a_batch_of_no_demonstrations_is_refused(demonstrations: int) -> None:
    mask = torch.ones(1, 2, dtype=torch.bool)

    with pytest.raises(ValueError, match="`demonstrations` must be at least 1, but is"):
        full_length_weights(mask, mask, demonstrations=demonstrations)
    with pytest.raises(ValueError, match="`demonstrations` must be at least 1, but is"):
        full_length_weights_packed(
            mask[0], mask[0], torch.tensor([0, 2]), demonstrations=demonstrations
        )


def test_a_kept_token_outside_the_response_is_refused() -> None:
    kept, response = torch.tensor([[True, True]]), torch.tensor([[False, True]])

    with pytest.raises(ValueError, match="`kept` must mark response tokens only, but marks 1"):
        full_length_weights(kept, response, demonstrations=1)
    with pytest.raises(ValueError, match="`kept` must mark response tokens only, but marks 1"):
        full_length_weights_packed(kept[0], response[0], torch.tensor([0, 2]), demonstrations=1)


def test_a_token_count_of_this_micro_batch_only_is_refused() -> None:
    with pytest.raises(ValueError, match="whole global batch, but is 2 and this micro-batch alone"):
        token_mean_weights(torch.ones(3, dtype=torch.bool), tokens=2)


def test_offsets_that_do_not_cover_the_tokens_are_refused() -> None:
    mask = torch.ones(3, dtype=torch.bool)

    with pytest.raises(ValueError, match="`offsets_B1` must run from 0 to 3"):
        full_length_weights_packed(mask, mask, torch.tensor([0, 2]), demonstrations=1)
