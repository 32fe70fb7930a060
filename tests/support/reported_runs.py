"""Small runs to report on, whose numbers can be checked by eye."""

import json
from collections.abc import Mapping
from pathlib import Path

PNG = b"\x89PNG\r\n\x1a\n"


def acc(source: str, samples: int = 1) -> str:
    return f"val-core/{source}/acc/mean@{samples}"


def line(step: int, data: Mapping[str, float | None]) -> str:
    # As verl's file logger writes it: orjson puts no space anywhere.
    return json.dumps({"step": step, "data": data}, separators=(",", ":")) + "\n"


def write_run(folder: Path, rows: Mapping[int, Mapping[str, float | None]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    text = "".join(line(step, data) for step, data in rows.items())
    (folder / "metrics.jsonl").write_text(text)
    return folder
