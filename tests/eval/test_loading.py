"""A benchmark is loaded whole or not at all, and is the same from every kind of file."""

import csv
import dataclasses
import hashlib
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mifo_ext.eval.loading import load, problem_id
from tests.support.benchmark_files import (
    CONTENT,
    LAYOUTS,
    PAIRS,
    SUMS,
    Write,
    golds,
    luffy,
    plain,
    told,
)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_problems(layout: str, write: Write) -> None:
    loaded = load(SUMS, path=write(LAYOUTS[layout]))

    assert [problem.question for problem in loaded.problems] == ["1+1?", "$1+2$?", "1+3?"]
    assert golds(loaded) == ["2", "3", "4"]
    assert loaded.content == CONTENT


@pytest.mark.parametrize("suffix", ["parquet", "json", "csv"])
def test_every_kind_of_file_is_read(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"sums.{suffix}"
    if suffix == "parquet":
        pq.write_table(pa.Table.from_pylist(plain()), path)
    elif suffix == "json":
        path.write_text(json.dumps(plain()))
    else:
        with path.open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, ["problem", "answer"])
            table.writeheader()
            table.writerows(plain())

    loaded = load(SUMS, path=path)

    assert loaded.content == CONTENT
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert loaded.source == {"file": path.name, "sha256": digest, "rows": 3}


@given(order=st.permutations(PAIRS * 2))
def test_order_and_repetition_change_neither_ids_nor_content(
    order: list[tuple[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("rows") / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in plain(order)))

    loaded = load(SUMS, path=path)

    assert loaded.content == CONTENT
    assert {p.id: p.gold for p in loaded.problems} == {problem_id(q): a for q, a in PAIRS}
    assert "Each question stands 2 times in the file and counts once." in loaded.notes


def test_the_id_is_twelve_digits_of_the_questions_normal_form() -> None:
    assert problem_id(" $1 + 1$ ?") == hashlib.sha256(b"1+1").hexdigest()[:12]


def test_a_file_of_several_benchmarks_gives_the_rows_that_are_ours(write: Write) -> None:
    rows = luffy([("9+9?", "18")], "amc") + luffy(PAIRS, "sum") + luffy([("7?", "7")], "math")

    loaded = load(SUMS, path=write(rows))

    assert loaded.content == CONTENT
    assert "Took 3 of the 5 rows of data.jsonl." in loaded.notes


def test_rows_that_say_they_are_another_benchmark_are_refused(write: Write) -> None:
    assert "must hold sums, but its rows are of amc" in told(SUMS, write(luffy(PAIRS, "amc")))


def test_one_label_that_nobody_knows_is_taken_for_ours_and_several_are_not(write: Write) -> None:
    assert load(SUMS, path=write(luffy(PAIRS, "my/own"))).content == CONTENT
    mixed = luffy(PAIRS[:2], "my/own") + luffy(PAIRS[2:], "my/other")
    assert "its rows are of my/other, my/own" in told(SUMS, write(mixed))


def test_a_missing_question_is_told_with_both_numbers(write: Write) -> None:
    assert told(SUMS, write(plain(PAIRS[:2]))).startswith(
        "sums must have 3 different questions, but data.jsonl has 2."
    )


def test_a_known_copy_of_another_size_is_accepted_by_its_name(write: Write) -> None:
    known = dataclasses.replace(SUMS, rows=4, contents={"small": CONTENT})

    loaded = load(known, path=write(plain()))

    assert loaded.copy == "small"
    assert loaded.notes == ["The copy small has 3 questions; others have 4."]


def test_an_unknown_copy_is_told_and_a_known_one_is_silent(write: Write) -> None:
    path = write(plain())
    assert load(dataclasses.replace(SUMS, contents={"own": CONTENT}), path=path).notes == []
    other = load(dataclasses.replace(SUMS, contents={"own": "0" * 64}), path=path)
    assert other.copy is None
    assert "is that of no known copy (own)" in other.notes[0]


def test_the_content_of_another_benchmark_is_refused(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = dataclasses.replace(SUMS, name="other", contents={"first": CONTENT})
    monkeypatch.setattr("mifo_ext.eval.loading.benchmarks", lambda: {"other": other})
    assert told(SUMS, write(plain())) == "data.jsonl must hold sums, but holds other (copy first)."


def test_one_question_with_two_golds_is_told_with_its_rows(write: Write) -> None:
    message = told(SUMS, write(plain([*PAIRS, ("1 + 1?", "3")])))
    assert "rows 1 and 4 say '2' and '3' for '1 + 1?'" in message


def test_the_same_gold_in_two_spellings_is_one_gold(write: Write) -> None:
    assert len(load(SUMS, path=write(plain([*PAIRS, ("1+1?", "02")]))).problems) == 3


def test_a_private_question_is_never_quoted(write: Write) -> None:
    private = dataclasses.replace(SUMS, private=True)
    message = told(private, write(plain([*PAIRS, ("1 + 1?", "3")])))
    assert problem_id("1+1?") in message
    assert "1 + 1" not in message
