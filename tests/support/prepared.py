"""Small sources to prepare."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

Row = dict[str, Any]


def problem(number: int, **changes: Any) -> Row:
    """A problem with its solution: number + number."""
    total = str(2 * number)
    row = {"problem": f"{number}+{number}?", "answer": total, "solution": f"\\boxed{{{total}}}"}
    return {**row, **changes}


def write_jsonl(path: Path, rows: list[Row]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def written(folder: Path, split: str = "train") -> list[Row]:
    rows: list[Row] = pq.read_table(folder / f"{split}.parquet").to_pylist()
    return rows
