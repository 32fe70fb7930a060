"""What is set aside, checked against benchmarks, written and refused."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from mifo_ext.data.lengths import Lengths, read_lengths
from mifo_ext.data.prepare import Prepared
from tests.support.prepared import problem, write_jsonl, written


def test_questions_set_aside_are_chosen_by_the_seed(
    run: Callable[..., Prepared], tmp_path: Path
) -> None:
    rows = [problem(number) for number in range(20)]

    def aside(seed: int) -> list[str]:
        run(rows, validation="5", seed=seed)
        train = {row["prompt"][0]["content"] for row in written(tmp_path / "out")}
        held = [row["prompt"][0]["content"] for row in written(tmp_path / "out", "validation")]
        assert len(train) == 15
        assert not train & set(held)
        return held

    assert aside(0) == aside(0)
    assert aside(0) != aside(1)


@pytest.mark.parametrize(("rows", "aside"), [(19, 0), (40, 2), (11_000, 500)])
def test_one_in_twenty_is_set_aside_by_itself_and_500_at_most(
    run: Callable[..., Prepared], tmp_path: Path, rows: int, aside: int
) -> None:
    prepared = run([problem(number) for number in range(rows)], validation="auto")

    assert (len(prepared.train), len(prepared.validation)) == (rows - aside, aside)
    numbers = [row["extra_info"]["index"] for row in written(tmp_path / "out")]
    assert numbers == list(range(rows - aside))


def test_a_validation_file_keeps_its_repeated_rows_and_counts_as_a_benchmark(
    run: Callable[..., Prepared], tmp_path: Path
) -> None:
    validation = write_jsonl(tmp_path / "valid.jsonl", [problem(1), problem(1), problem(9)])

    prepared = run([problem(1), problem(2)], validation=validation)

    assert len(written(tmp_path / "out", "validation")) == 3
    assert prepared.tally.overlap == Counter({validation: 1})
    assert prepared.train[0]["reward_model"]["ground_truth"] == "2"


def test_questions_of_a_benchmark_are_warned_of_or_dropped(
    run: Callable[..., Prepared], tmp_path: Path
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first = write_jsonl(tmp_path / "a" / "test.jsonl", [problem(1)])
    second = write_jsonl(tmp_path / "b" / "test.jsonl", [problem(2)])
    rows = [problem(1), problem(2), problem(3)]

    warned = run(rows, benchmarks=(first, second))
    assert len(warned.train) == 3
    assert warned.tally.overlap == Counter({first: 1, second: 1})
    assert warned.warnings[0].startswith("2 training questions stand in a benchmark and are kept")

    dropped = run(rows, benchmarks=(first, second), drop_overlap=True)
    assert len(dropped.train) == 1
    assert dropped.tally.fell == Counter({"stands in a benchmark": 2})


def test_answers_taken_from_the_demonstrations_are_owned_up_to(
    run: Callable[..., Prepared],
) -> None:
    prepared = run([{"question": "q", "answer": "so <<1+1=2>>2\n#### 2"}])

    assert prepared.warnings[0].startswith("The answers come from the demonstrations themselves")


def test_what_is_too_long_falls(run: Callable[..., Prepared], tiny_tokenizer_folder: Path) -> None:
    rows = [
        problem(1),  # prompt `user: 1+1?\nassistant: `, 22 tokens; demonstration 9 and EOS
        problem(111, problem="111+111?"),  # prompt 26
        problem(50),  # prompt 24; demonstration 11 and EOS
    ]

    tokenizer = AutoTokenizer.from_pretrained(tiny_tokenizer_folder)
    prepared = run(rows, lengths=Lengths(tokenizer, max_prompt=24, max_response=10))
    assert prepared.tally.fell == Counter({"question too long": 1, "demonstration too long": 1})

    prepared = run(
        rows, lengths=read_lengths(str(tiny_tokenizer_folder), max_prompt=26, max_response=12)
    )
    assert not prepared.tally.fell


def test_hashes_and_settings_are_written(run: Callable[..., Prepared], tmp_path: Path) -> None:
    run([problem(1), problem(2, solution=None)], system="luffy")

    record = json.loads((tmp_path / "out" / "prepare.json").read_text())
    train = (tmp_path / "out" / "train.parquet").read_bytes()
    source = (tmp_path / "source.jsonl").read_bytes()
    assert record["outputs"] == {
        "train.parquet": {"rows": 1, "sha256": hashlib.sha256(train).hexdigest()}
    }
    assert record["sources"] == [
        {"file": "source.jsonl", "sha256": hashlib.sha256(source).hexdigest(), "rows": 2}
    ]
    assert record["rows_read"] == 2
    assert record["tally"]["fell"] == {"no demonstration": 1}
    assert record["settings"]["system"] == "luffy"


def test_the_same_source_gives_the_same_bytes(run: Callable[..., Prepared], tmp_path: Path) -> None:
    rows = [problem(number) for number in range(30)]
    run(rows, validation="7")
    first = [
        (tmp_path / "out" / f"{name}.parquet").read_bytes() for name in ("train", "validation")
    ]
    run(rows, validation="7")
    second = [
        (tmp_path / "out" / f"{name}.parquet").read_bytes() for name in ("train", "validation")
    ]

    assert first == second


def test_an_old_validation_file_does_not_outlive_its_run(
    run: Callable[..., Prepared], tmp_path: Path
) -> None:
    run([problem(1), problem(2)], validation="1")
    run([problem(1), problem(2)])

    assert not (tmp_path / "out" / "validation.parquet").exists()


def test_verl_reads_what_was_written(
    run: Callable[..., Prepared], tiny_tokenizer_folder: Path, tmp_path: Path
) -> None:
    from datasets import load_dataset

    run([problem(number) for number in range(3)], keep_questions=True)

    table = load_dataset(
        "parquet", data_files=str(tmp_path / "out" / "train.parquet"), cache_dir=str(tmp_path)
    )["train"]
    tokenizer = AutoTokenizer.from_pretrained(tiny_tokenizer_folder)
    rendered = tokenizer.apply_chat_template(
        table[2]["prompt"], add_generation_prompt=True, tokenize=False
    )
    assert rendered == "user: 2+2?\nassistant: "


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ({"limit": 0}, "`--limit` must be at least 1"),
        ({"validation": "0"}, "`--validation` must be at least 1"),
        ({"validation": "-3"}, "`--validation` must be at least 1"),
        ({"validation": "2"}, "must be below the number of rows kept, 2"),
        ({"answer_column": "gold"}, "`--answer-column` must be one of problem, answer, solution"),
    ],
)
def test_impossible_plans_are_refused(
    run: Callable[..., Prepared], plan: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        run([problem(1), problem(2)], **plan)


def test_a_row_that_cannot_be_read_is_named(run: Callable[..., Prepared]) -> None:
    with pytest.raises(ValueError, match=r"Row 1 of source cannot be read: `target` must be"):
        run([problem(1), problem(2, solution=[1, 2])])
