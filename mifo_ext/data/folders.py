"""Folders that are whole or absent."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_folder(out: Path, *, mark: str) -> Iterator[Path]:
    """Yield a folder to write into, and put it in the place of `out` when all went well.

    Args:
        out: where the folder shall be. An earlier result there is replaced.
        mark: a file that every result has; a folder without it is nobody's to replace.

    Raises:
        FileExistsError: when `out` holds files but no `mark`, or is a file.
    """
    if out.is_file() or (out.is_dir() and any(out.iterdir()) and not (out / mark).is_file()):
        raise FileExistsError(f"{out} must be empty or an earlier result, but holds other files.")
    unfinished = out.with_name(f"{out.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        yield unfinished
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    if out.is_dir():
        shutil.rmtree(out)
    unfinished.rename(out)
