"""Multiple choice: from the columns of a row to one question and the letter of its answer.

| layout   | options                                      | answer                                |
|----------|----------------------------------------------|---------------------------------------|
| MMLU-Pro | `options`, a list                            | `answer`, a letter; `answer_index`    |
| ARC      | `choices`, `text` and `label` of each        | `answerKey`, one of the labels        |
| GPQA     | `Correct Answer`, `Incorrect Answer 1` to 3  | the first; we shuffle them            |

Column names are taken without regard to case; the reader of rows has them in lower case.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from mifo_ext.data.columns import Row
from mifo_ext.data.overlap import normal_form

LETTERS = "ABCDEFGHIJ"
"""The letters that the grader knows as options."""

REQUEST = "Give the letter of the right option in \\boxed{}."
SHUFFLE_SEED = 0
"""Part of what a shuffled question is: another number makes another set of questions."""

_CORRECT = "correct answer"
_WRONG = tuple(f"incorrect answer {number}" for number in (1, 2, 3))


class Choice(NamedTuple):
    """A question with its options.

    Attributes:
        question: what is asked, without the options.
        options: their texts, in the order of the letters.
        gold: the letter of the right one.
    """

    question: str
    options: tuple[str, ...]
    gold: str

    @property
    def text(self) -> str:
        """What the user asks: the question, a line for each option, and the form of the answer."""
        lines = [f"{letter}. {text}" for letter, text in zip(LETTERS, self.options, strict=False)]
        return "\n".join([self.question, "", *lines, "", REQUEST])


def has_choices(row: Row) -> bool:
    """Whether a row has its options in columns of their own."""
    return any(name in row for name in (_CORRECT, "options", "choices"))


def read_choice(row: Row) -> Choice:
    """Read one row of any of the layouts above, its column names in lower case.

    Raises:
        ValueError: when options or answer are missing or contradict each other.
    """
    question = str(row.get("question") or "").strip()
    if _CORRECT in row:
        return _shuffled(row, question)
    found = row.get("options", row.get("choices"))
    options, labels = _options(found)
    if not 2 <= len(options) <= len(LETTERS) or not all(options):
        raise ValueError(
            f"`options` must be 2 to {len(LETTERS)} texts, but are {len(options)} with "
            f"{options.count('')} empty."
        )
    return Choice(question, tuple(options), LETTERS[_right_one(row, labels)])


def letter_of(gold: str) -> str | None:
    """The letter that a gold such as `B`, `(b)` or `B.` is; None when it is none."""
    letter = gold.strip().strip("().").upper()
    return letter if len(letter) == 1 and letter in LETTERS else None


def _options(found: object) -> tuple[list[str], list[str]]:
    """The texts of the options and what each is called."""
    if isinstance(found, Mapping):
        return [_text(text) for text in found["text"]], [str(label) for label in found["label"]]
    listed = list(found) if isinstance(found, Sequence) and not isinstance(found, str) else []
    if listed and all(isinstance(option, Mapping) for option in listed):
        return [_text(o["text"]) for o in listed], [str(o["label"]) for o in listed]
    return [_text(option) for option in listed], list(LETTERS[: len(listed)])


def _right_one(row: Row, labels: Sequence[str]) -> int:
    """The position of the right option, from its label or from a position counted from 0."""
    answer = row.get("answerkey", row.get("answer"))
    if (label := str(answer).strip()) in labels:
        # ARC's label 1 is the first option, so labels go before positions.
        position = labels.index(label)
    elif isinstance(answer, int) and 0 <= answer < len(labels):
        position = answer
    else:
        raise ValueError(f"`answer` must be one of {', '.join(labels)}, but is {answer!r}.")
    if row.get("answer_index", position) != position:
        raise ValueError(
            f"`answer` and `answer_index` must agree, but are {answer} and {row['answer_index']}."
        )
    return position


def _shuffled(row: Row, question: str) -> Choice:
    """GPQA's right and wrong answers, in an order that only the question decides."""
    listed = [_text(row.get(name)) for name in (_CORRECT, *_WRONG)]
    if not all(listed):
        raise ValueError(f"`{_CORRECT}` and `{_WRONG[0]}` to 3 must be texts, but one is empty.")
    key = f"{SHUFFLE_SEED}:{normal_form(question)}"
    order = sorted(range(len(listed)), key=lambda place: _digest(f"{key}:{place}"))
    return Choice(question, tuple(listed[place] for place in order), LETTERS[order.index(0)])


def _digest(text: str) -> str:
    # Not random.shuffle: Python promises its order to no later version.
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _text(value: object) -> str:
    return "" if value is None else str(value).strip()
