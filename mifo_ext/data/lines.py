"""JSON lines that are on the disk when a call returns, or not at all but for a torn end."""

from __future__ import annotations

import json
import os
from io import FileIO


def json_line(value: object) -> bytes:
    """One line of JSON in ASCII, since half a surrogate pair has no UTF-8.

    Nor can a line separator that a text holds end the line for some reader.

    Raises:
        ValueError: when a number is not finite.
    """
    return json.dumps(value, ensure_ascii=True, allow_nan=False).encode() + b"\n"


def append_lines(file: FileIO, lines: bytes) -> None:
    """Write lines at the end of a file; they are on the disk when this returns.

    Args:
        file: opened for appending with `buffering=0`: what a buffer could not write, it would
            write again when it is closed, behind the part that did get through.
        lines: each with its line end.

    Raises:
        OSError: when they cannot be written; the last of them may then be torn.
    """
    while lines:
        lines = lines[file.write(lines) :]
    os.fsync(file.fileno())
