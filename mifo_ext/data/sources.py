"""Where rows come from: local files, folders, or a data set on the hub."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mifo_ext.data.columns import Row

SUFFIXES = (".parquet", ".jsonl", ".json")
ROWS_AT_ONCE = 1000


@dataclass(frozen=True)
class Source:
    """Rows, and what they came from.

    Attributes:
        name: short name, for `data_source`.
        rows: every row, as plain Python values.
        provenance: what `prepare.json` says about it.
    """

    name: str
    rows: list[Row]
    provenance: dict[str, object]


def read_source(source: str, *, revision: str | None = None, split: str = "train") -> Source:
    """Read a data set.

    Args:
        source: a .parquet, .jsonl or .json file, a folder of them, or a hub id.
        revision: commit, tag or branch of a hub data set.
        split: its split, for a folder or a hub data set.

    Raises:
        FileNotFoundError: when a path does not exist.
        ValueError: for an unknown kind of file, an unreadable or an empty one.
    """
    path = Path(source).expanduser()
    if path.is_file():
        found = _read_file(path)
    elif path.is_dir():
        found = _read_folder(path.resolve(), split=split)
    elif _is_hub_id(source):
        found = _read_hub(source, revision=revision, split=split)
    else:
        raise FileNotFoundError(
            f"{source} must be a file, a folder or a hub id such as owner/name, but is none."
        )
    if not found.rows:
        raise ValueError(f"{source} must hold at least one row, but is empty.")
    return found


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _is_hub_id(source: str) -> bool:
    parts = source.split("/")
    return len(parts) == 2 and all(parts) and not source.endswith(SUFFIXES) and parts[0] != "."


def rows_of(path: Path) -> Iterator[Row]:
    """Read a file's rows one by one, as plain Python values.

    Args:
        path: a .parquet, .jsonl or .json file.

    Raises:
        ValueError: for an unknown kind of file or an unreadable one.
    """
    if path.suffix == ".parquet":
        yield from _parquet_rows(path)
    elif path.suffix in SUFFIXES:
        try:
            yield from _json_rows(path)
        except UnicodeDecodeError as error:
            raise ValueError(f"`{path.name}` must be UTF-8 text, but is not ({error}).") from error
    else:
        raise ValueError(f"`{path.name}` must end in {', '.join(SUFFIXES)}, but does not.")


def _read_file(path: Path) -> Source:
    rows = list(rows_of(path))
    provenance: dict[str, object] = {"file": path.name, "sha256": sha256(path), "rows": len(rows)}
    return Source(name=path.stem, rows=rows, provenance=provenance)


def _parquet_rows(path: Path) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as table:
            for batch in table.iter_batches(batch_size=ROWS_AT_ONCE):
                yield from batch.to_pylist()
    except pa.ArrowInvalid as error:
        raise ValueError(f"`{path.name}` must be a parquet file, but {error}.") from error


def _json_rows(path: Path) -> Iterator[Row]:
    if path.suffix == ".json":
        rows = _parsed(path.read_text(encoding="utf-8"), where=path.name)
        if not isinstance(rows, list):
            raise ValueError(f"`{path.name}` must be a list of rows, but is not.")
        yield from (_row(row, where=path.name) for row in rows)
        return
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                where = f"{path.name}, line {number}"
                yield _row(_parsed(line, where=where), where=where)


def _parsed(text: str, *, where: str) -> object:
    try:
        value: object = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"`{where}` must be JSON, but is not ({error}).") from error
    return value


def _row(value: object, *, where: str) -> Row:
    if not isinstance(value, dict):
        raise ValueError(f"`{where}` must be an object, but is {type(value).__name__}.")
    return value


def _read_hub(source: str, *, revision: str | None, split: str) -> Source:
    from huggingface_hub import snapshot_download

    folder = Path(
        snapshot_download(
            source,
            repo_type="dataset",
            revision=revision,
            allow_patterns=[f"*{suffix}" for suffix in SUFFIXES],
        )
    )
    found = _read_folder(folder, split=split)
    # The hub's cache names a snapshot's folder after its commit.
    hub = {"dataset": source, "revision": revision, "commit": folder.name}
    return Source(source.split("/")[-1], found.rows, {**found.provenance, **hub})


def _read_folder(folder: Path, *, split: str) -> Source:
    from datasets import load_dataset

    files = sorted(path for path in folder.rglob("*") if path.suffix in SUFFIXES)
    if not files:
        raise FileNotFoundError(f"{folder} must hold {', '.join(SUFFIXES)} files, but holds none.")
    rows = list(load_dataset(str(folder), split=split))
    provenance: dict[str, object] = {
        "dataset": folder.name,
        "split": split,
        "rows": len(rows),
        "files": {str(path.relative_to(folder)): sha256(path) for path in files},
    }
    return Source(name=folder.name, rows=rows, provenance=provenance)
