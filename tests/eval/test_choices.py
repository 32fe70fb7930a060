"""Every layout of multiple choice becomes the same kind of question with the right letter."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mifo_ext.eval.choices import Choice, has_choices, letter_of, read_choice

FRUIT = ("apple", "pear", "plum")
PRO = {"question": "A fruit?", "options": list(FRUIT), "answer": "B", "answer_index": 1}
ARC = {
    "question": "A fruit?",
    "choices": {"text": list(FRUIT), "label": ["A", "B", "C"]},
    "answerkey": "B",
}
GPQA = {
    "question": "A fruit?",
    "correct answer": " right\n",
    "incorrect answer 1": "wrong 1",
    "incorrect answer 2": "wrong 2",
    "incorrect answer 3": "wrong 3",
}


@pytest.mark.parametrize(
    "row",
    [
        PRO,
        ARC,
        ARC | {"choices": {"text": list(FRUIT), "label": ["1", "2", "3"]}, "answerkey": "2"},
        ARC | {"choices": [{"text": t, "label": x} for t, x in zip(FRUIT, "ABC", strict=True)]},
        {"question": "A fruit?", "choices": list(FRUIT), "answer": 1},
    ],
    ids=["MMLU-Pro", "ARC", "ARC with digits", "ARC in pairs", "MMLU"],
)
def test_every_layout_gives_the_same_question(row: dict[str, object]) -> None:
    assert has_choices(row)
    assert read_choice(row) == Choice("A fruit?", FRUIT, "B")


def test_the_user_is_asked_for_a_letter_in_a_box() -> None:
    assert read_choice(PRO).text == (
        "A fruit?\n\nA. apple\nB. pear\nC. plum\n\n"
        "Give the letter of the right option in \\boxed{}."
    )


def test_a_row_without_columns_of_options_has_no_choices() -> None:
    assert not has_choices({"problem": "A fruit?\nA. apple\nB. pear", "answer": "A"})


def test_gpqas_right_answer_keeps_its_letter_after_the_shuffle() -> None:
    choice = read_choice(GPQA)
    assert sorted(choice.options) == ["right", "wrong 1", "wrong 2", "wrong 3"]
    assert choice.options["ABCD".index(choice.gold)] == "right"


def test_gpqas_order_is_the_same_on_every_machine() -> None:
    # Written down once: another order would be another benchmark.
    assert read_choice(GPQA).options == ("wrong 3", "wrong 1", "wrong 2", "right")


def test_gpqas_order_is_decided_by_the_question_alone() -> None:
    other = {**GPQA, "correct answer": "yes", "incorrect answer 1": "no"}
    assert read_choice(other).gold == read_choice(GPQA).gold
    golds = {read_choice({**GPQA, "question": f"Fruit {n}?"}).gold for n in range(50)}
    assert golds == set("ABCD")


@given(texts=st.lists(st.text("xyz", min_size=1), min_size=2, max_size=10), data=st.data())
def test_the_letter_is_that_of_the_right_option(texts: list[str], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(texts) - 1))
    letter = "ABCDEFGHIJ"[index]
    row = {"question": "?", "options": texts, "answer": letter, "answer_index": index}
    assert read_choice(row).gold == letter
    assert f"\n{letter}. {texts[index]}\n" in read_choice(row).text


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"answer": "C"}, "must agree, but are C and 1"),
        ({"answer": "D"}, "must be one of A, B, C, but is 'D'"),
        ({"answer": None}, "must be one of A, B, C, but is None"),
        ({"answer": 3, "answer_index": 3}, "must be one of A, B, C, but is 3"),
        ({"answer": -1, "answer_index": -1}, "must be one of A, B, C, but is -1"),
        ({"options": ["apple", " ", "plum"]}, "1 empty"),
        ({"options": ["apple"]}, "must be 2 to 10 texts, but are 1"),
        ({"options": list("abcdefghijk")}, "must be 2 to 10 texts, but are 11"),
        ({"options": "['apple', 'pear']"}, "must be 2 to 10 texts, but are 0"),
    ],
)
def test_contradictions_and_gaps_are_told(change: dict[str, object], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        read_choice(PRO | change)


def test_a_missing_wrong_answer_is_told() -> None:
    with pytest.raises(ValueError, match="one is empty"):
        read_choice(GPQA | {"incorrect answer 3": None})


@pytest.mark.parametrize("gold", ["B", " b ", "(B)", "B.", "(b)."])
def test_letters_are_read_in_every_dress(gold: str) -> None:
    assert letter_of(gold) == "B"


@pytest.mark.parametrize("gold", ["", "AB", "K", "2", "()", "pear"])
def test_what_is_no_letter_is_none(gold: str) -> None:
    assert letter_of(gold) is None
