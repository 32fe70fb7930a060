"""Fixtures that several files share."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.benchmark_files import Row, Write


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_lines(rows: Sequence[Row]) -> Path:
        path = tmp_path / "data.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    return write_lines
