"""Records on disk: one JSON line each, written as they come, never lost and never half read.

A process that dies leaves at most one torn last line; it is cut off when the file is opened again.
When everything is there the lines are put into the order of the plan, so that a run that was
interrupted ends with the same file as one that was not.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, TypeVar

from mifo_ext.data.lines import append_lines, json_line
from mifo_ext.eval.record import GradeLine, Place, Problem, Sample

Record = TypeVar("Record", Problem, Sample, GradeLine)
Placed = TypeVar("Placed", Sample, GradeLine)


def read_records(path: Path, kind: type[Record]) -> list[Record]:
    """Read every whole line.

    Args:
        path: the file; a missing one is empty.
        kind: class of the records.

    Raises:
        ValueError: when a line other than a torn last one is not such a record.
    """
    if not path.exists():
        return []
    text = path.read_bytes()
    whole = text[: text.rfind(b"\n") + 1]
    return [
        _record(line, kind, where=f"{path.name}, line {number}")
        for number, line in enumerate(whole.split(b"\n")[:-1], start=1)
    ]


def write_records(path: Path, records: Iterable[Problem | Sample | GradeLine]) -> None:
    """Write a file anew; the old one stays until the new one is whole and on the disk."""
    unfinished = path.with_suffix(".unfinished")
    with unfinished.open("wb") as file:
        for record in records:
            file.write(json_line(asdict(record)))
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


class Log(Generic[Placed]):
    """A file of records that grows; a context manager.

    Attributes:
        path: where it lies.
        records: what it holds, by place; of two lines for one place the later counts.
    """

    def __init__(self, path: Path, kind: type[Placed]) -> None:
        """Open a file, cutting off a torn last line.

        Args:
            path: the file; made when it is missing.
            kind: class of the records.

        Raises:
            ValueError: when the file holds something else.
        """
        self.path = path
        self.records: dict[Place, Placed] = {
            record.place: record for record in read_records(path, kind)
        }
        self._file = path.open("ab", buffering=0)
        self._file.truncate(_whole_size(path))

    def add(self, records: Sequence[Placed]) -> None:
        """Append records; when this returns they are on the disk."""
        append_lines(self._file, b"".join(json_line(asdict(record)) for record in records))
        self.records.update((record.place, record) for record in records)

    def settle(self, order: Iterable[Place]) -> None:
        """Keep exactly the places named, in this order; the log is closed by it.

        Args:
            order: the plan; places without a record are passed over.
        """
        self.close()
        wanted = [self.records[place] for place in order if place in self.records]
        write_records(self.path, wanted)

    def close(self) -> None:
        """Close the file; may be called again."""
        self._file.close()

    def __enter__(self) -> Log[Placed]:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def write_json(path: Path, value: object) -> None:
    """Write a JSON file; the old one stays until the new one is whole."""
    unfinished = path.with_suffix(".unfinished")
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    # A lone surrogate, which a model can well write, has no UTF-8 form.
    unfinished.write_text(text + "\n", encoding="utf-8", errors="backslashreplace")
    unfinished.replace(path)


def _record(line: bytes, kind: type[Record], *, where: str) -> Record:
    try:
        fields: dict[str, Any] = json.loads(line)
        return kind(**{name: _frozen(value) for name, value in fields.items()})
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(
            f"`{where}` must be a {kind.__name__.lower()}, but is not ({error}). Everything that "
            "was drawn may still be there: mend the line or delete it, and run again."
        ) from error


def _frozen(value: object) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _whole_size(path: Path) -> int:
    text = path.read_bytes()
    return text.rfind(b"\n") + 1
