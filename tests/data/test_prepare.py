"""`mifo prepare data`: what is kept, what falls and why, and that it can be shown."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from transformers import AutoTokenizer

from mifo_ext.data.lengths import Lengths, read_lengths
from mifo_ext.data.prepare import Plan, Prepared, prepare
from mifo_ext.data.prompts import chat_format, system_prompt

Row = dict[str, Any]


def problem(number: int, **changes: Any) -> Row:
    """A problem with its solution: number + number."""
    total = str(2 * number)
    row = {"problem": f"{number}+{number}?", "answer": total, "solution": f"\\boxed{{{total}}}"}
    return {**row, **changes}


def write_jsonl(path: Path, rows: list[Row]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def written(folder: Path, split: str = "train") -> list[Row]:
    rows: list[Row] = pq.read_table(folder / f"{split}.parquet").to_pylist()
    return rows


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Prepared]:
    """Prepares the given rows into `tmp_path/out`."""

    def prepare_rows(rows: list[Row], *, lengths: Lengths | None = None, **plan: Any) -> Prepared:
        source = write_jsonl(tmp_path / "source.jsonl", rows)
        return prepare(Plan(source, tmp_path / "out", **plan), lengths=lengths)

    return prepare_rows


def test_a_row_has_luffys_schema(run: Callable[..., Prepared], tmp_path: Path) -> None:
    run([problem(1)], name="sums")

    assert written(tmp_path / "out") == [
        {
            "data_source": "sums",
            "prompt": [{"role": "user", "content": "1+1?"}],
            "target": [{"role": "assistant", "content": "\\boxed{2}"}],
            "ability": "math",
            "reward_model": {"style": "rule", "ground_truth": "2"},
            "extra_info": {"index": 0, "split": "train", "source_row": 0},
        }
    ]


def test_what_falls_is_counted_by_reason(run: Callable[..., Prepared], tmp_path: Path) -> None:
    rows = [
        problem(1),
        problem(2, solution="\\boxed{5}"),
        problem(3, solution="I do not know"),
        problem(4, solution=None),
        problem(5, answer=None),
        problem(6, problem=" "),
        problem(1, problem="1 + 1 ?"),
        problem(7),
    ]

    prepared = run(rows)

    assert prepared.tally.read == 8
    assert prepared.tally.fell == Counter(
        {
            "demonstration wrong": 1,
            "demonstration without an answer": 1,
            "no demonstration": 1,
            "no answer": 1,
            "no question": 1,
            "duplicate question": 1,
        }
    )
    kept = written(tmp_path / "out")
    assert [row["extra_info"]["source_row"] for row in kept] == [0, 7]
    assert [row["extra_info"]["index"] for row in kept] == [0, 1]


def test_a_second_chance_is_no_duplicate(run: Callable[..., Prepared], tmp_path: Path) -> None:
    run([problem(1, solution="\\boxed{3}"), problem(1)])

    assert [row["extra_info"]["source_row"] for row in written(tmp_path / "out")] == [1]


def test_questions_can_stay_without_their_demonstration(
    run: Callable[..., Prepared], tmp_path: Path
) -> None:
    prepared = run([problem(1), problem(2, solution="\\boxed{5}")], keep_questions=True)

    assert prepared.tally.stripped == Counter({"demonstration wrong": 1})
    assert not prepared.tally.fell
    assert [row["target"] is None for row in written(tmp_path / "out")] == [False, True]


def test_a_demonstration_within_a_thought_verifies_by_what_follows_it(
    run: Callable[..., Prepared],
) -> None:
    right = problem(1, solution="<think>\n\\boxed{9}</think>\n\\boxed{2}")
    wrong = problem(2, solution="<think>\n\\boxed{4}</think>\n\\boxed{9}")

    assert run([right, wrong]).tally.fell == Counter({"demonstration wrong": 1})


def test_nothing_left_is_an_error_with_the_reasons(run: Callable[..., Prepared]) -> None:
    with pytest.raises(ValueError, match=r"leaves none \(demonstration wrong 2\).*'solution'"):
        run([problem(1, solution="\\boxed{5}"), problem(2, solution="\\boxed{5}")])


def test_luffys_file_comes_through_with_its_own_prompt(tmp_path: Path) -> None:
    rows = [
        {
            "data_source": "openr1",
            "prompt": [{"role": "system", "content": "s"}, {"role": "user", "content": "1+1?"}],
            "target": [{"role": "assistant", "content": "<think>\nx</think>\\boxed{2}"}],
            "ability": "math",
            "reward_model": {"style": "rule", "ground_truth": "2"},
            "extra_info": {"split": "default", "index": 17},
        }
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "luffy.parquet")

    prepare(Plan(str(tmp_path / "luffy.parquet"), tmp_path / "out"))

    (row,) = written(tmp_path / "out")
    assert {key: row[key] for key in rows[0] if key != "extra_info"} == {
        key: value for key, value in rows[0].items() if key != "extra_info"
    }


@pytest.mark.parametrize(
    ("choice", "expected"), [("keep", ["user"]), ("none", ["user"]), ("luffy", ["system", "user"])]
)
def test_the_system_prompt_is_chosen(
    run: Callable[..., Prepared], tmp_path: Path, choice: str, expected: list[str]
) -> None:
    run([problem(1)], system=choice)

    prompt = written(tmp_path / "out")[0]["prompt"]
    assert [message["role"] for message in prompt] == expected
    if choice == "luffy":
        assert prompt[0]["content"] == chat_format("luffy").system


def test_a_system_prompt_can_be_a_file(run: Callable[..., Prepared], tmp_path: Path) -> None:
    (tmp_path / "system.txt").write_text("Be brief.\n")

    run([problem(1)], system=str(tmp_path / "system.txt"))

    assert written(tmp_path / "out")[0]["prompt"][0] == {"role": "system", "content": "Be brief."}


def test_an_unknown_system_prompt_is_refused_before_anything_is_read() -> None:
    with pytest.raises(ValueError, match="`--system` must be keep, none, luffy or a text file"):
        prepare(Plan("missing.jsonl", Path("out"), system="lufy"))


def test_luffys_system_prompt_shows_how_a_thought_is_written() -> None:
    text = system_prompt("luffy")
    assert text is not None
    assert '"<think>\n {thoughts} </think>\n"' in text
    assert text.endswith("like multiple choices or mathematical solutions.")


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
