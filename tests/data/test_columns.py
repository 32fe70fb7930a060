"""Questions, answers and demonstrations are found under whatever names they have."""

import pytest

from mifo_ext.data.columns import (
    Columns,
    find_columns,
    gsm8k_demonstration,
    last_boxed,
    read_example,
)

GSM8K = {
    "question": "Half of 48?",
    "answer": "It is 48/2 = <<48/2=24>>24.\n#### 24",
}
MATH = {"problem": "1+1?", "solution": "So $\\boxed{2}$.", "level": "Level 1"}
LUFFY = {
    "data_source": "openr1",
    "prompt": [{"role": "system", "content": "s"}, {"role": "user", "content": "1+1?"}],
    "target": [{"role": "assistant", "content": "<think>\nx</think>\\boxed{2}"}],
    "reward_model": {"style": "rule", "ground_truth": "2"},
}


@pytest.mark.parametrize(
    ("row", "columns"),
    [
        (GSM8K, Columns("gsm8k", "question", "answer", "answer")),
        (MATH, Columns("plain", "problem", None, "solution")),
        ({**MATH, "answer": "2"}, Columns("plain", "problem", "answer", "solution")),
        (LUFFY, Columns("luffy", "prompt", "reward_model", "target")),
        (
            {"prompt": "1+1?", "response": "2", "ground_truth": "2"},
            Columns("plain", "prompt", "ground_truth", "response"),
        ),
        ({"question": "1+1?", "answer": "2"}, Columns("plain", "question", "answer", None)),
    ],
    ids=["gsm8k", "math", "math with answers", "luffy", "plain", "benchmark"],
)
def test_families_are_recognised(row: dict[str, object], columns: Columns) -> None:
    assert find_columns(row) == columns


def test_columns_can_be_named() -> None:
    row = {"q": "1+1?", "gold": "2", "why": "because \\boxed{2}"}

    columns = find_columns(row, question="q", solution="why")

    assert columns == Columns("plain", "q", "gold", "why")
    assert read_example(row, columns).demonstration == "because \\boxed{2}"


@pytest.mark.parametrize(
    ("row", "named", "message"),
    [
        ({"q": 1, "answer": 2}, {}, "must have a column for the question .* but has q, answer"),
        ({"question": 1}, {}, "must have a column for the answer"),
        (GSM8K, {"answer": "gold"}, "`--answer-column` must be one of question, answer"),
    ],
)
def test_missing_columns_are_named_with_those_there(
    row: dict[str, object], named: dict[str, str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        find_columns(row, **named)


def test_gsm8k_becomes_steps_with_a_boxed_answer() -> None:
    example = read_example(GSM8K, find_columns(GSM8K))

    assert example.demonstration == "It is 48/2 = 24.\nThe answer is \\boxed{24}."
    assert example.answer == "24"
    assert example.prompt == [{"role": "user", "content": "Half of 48?"}]


def test_thousands_are_written_without_commas() -> None:
    assert gsm8k_demonstration("#### 1,234") == ("The answer is \\boxed{1234}.", "1234")


@pytest.mark.parametrize("text", ["no mark", "steps ####", ""])
def test_gsm8k_without_a_final_answer_has_none(text: str) -> None:
    assert gsm8k_demonstration(text)[1] is None


def test_luffys_rows_are_read_as_they_are() -> None:
    example = read_example(LUFFY, find_columns(LUFFY))

    assert example.prompt == LUFFY["prompt"]
    assert example.question == "1+1?"
    assert example.answer == "2"
    assert example.demonstration == "<think>\nx</think>\\boxed{2}"
    assert example.data_source == "openr1"


def test_the_answer_of_a_solution_is_its_last_box() -> None:
    assert read_example(MATH, find_columns(MATH)).answer == "2"
    assert last_boxed("\\boxed{1} then \\boxed{\\frac{1}{2}}.") == "\\frac{1}{2}"
    assert last_boxed("\\boxed{1}</think>no") is None
    assert last_boxed("\\boxed{unclosed") is None


@pytest.mark.parametrize(("value", "answer"), [(7, "7"), (" 7 ", "7"), ("", None), (None, None)])
def test_answers_are_text_or_missing(value: object, answer: str | None) -> None:
    row = {"question": "q", "answer": value, "solution": "s"}
    assert read_example(row, find_columns(row)).answer == answer


def test_a_question_of_another_kind_is_refused() -> None:
    row = {"question": 4, "answer": "2"}
    with pytest.raises(ValueError, match="must be text or a list of messages, but is int"):
        read_example(row, find_columns(row))
