"""One SFT interval's demonstrations as the tensors verl's workers take."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from tensordict import TensorDict
from verl.utils import tensordict_utils as tu

from mifo_ext.adapters.demonstrations import DemonstrationTokens


def layout(count: int, *, mini_batch_size: int, ranks: int) -> list[list[int | None]]:
    """Spread demonstrations over mini-batches and ranks, padding where they do not divide.

    verl cuts a batch into one contiguous piece a rank, then each piece into mini-batches.

    Args:
        count: demonstrations, at least 1.
        mini_batch_size: demonstrations of one optimizer step, over all ranks.
        ranks: data-parallel ranks.

    Returns:
        For each rank its rows in order, all equally long: a demonstration's number, or None for a
        row that only pads. Every mini-batch holds `ceil(mini_batch_size / ranks)` rows a rank.
    """
    if count < 1 or mini_batch_size < 1 or ranks < 1:
        raise ValueError(
            "`count`, `mini_batch_size` and `ranks` must be at least 1, but are "
            f"{count}, {mini_batch_size} and {ranks}."
        )
    share = -(-mini_batch_size // ranks)
    rows: list[list[int | None]] = [[] for _ in range(ranks)]
    for start in range(0, count, mini_batch_size):
        members: list[int | None] = list(range(start, min(start + mini_batch_size, count)))
        members += [None] * (share * ranks - len(members))
        for rank in range(ranks):
            rows[rank] += members[rank * share : (rank + 1) * share]
    return rows


def sft_batch(
    demonstrations: Sequence[DemonstrationTokens],
    *,
    mini_batch_size: int,
    epochs: int,
    ranks: int,
    seed: int,
    with_entropy: bool = False,
) -> TensorDict:
    """Build the batch of one SFT interval, or of one step of an SFT phase.

    Args:
        demonstrations: what to learn, at least one.
        mini_batch_size: demonstrations of one optimizer step, over all ranks.
        epochs: passes over the demonstrations.
        ranks: data-parallel ranks.
        seed: of verl's loader; rows are not shuffled.
        with_entropy: whether the loss takes a gradient through the entropy.

    Returns:
        Jagged `input_ids`, `position_ids`, `loss_mask` (1 on the demonstration, 0 on the prompt;
        0 everywhere in a row that only pads), and the settings that verl's workers read.

    Raises:
        ValueError: if a prompt or a response is empty.
    """
    _refuse_empty(demonstrations)
    order = layout(len(demonstrations), mini_batch_size=mini_batch_size, ranks=ranks)
    filler = min(demonstrations, key=lambda d: len(d.prompt_ids) + len(d.response_ids))
    ids, masks = [], []
    for number in itertools.chain.from_iterable(order):
        chosen = filler if number is None else demonstrations[number]
        ids.append(torch.tensor(chosen.prompt_ids + chosen.response_ids))
        mask = torch.zeros(len(ids[-1]), dtype=torch.int64)
        if number is not None:
            mask[len(chosen.prompt_ids) :] = 1
        masks.append(mask)
    share = -(-mini_batch_size // ranks)
    return tu.get_tensordict(
        tensor_dict={
            "input_ids": _jagged(ids),
            "position_ids": _jagged([torch.arange(len(row)) for row in ids]),
            "loss_mask": _jagged(masks),
        },
        non_tensor_dict={
            **_worker_settings(share * ranks, epochs=epochs, seed=seed),
            "calculate_entropy": with_entropy,
        },
    )


def _refuse_empty(demonstrations: Sequence[DemonstrationTokens]) -> None:
    for index, demonstration in enumerate(demonstrations):
        # A row's last position speaks of the next row's first token, which must not carry loss.
        if not demonstration.prompt_ids or not demonstration.response_ids:
            raise ValueError(
                f"Demonstration {index} must have prompt and response tokens, but has "
                f"{len(demonstration.prompt_ids)} and {len(demonstration.response_ids)}. "
                "Look at its question, its solution and the chat template."
            )


def _worker_settings(mini_batch_rows: int, *, epochs: int, seed: int) -> dict[str, Any]:
    return {
        "temperature": 1.0,
        "global_batch_size": mini_batch_rows,
        "mini_batch_size": mini_batch_rows,
        "epochs": epochs,
        "seed": seed,
        "dataloader_kwargs": {"shuffle": False},
    }


def _jagged(rows: list[torch.Tensor]) -> torch.Tensor:
    return torch.nested.as_nested_tensor(rows, layout=torch.jagged)
