"""Rows come from files, folders and the hub's cache, with what they came from."""

import hashlib
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import constants

from mifo_ext.data.sources import read_source

ROWS = [{"question": "1+1?", "answer": "2"}, {"question": "a\u2028b", "answer": "3"}]


def lines(rows: list[dict[str, str]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "data.jsonl").write_text(lines(ROWS) + "\n", encoding="utf-8")
    (tmp_path / "data.json").write_text(json.dumps(ROWS))
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "data.parquet")
    return tmp_path


@pytest.mark.parametrize("suffix", ["jsonl", "json", "parquet"])
def test_every_kind_of_file_gives_the_same_rows(files: Path, suffix: str) -> None:
    source = read_source(str(files / f"data.{suffix}"))

    # U+2028 ends a line for str.splitlines, but not in JSON lines.
    assert source.rows == ROWS
    assert source.name == "data"
    content = (files / f"data.{suffix}").read_bytes()
    assert source.provenance["sha256"] == hashlib.sha256(content).hexdigest()


def test_a_folder_is_read_by_its_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "sums"
    folder.mkdir()
    (folder / "train.jsonl").write_text(lines(ROWS[:1]))
    (folder / "test.jsonl").write_text(lines(ROWS[1:]))

    assert read_source(str(folder)).rows == ROWS[:1]
    assert read_source(str(folder), split="test").rows == ROWS[1:]
    assert set(read_source(str(folder)).provenance["files"]) == {"train.jsonl", "test.jsonl"}


def test_a_hub_data_set_is_pinned_to_its_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    commit = "0123456789abcdef0123456789abcdef01234567"
    cached = tmp_path / "hub" / "datasets--owner--sums"
    (cached / "snapshots" / commit).mkdir(parents=True)
    (cached / "snapshots" / commit / "train.jsonl").write_text(lines(ROWS[:1]))
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(commit)

    source = read_source("owner/sums", revision="main")

    assert source.rows == ROWS[:1]
    assert source.name == "sums"
    assert source.provenance["dataset"] == "owner/sums"
    assert source.provenance["commit"] == commit


@pytest.mark.parametrize("missing", ["nowhere.jsonl", "no/where.parquet", "a/b/c", "justaname"])
def test_a_missing_source_is_refused(missing: str) -> None:
    with pytest.raises(FileNotFoundError, match="must be a file, a folder or a hub id"):
        read_source(missing)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.jsonl", "", "must hold at least one row, but is empty"),
        ("empty.json", "[]", "must hold at least one row, but is empty"),
        ("broken.jsonl", '{"a": 1}\n{"a"', "`broken.jsonl, line 2` must be JSON"),
        ("list.jsonl", "[1]\n", "`list.jsonl, line 1` must be an object, but is list"),
        ("object.json", "{}", "`object.json` must be a list of rows"),
        ("broken.parquet", "PAR?", "`broken.parquet` must be a parquet file"),
        ("data.csv", "a,b", r"`data.csv` must end in .parquet, .jsonl, .json"),
    ],
)
def test_unreadable_files_say_where_and_why(
    tmp_path: Path, name: str, content: str, message: str
) -> None:
    (tmp_path / name).write_text(content)

    with pytest.raises(ValueError, match=message):
        read_source(str(tmp_path / name))


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data.jsonl").write_bytes(b"\xff\xfe")

    with pytest.raises(ValueError, match=r"`data\.jsonl` must be UTF-8 text"):
        read_source(str(tmp_path / "data.jsonl"))


def test_a_folder_without_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"must hold .parquet, .jsonl, .json files"):
        read_source(str(tmp_path))
