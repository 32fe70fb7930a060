"""Demonstrations are found by question, in the data set's column or in another file."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mifo_ext.data.demonstration_sources import (
    DatasetColumn,
    DemonstrationFile,
    Found,
    Question,
    solved_examples,
)
from mifo_ext.data.questions import question_id
from mifo_ext.data.tables import table_row, write_table

SYSTEM = {"role": "system", "content": "Think first."}


def asked(text: str, *, system: bool = True, target: object = None) -> Question:
    """A training question as the catalog hands it over."""
    messages = [*([SYSTEM] if system else []), {"role": "user", "content": text}]
    return Question(question_id(messages), messages, ground_truth="2", target=target)


def json_lines(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_the_column_gives_the_rows_own_target() -> None:
    column = DatasetColumn()
    one_turn = [{"role": "assistant", "content": "It is \\boxed{2}."}]

    assert column.find(asked("1+1?", target=one_turn)) == Found("It is \\boxed{2}.")
    assert column.find(asked("1+1?", target=None)) == Found(None, "no_demonstration")
    assert column.covers(asked("1+1?").messages)


def test_a_target_of_another_form_is_an_error() -> None:
    with pytest.raises(ValueError, match="`target` must be text"):
        DatasetColumn().find(asked("1+1?", target=7))


LAYOUTS = {
    "math": {"problem": "1+1?", "solution": "So \\boxed{2}."},
    "gsm8k": {"question": "1+1?", "answer": "Count.\n#### 2"},
    "a name of its own": {"instruction": "1+1?", "output": "So \\boxed{2}.", "gold": "2"},
    "messages": {"prompt": [{"role": "user", "content": " 1+1?\n"}], "response": "So \\boxed{2}."},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_file_without_the_system_prompt_matches_by_what_the_user_says(
    tmp_path: Path, layout: str
) -> None:
    file = DemonstrationFile(json_lines(tmp_path / "a.jsonl", LAYOUTS[layout]))
    text = "Count.\nThe answer is \\boxed{2}." if layout == "gsm8k" else "So \\boxed{2}."

    assert file.find(asked("1+1?")) == Found(text)
    assert file.find(asked("1+1?", system=False)) == Found(text)
    assert file.find(asked("\n1+1? ")) == Found(text)
    assert file.find(asked("1+2?")) == Found(None, "no_demonstration")
    assert file.covers(asked("1+1?").messages)
    assert not file.covers(asked("1+2?").messages)


def test_a_prepared_table_is_a_file_of_demonstrations(tmp_path: Path) -> None:
    prompt = asked("1+1?").messages
    row = table_row(prompt, answer="2", demonstration="\\boxed{2}", data_source="x", source_row=0)  # type: ignore[arg-type]
    write_table(tmp_path / "a.parquet", [row], split="train")

    assert DemonstrationFile(tmp_path / "a.parquet").find(asked("1+1?")) == Found("\\boxed{2}")


def test_the_whole_prompt_goes_before_what_the_user_says(tmp_path: Path) -> None:
    other = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1+1?"}]
    file = json_lines(
        tmp_path / "a.jsonl",
        {"prompt": other, "solution": "brief"},
        {"prompt": asked("1+1?").messages, "solution": "thoughtful"},
    )
    source = DemonstrationFile(file)

    assert source.find(asked("1+1?")).text == "thoughtful"
    # A third system prompt is nobody's: the first row that asks the same counts.
    assert source.find(asked("1+1?", system=False)).text == "brief"


def test_of_rows_with_the_same_question_the_first_with_a_solution_counts(tmp_path: Path) -> None:
    file = json_lines(
        tmp_path / "a.jsonl",
        {"question": "1+1?", "solution": None},
        {"question": "1+1?", "solution": "first"},
        {"question": "1+1?", "solution": "second"},
        {"question": "1+2?"},  # rows of a JSON file need not have the same keys
        {"question": "", "solution": "of nothing"},
    )
    source = DemonstrationFile(file)

    assert source.find(asked("1+1?")).text == "first"
    assert source.find(asked("1+1?", system=False)).text == "first"
    assert not source.covers(asked("1+2?").messages)
    assert not source.covers(asked("").messages)


def test_rows_are_read_across_batches_and_nulls_of_parquet(tmp_path: Path) -> None:
    rows = [{"question": f"{n}?", "solution": str(n) if n % 2 else None} for n in range(2500)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    source = DemonstrationFile(tmp_path / "a.parquet")

    assert [source.find(asked(f"{n}?")).text for n in (0, 1, 2499)] == [None, "1", "2499"]


ERRORS = {
    "no question": ({"q": "1+1?", "solution": "2"}, "must have a column with the question"),
    "no solution": ({"question": "1+1?", "answer": "2"}, "and one with the solution"),
    "no columns known": ({"x": 1}, "but has x. Rename its columns."),
    "no solutions": (
        {"question": "1+1?", "solution": None},
        "must have a question with a solution",
    ),
    "question of no known form": (
        {"question": 4, "solution": "2"},
        "`a.jsonl, row 1`: A question must be text",
    ),
    "message without content": (
        {"prompt": [{"role": "user"}], "solution": "2"},
        "`a.jsonl, row 1`: A message must have `role` and `content`, but has role",
    ),
    "solution of no known form": ({"question": "1+1?", "solution": 2}, "row 1`: `target` must be"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_a_file_that_cannot_serve_says_why(tmp_path: Path, case: str) -> None:
    row, message = ERRORS[case]
    with pytest.raises(ValueError, match=re.escape(message)):
        DemonstrationFile(json_lines(tmp_path / "a.jsonl", row))


def test_a_file_that_is_not_there_or_is_no_table_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"a\.jsonl must be a file, but does not exist"):
        DemonstrationFile(tmp_path / "a.jsonl")
    with pytest.raises(FileNotFoundError, match="or is a folder"):
        DemonstrationFile(tmp_path)
    (tmp_path / "b.parquet").write_text("PAR?")
    with pytest.raises(ValueError, match=r"`b\.parquet` must be a parquet file"):
        DemonstrationFile(tmp_path / "b.parquet")
    (tmp_path / "c.csv").write_text("a,b")
    with pytest.raises(ValueError, match=r"`c\.csv` must end in \.parquet"):
        list(solved_examples(tmp_path / "c.csv"))
