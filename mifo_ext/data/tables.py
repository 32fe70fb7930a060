"""LUFFY's table: the schema that training and validation files have."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

import pyarrow as pa
import pyarrow.parquet as pq

from mifo_ext.data.prompts import Message

ROWS_PER_GROUP = 1000

_MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
SCHEMA = pa.schema(
    [
        ("data_source", pa.string()),
        ("prompt", _MESSAGES),
        ("target", _MESSAGES),
        ("ability", pa.string()),
        ("reward_model", pa.struct([("style", pa.string()), ("ground_truth", pa.string())])),
        (
            "extra_info",
            pa.struct([("index", pa.int64()), ("split", pa.string()), ("source_row", pa.int64())]),
        ),
    ]
)


class RewardModel(TypedDict):
    """How an answer is graded."""

    style: str
    ground_truth: str


class ExtraInfo(TypedDict):
    """Where a row stands: in its own file (`index`, unique there) and in the source."""

    index: int
    split: str
    source_row: int


class TableRow(TypedDict):
    """One question of a training or validation file."""

    data_source: str
    prompt: list[Message]
    target: list[Message] | None
    ability: str
    reward_model: RewardModel
    extra_info: ExtraInfo


def table_row(
    prompt: list[Message],
    *,
    answer: str,
    demonstration: str | None,
    data_source: str,
    source_row: int,
) -> TableRow:
    """Build a row; `index` and `split` are set when it is written.

    Args:
        prompt: the conversation, system prompt included.
        answer: the ground truth.
        demonstration: a worked answer, or None.
        data_source: which data set the question is from.
        source_row: its row there.
    """
    target = None
    if demonstration is not None:
        target = [Message(role="assistant", content=demonstration)]
    return TableRow(
        data_source=data_source,
        prompt=prompt,
        target=target,
        ability="math",
        reward_model=RewardModel(style="rule", ground_truth=answer),
        extra_info=ExtraInfo(index=-1, split="", source_row=source_row),
    )


def write_table(path: Path, rows: Sequence[TableRow], *, split: str) -> None:
    """Write rows as parquet, numbered from 0; the file appears only when it is whole.

    Args:
        path: the file.
        rows: at least one.
        split: "train" or "validation".
    """
    unfinished = path.with_suffix(".unfinished")
    with pq.ParquetWriter(unfinished, SCHEMA) as writer:
        for start in range(0, len(rows), ROWS_PER_GROUP):
            group = [
                {
                    **row,
                    "extra_info": {**row["extra_info"], "index": start + offset, "split": split},
                }
                for offset, row in enumerate(rows[start : start + ROWS_PER_GROUP])
            ]
            writer.write_table(pa.Table.from_pylist(group, schema=SCHEMA))
    os.replace(unfinished, path)
