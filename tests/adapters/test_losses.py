"""The interval's loss on verl's jagged tensors, against sums done by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from tensordict import TensorDict
from verl.utils import tensordict_utils as tu

from mifo_ext.adapters.losses import demonstration_loss
from mifo_ext.core.tokens import kept_count
from mifo_ext.settings import SftSettings


def settings(tokens: str, normalise: str, *, fraction: float = 0.5) -> SftSettings:
    return SftSettings(
        tokens=tokens,  # type: ignore[arg-type]
        fraction=1.0 if tokens == "all" else fraction,
        normalise=normalise,  # type: ignore[arg-type]
        loss="nll",
        entropy_coeff=0.0,
        learning_rate_ratio=1.0,
        epochs=1,
        mini_batch_size=8,
        clip_norm=None,
        betas=None,
        eps=None,
        weight_decay=None,
        moments="own",
    )


class Row:
    """A prompt, a response, and what the model says at each position of them."""

    def __init__(
        self, prompt: int, response: int, *, generator: torch.Generator, pads: bool = False
    ):
        length = prompt + response
        self.mask = torch.tensor([0] * prompt + [0 if pads else 1] * response)
        self.log_probs = -torch.rand(length, generator=generator, dtype=torch.float64) - 0.1
        self.entropy = torch.rand(length, generator=generator, dtype=torch.float64)
        # Position t speaks of token t + 1: the response is spoken of one position earlier.
        self.said = slice(prompt - 1, length - 1)


def evaluate(
    rows: Sequence[Row], how: SftSettings, *, batch: Sequence[Row] | None = None, dp_size: int = 1
) -> tuple[torch.Tensor, dict[str, Any]]:
    """Loss of a micro-batch of `rows` of a global `batch` (by default the same)."""
    lengths = [int(row.mask.sum()) for row in batch or rows]

    def jagged(parts: list[torch.Tensor]) -> torch.Tensor:
        return torch.nested.as_nested_tensor(parts, layout=torch.jagged)

    data: TensorDict = tu.get_tensordict(
        tensor_dict={"loss_mask": jagged([row.mask for row in rows])},
        non_tensor_dict={
            "sft_demonstrations": sum(n > 0 for n in lengths),
            "sft_tokens": sum(kept_count(n, how.fraction) for n in lengths),
            "dp_size": dp_size,
        },
    )
    output = {"log_probs": jagged([row.log_probs for row in rows])}
    if how.tokens == "high_entropy":
        output["entropy"] = jagged([row.entropy for row in rows])
    return demonstration_loss(output, data, settings=how)


def by_hand(rows: Sequence[Row], how: SftSettings) -> torch.Tensor:
    """The same, demonstration by demonstration, without any packing."""
    real = [row for row in rows if row.mask.any()]
    sums, kept = [], 0
    for row in real:
        said, entropy = -row.log_probs[row.said], row.entropy[row.said]
        count = kept_count(len(said), how.fraction)
        chosen = sorted(range(len(said)), key=lambda t: (-float(entropy[t]), t))[:count]
        sums.append(said[chosen].sum() / (len(said) if how.normalise == "full_length" else 1))
        kept += count
    return sum(sums) / (len(real) if how.normalise == "full_length" else kept)


RULES = [(t, n) for t in ("all", "high_entropy") for n in ("full_length", "token_mean")]


def some_rows(shapes: Sequence[tuple[int, int, bool]], seed: int) -> list[Row]:
    generator = torch.Generator().manual_seed(seed)
    return [Row(p, r, generator=generator, pads=pads) for p, r, pads in shapes]


def test_two_demonstrations_worked_out() -> None:
    generator = torch.Generator()
    long, short = Row(2, 4, generator=generator), Row(1, 1, generator=generator)
    long.log_probs = torch.tensor([-9.0, -1.0, -2.0, -3.0, -4.0, -9.0])
    long.entropy = torch.tensor([9.0, 0.1, 0.4, 0.2, 0.3, 9.0])
    short.log_probs, short.entropy = torch.tensor([-8.0, -9.0]), torch.tensor([0.0, 9.0])

    loss, counts = evaluate([long, short], settings("high_entropy", "full_length"))
    # ceil(0.5 * 4) = 2 of the long one, entropies 0.4 and 0.3: (2 + 4) / 4; all of the short: 8.
    assert float(loss) == pytest.approx((6 / 4 + 8 / 1) / 2)
    assert counts == {"tokens_kept": 3, "tokens": 5}

    loss, _ = evaluate([long, short], settings("high_entropy", "token_mean"))
    assert float(loss) == pytest.approx((2 + 4 + 8) / 3)
    loss, _ = evaluate([long, short], settings("all", "token_mean"))
    assert float(loss) == pytest.approx((1 + 2 + 3 + 4 + 8) / 5)


SHAPES = st.lists(
    st.tuples(st.integers(1, 4), st.integers(1, 9), st.booleans()), min_size=1, max_size=6
)


@pytest.mark.parametrize(("tokens", "normalise"), RULES)
@hypothesis_settings(max_examples=30)
@given(shapes=SHAPES, seed=st.integers(0, 999))
def test_equals_the_sum_over_whole_demonstrations(
    tokens: str, normalise: str, shapes: list[tuple[int, int, bool]], seed: int
) -> None:
    rows = some_rows([(1, 3, False), *shapes], seed)
    how = settings(tokens, normalise)

    assert float(evaluate(rows, how)[0]) == pytest.approx(float(by_hand(rows, how)))


@pytest.mark.parametrize(("tokens", "normalise"), RULES)
@hypothesis_settings(max_examples=30)
@given(shapes=SHAPES, cut=st.integers(1, 6), seed=st.integers(0, 999))
def test_micro_batches_add_up_to_the_whole(
    tokens: str, normalise: str, shapes: list[tuple[int, int, bool]], cut: int, seed: int
) -> None:
    rows = some_rows([(1, 3, False), *shapes], seed)
    how = settings(tokens, normalise)

    whole, counts = evaluate(rows, how)
    pieces = [evaluate(rows[i : i + cut], how, batch=rows) for i in range(0, len(rows), cut)]

    assert float(sum(loss for loss, _ in pieces)) == pytest.approx(float(whole))
    assert sum(piece["tokens_kept"] for _, piece in pieces) == counts["tokens_kept"]


@pytest.mark.parametrize(("tokens", "normalise"), RULES)
def test_rows_that_only_pad_weigh_nothing_and_get_no_gradient(tokens: str, normalise: str) -> None:
    rows = some_rows([(2, 5, False), (1, 4, False)], seed=1)
    padding = some_rows([(2, 6, True)], seed=2)
    padding[0].log_probs.requires_grad_()
    how = settings(tokens, normalise)

    loss, _ = evaluate([*rows, *padding], how)
    loss.backward()

    assert loss.item() == pytest.approx(float(evaluate(rows, how)[0]))
    assert not padding[0].log_probs.grad.any()


def test_a_micro_batch_of_padding_alone_still_takes_a_backward_pass() -> None:
    rows, padding = some_rows([(2, 5, False)], seed=1), some_rows([(2, 6, True)], seed=2)
    padding[0].log_probs.requires_grad_()

    loss, counts = evaluate(padding, settings("high_entropy", "full_length"), batch=rows)
    loss.backward()

    assert loss.item() == 0.0
    assert counts == {"tokens_kept": 0, "tokens": 0}


def test_an_interval_of_padding_alone_is_zero() -> None:
    # Every rank runs it when all demonstrations of a mini-batch lie on other ranks.
    loss, _ = evaluate(some_rows([(1, 2, True)], seed=0), settings("all", "full_length"))
    assert float(loss) == 0.0


def test_ranks_whose_gradients_are_averaged_add_up_to_the_whole() -> None:
    rows = some_rows([(1, 4, False), (3, 2, False), (2, 7, False), (1, 1, False)], seed=3)
    how = settings("high_entropy", "full_length")

    ranks = [evaluate(rows[i : i + 2], how, batch=rows, dp_size=2)[0] for i in (0, 2)]

    assert float(sum(ranks)) / 2 == pytest.approx(float(evaluate(rows, how)[0]))


def test_gradient_is_minus_the_weight_of_each_kept_token() -> None:
    row = some_rows([(2, 4, False)], seed=5)[0]
    row.entropy = torch.tensor([9.0, 4.0, 3.0, 2.0, 1.0, 9.0])
    row.log_probs.requires_grad_()

    evaluate([row], settings("high_entropy", "full_length"))[0].backward()

    assert row.log_probs.grad.tolist() == [0.0, -0.25, -0.25, 0.0, 0.0, 0.0]
