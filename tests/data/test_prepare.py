"""`mifo prepare data`: what is kept, what falls and why."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mifo_ext.data.prepare import Plan, Prepared, prepare
from mifo_ext.data.prompts import chat_format, system_prompt
from tests.support.prepared import problem, written


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
