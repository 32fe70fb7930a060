"""An SFT interval's batch, cut up by verl's own dispatch and loader."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tensordict import TensorDict
from verl.protocol import BatchData
from verl.utils import tensordict_utils as tu

from mifo_ext.adapters.batches import layout, sft_batch
from mifo_ext.adapters.demonstrations import DemonstrationTokens

SIZES = st.integers(1, 40)
RANKS = st.integers(1, 7)


def demonstration(number: int) -> DemonstrationTokens:
    """A prompt of 2 tokens and a response of `number % 3 + 1`, all tokens `100 + number`."""
    token = 100 + number
    return DemonstrationTokens([token] * 2, [token] * (number % 3 + 1), truncated=False)


def mini_batches(count: int, *, size: int, ranks: int, epochs: int) -> list[list[TensorDict]]:
    """What verl makes of a batch: by optimizer step, the rows of each rank."""
    batch = sft_batch(
        [demonstration(number) for number in range(count)],
        mini_batch_size=size,
        epochs=epochs,
        ranks=ranks,
        seed=7,
    )
    by_rank = []
    for rank, piece in enumerate(BatchData(batch).chunk(ranks)):
        # As `TrainingWorker.train_mini_batch` does.
        loader = tu.make_iterator(
            piece,
            mini_batch_size=tu.get(piece, "mini_batch_size") // ranks,
            epochs=tu.get(piece, "epochs"),
            seed=tu.get(piece, "seed") + rank,
            dataloader_kwargs=tu.get(piece, "dataloader_kwargs"),
        )
        by_rank.append(list(loader))
    assert len({len(steps) for steps in by_rank}) == 1
    return [list(step) for step in zip(*by_rank, strict=True)]


def learned(step: list[TensorDict]) -> list[int]:
    """Numbers of the demonstrations that carry loss in an optimizer step, rank after rank."""
    rows = []
    for piece in step:
        pairs = zip(piece["input_ids"].unbind(), piece["loss_mask"].unbind(), strict=True)
        rows += [int(ids[0]) - 100 for ids, mask in pairs if mask.any()]
    return rows


def test_two_ranks_share_each_mini_batch_and_the_short_one_is_filled_up() -> None:
    assert layout(5, mini_batch_size=4, ranks=2) == [[0, 1, 4, None], [2, 3, None, None]]


def test_three_ranks_pad_every_mini_batch_of_four() -> None:
    assert layout(4, mini_batch_size=4, ranks=3) == [[0, 1], [2, 3], [None, None]]


@given(count=SIZES, size=SIZES, ranks=RANKS)
def test_every_demonstration_has_one_row_and_ranks_have_equally_many(
    count: int, size: int, ranks: int
) -> None:
    rows = layout(count, mini_batch_size=size, ranks=ranks)

    assert len(rows) == ranks
    assert len({len(rank) for rank in rows}) == 1
    assert sorted(n for rank in rows for n in rank if n is not None) == list(range(count))


@given(count=SIZES, size=SIZES, ranks=RANKS)
def test_mini_batches_hold_the_same_demonstrations_whatever_the_ranks(
    count: int, size: int, ranks: int
) -> None:
    rows = layout(count, mini_batch_size=size, ranks=ranks)
    share = len(rows[0]) // -(-count // size)

    for step, start in enumerate(range(0, count, size)):
        members = [n for rank in rows for n in rank[step * share : (step + 1) * share]]
        assert [n for n in members if n is not None] == list(range(start, min(start + size, count)))


@given(steps=st.integers(1, 6), size=SIZES, ranks=RANKS)
def test_no_more_padding_than_equal_shares_need(steps: int, size: int, ranks: int) -> None:
    rows = layout(steps * size, mini_batch_size=size, ranks=ranks)

    padding = sum(n is None for rank in rows for n in rank)
    assert padding == steps * (-size % ranks)
    assert padding < steps * ranks


@pytest.mark.parametrize(
    ("count", "size", "ranks"), [(0, 1, 1), (1, 0, 1), (1, 1, 0)], ids=["count", "size", "ranks"]
)
def test_nothing_to_lay_out_is_an_error(count: int, size: int, ranks: int) -> None:
    with pytest.raises(ValueError, match="must be at least 1, but are"):
        layout(count, mini_batch_size=size, ranks=ranks)


@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize(("count", "size"), [(8, 4), (6, 6), (7, 3), (2, 5)])
def test_verl_steps_on_demonstrations_in_order_whatever_the_ranks(
    count: int, size: int, ranks: int
) -> None:
    steps = mini_batches(count, size=size, ranks=ranks, epochs=2)

    expected = [list(range(s, min(s + size, count))) for s in range(0, count, size)]
    assert [learned(step) for step in steps] == expected * 2


def test_loss_falls_on_the_response_and_never_on_prompt_or_padding() -> None:
    batch = sft_batch(
        [DemonstrationTokens([1, 2, 3], [4, 5], False), DemonstrationTokens([6], [7], False)],
        mini_batch_size=2,
        epochs=1,
        ranks=3,
        seed=0,
    )

    def rows(name: str) -> list[list[int]]:
        return [row.tolist() for row in batch[name].unbind()]

    assert rows("input_ids") == [
        [1, 2, 3, 4, 5],
        [6, 7],
        [6, 7],
    ]
    assert rows("loss_mask") == [
        [0, 0, 0, 1, 1],
        [0, 1],
        [0, 0],
    ]
    assert rows("position_ids") == [
        [0, 1, 2, 3, 4],
        [0, 1],
        [0, 1],
    ]
    assert batch["loss_mask"].dtype == torch.int64
    assert tu.get(batch, "mini_batch_size") == 3
    assert tu.get(batch, "temperature") == 1.0


@pytest.mark.parametrize(
    "bad", [DemonstrationTokens([], [4], False), DemonstrationTokens([4], [], False)]
)
def test_an_empty_prompt_or_response_is_an_error(bad: DemonstrationTokens) -> None:
    # The loss speaks of the next token: a row's last position must meet a prompt token.
    with pytest.raises(ValueError, match="must have prompt and response tokens"):
        sft_batch([demonstration(0), bad], mini_batch_size=2, epochs=1, ranks=1, seed=0)
