r"""From the columns of a data set to questions, answers and demonstrations.

Known families, found by their column names:

| family | question            | answer                        | demonstration               |
|--------|---------------------|-------------------------------|-----------------------------|
| luffy  | `prompt` (messages) | `reward_model.ground_truth`   | `target`                    |
| gsm8k  | `question`          | after `####` in `answer`      | `answer`, final one boxed   |
| plain  | `problem`, …        | `answer`, … or last `\boxed`  | `solution`, …               |
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from mifo_ext.data.demonstrations import demonstration_text
from mifo_ext.data.prompts import Message
from mifo_ext.grading.extract import after_thinking, closed_boxes

QUESTION_NAMES = ("question", "problem", "prompt", "instruction", "query", "input")
ANSWER_NAMES = ("answer", "final_answer", "ground_truth", "expected_answer", "gold")
SOLUTION_NAMES = (
    "solution",
    "target",
    "demonstration",
    "rationale",
    "response",
    "output",
    "completion",
)
CALCULATOR_NOTE = re.compile(r"<<[^<>\n]*>>")
Row = Mapping[str, object]


class Example(NamedTuple):
    """One row, whatever it was called where it came from.

    Attributes:
        prompt: the conversation that ends with the question.
        answer: the ground truth.
        demonstration: a worked answer.
        data_source: what the row itself says it is from.
    """

    prompt: list[Message]
    answer: str | None
    demonstration: str | None
    data_source: str | None

    @property
    def question(self) -> str:
        """What the user asks, all turns together."""
        turns = (message["content"] for message in self.prompt if message["role"] == "user")
        return "\n".join(turns)


@dataclass(frozen=True)
class Columns:
    """Which columns of a data set hold what.

    Attributes:
        family: how the columns are read; see the table at the top.
        question: column of the question or conversation.
        answer: column of the ground truth; None when it stands in the demonstration.
        solution: column of the demonstration; None when there is none.
    """

    family: Literal["luffy", "gsm8k", "plain"]
    question: str
    answer: str | None
    solution: str | None


def find_columns(
    first_row: Row,
    *,
    question: str | None = None,
    answer: str | None = None,
    solution: str | None = None,
) -> Columns:
    """Recognise the columns of a data set by its first row.

    Args:
        first_row: any row.
        question: name of the column, when it is not one of the known.
        answer: likewise.
        solution: likewise.

    Raises:
        ValueError: when a named column is missing, or no question or no answer is to be found.
    """
    names = list(first_row)
    for option, name in (("question", question), ("answer", answer), ("solution", solution)):
        if name is not None and name not in names:
            raise ValueError(
                f"`--{option}-column` must be one of {', '.join(names)}, but is {name!r}."
            )
    if (question, answer, solution) == (None, None, None) and _is_luffy(first_row):
        return Columns("luffy", "prompt", "reward_model", "target" if "target" in names else None)

    question = question or _first(QUESTION_NAMES, names)
    answer = answer or _first(ANSWER_NAMES, names)
    solution = solution or _first(SOLUTION_NAMES, names)
    if question is None:
        raise ValueError(_missing("question", QUESTION_NAMES, names))
    if solution is None and answer is not None and "####" in str(first_row[answer]):
        return Columns("gsm8k", question, answer, answer)
    if answer is None and solution is None:
        raise ValueError(_missing("answer", ANSWER_NAMES, names))
    return Columns("plain", question, answer, solution)


def read_example(row: Row, columns: Columns) -> Example:
    """Read one row.

    Raises:
        ValueError: when the row's question or target is not of a known form.
    """
    source = row.get("data_source")
    demonstration = demonstration_text(row[columns.solution]) if columns.solution else None
    answer = _answer(row[columns.answer]) if columns.answer else None
    if columns.family == "gsm8k" and demonstration is not None:
        demonstration, answer = gsm8k_demonstration(demonstration)
    elif columns.answer is None and demonstration is not None:
        answer = last_boxed(demonstration)
    return Example(
        prompt=_prompt(row[columns.question]),
        answer=answer,
        demonstration=demonstration,
        data_source=source if isinstance(source, str) else None,
    )


def gsm8k_demonstration(text: str) -> tuple[str, str | None]:
    r"""Return GSM8K's worked answer with the final one in `\boxed{}`, and that final answer.

    Calculator notes (`<<48/2=24>>`) are dropped: nobody writes them, a model would copy them.

    Args:
        text: the column `answer`, `steps #### 72`.
    """
    steps, mark, final = text.rpartition("####")
    final = final.strip().replace(",", "")
    if not mark or not final:
        return text, None
    worked = CALCULATOR_NOTE.sub("", steps).strip()
    return f"{worked}\nThe answer is \\boxed{{{final}}}.".lstrip(), final


def last_boxed(text: str) -> str | None:
    r"""Return what stands in the last closed `\boxed{}` behind a demonstration's thinking."""
    boxes = closed_boxes(after_thinking(text) or "")
    return boxes[-1].content.strip() if boxes else None


def _is_luffy(row: Row) -> bool:
    return "prompt" in row and isinstance(row.get("reward_model"), Mapping)


def _first(wanted: Sequence[str], names: Sequence[str]) -> str | None:
    return next((name for name in wanted if name in names), None)


def _missing(what: str, known: Sequence[str], names: Sequence[str]) -> str:
    return (
        f"The data must have a column for the {what} ({', '.join(known)}), "
        f"but has {', '.join(names) or 'none'}. Name it with --{what}-column."
    )


def _answer(value: object) -> str | None:
    if isinstance(value, Mapping):
        value = value.get("ground_truth")
    if value is None or (isinstance(value, float) and value != value):
        return None
    return str(value).strip() or None


def _prompt(value: object) -> list[Message]:
    if value is None or isinstance(value, str):
        return [Message(role="user", content=(value or "").strip())]
    if isinstance(value, Sequence) and all(isinstance(message, Mapping) for message in value):
        for message in value:
            if not {"role", "content"} <= message.keys():
                raise ValueError(
                    "A message must have `role` and `content`, but has "
                    f"{', '.join(message) or 'nothing'}."
                )
        return [Message(role=str(m["role"]), content=str(m["content"])) for m in value]
    raise ValueError(
        f"A question must be text or a list of messages, but is {type(value).__name__}."
    )
