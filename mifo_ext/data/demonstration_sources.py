"""Where a hard question's demonstration is looked up: the data set's column, or another file.

The third place, a server, is in `demonstration_server`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from mifo_ext.data.columns import (
    QUESTION_NAMES,
    SOLUTION_NAMES,
    Columns,
    Example,
    Row,
    find_columns,
    read_example,
)
from mifo_ext.data.demonstrations import demonstration_text
from mifo_ext.data.questions import question_id
from mifo_ext.data.sources import rows_of

NO_DEMONSTRATION = "no_demonstration"
Messages = Sequence[Mapping[str, Any]]


class Question(NamedTuple):
    """A training question, as sources need it.

    Attributes:
        id: its name, see `question_id`.
        messages: the prompt.
        ground_truth: the right answer.
        target: the row's own demonstration as stored; None where there is no such column.
    """

    id: str
    messages: Messages
    ground_truth: str
    target: object


class Found(NamedTuple):
    """What a source has for a question.

    Attributes:
        text: the demonstration; None if there is none.
        reason: why there is none, in one word; empty if there is one.
    """

    text: str | None
    reason: str = ""


class DemonstrationSource(Protocol):
    """Where demonstrations come from. Whoever asks verifies them: a text may be wrong.

    Attributes:
        first_look: most questions to look at before step 1.
        advice: what to do when none of these has a usable demonstration.
    """

    first_look: int
    advice: str

    def covers(self, messages: Messages) -> bool:
        """Whether a question may have a demonstration here, without looking closely."""
        ...

    def prefetch(self, questions: Sequence[Question]) -> None:
        """Fetch what `find` will be asked for, as far as that takes time."""
        ...

    def find(self, question: Question) -> Found:
        """Look a demonstration up, at once."""
        ...


class DatasetColumn:
    """The training file's own column `target`."""

    first_look = 64
    advice = "`mifo prepare data` says row by row why"

    def covers(self, messages: Messages) -> bool:
        """True: which rows have one is known when they are read."""
        return True

    def prefetch(self, questions: Sequence[Question]) -> None:
        """Nothing to do."""

    def find(self, question: Question) -> Found:
        """Read the row's target.

        Raises:
            ValueError: for a target that is not of a known form.
        """
        text = demonstration_text(question.target)
        return Found(text, "" if text is not None else NO_DEMONSTRATION)


class DemonstrationFile:
    """Another file with questions and solutions, in any layout that `find_columns` knows.

    A question is found by its whole prompt, or failing that by what the user says in it, so that
    a file without the system prompt serves as well. Of rows with the same question the first with
    a solution counts.

    Args:
        path: a .parquet, .jsonl or .json file.

    Raises:
        FileNotFoundError: if it does not exist.
        ValueError: if it cannot be read or has no solutions; says which row and why.
    """

    first_look = 64
    advice = (
        "the file's questions must be the training data's, word for word, and its solutions end "
        "in the right answer"
    )

    def __init__(self, path: Path) -> None:
        self._by_prompt: dict[str, str] = {}
        self._by_question: dict[str, str] = {}
        for example in solved_examples(path):
            assert example.demonstration is not None
            self._by_prompt.setdefault(question_id(example.prompt), example.demonstration)
            self._by_question.setdefault(example.question.strip(), example.demonstration)

    def covers(self, messages: Messages) -> bool:
        """Whether the question is in the file, with a solution."""
        return self._text(messages) is not None

    def prefetch(self, questions: Sequence[Question]) -> None:
        """Nothing to do."""

    def find(self, question: Question) -> Found:
        """Look the question up."""
        text = self._text(question.messages)
        return Found(text, "" if text is not None else NO_DEMONSTRATION)

    def _text(self, messages: Messages) -> str | None:
        exact = self._by_prompt.get(question_id(messages))
        return exact if exact is not None else self._by_question.get(user_text(messages))


def user_text(messages: Messages) -> str:
    """What the user says in a prompt, all turns together."""
    turns = (str(message["content"]) for message in messages if message.get("role") == "user")
    return "\n".join(turns).strip()


def solved_examples(path: Path) -> Iterator[Example]:
    """Read the rows of a file that have a question and a solution, one by one.

    Args:
        path: a .parquet, .jsonl or .json file.

    Raises:
        FileNotFoundError: if it does not exist.
        ValueError: if it cannot be read or has no solutions; says which row and why.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} must be a file, but does not exist or is a folder.")
    columns: Columns | None = None
    found = 0
    for number, row in enumerate(rows_of(path), start=1):
        columns = columns or _columns_of(row, path)
        example = _read(row, columns, where=f"{path.name}, row {number}")
        if example.demonstration is not None and example.question.strip():
            found += 1
            yield example
    if not found:
        raise ValueError(f"{path} must have a question with a solution, but has none.")


def _columns_of(row: Row, path: Path) -> Columns:
    try:
        columns = find_columns(row)
    except ValueError:
        columns = None
    if columns is None or columns.solution is None:
        raise ValueError(
            f"{path} must have a column with the question ({', '.join(QUESTION_NAMES)}) and one "
            f"with the solution ({', '.join(SOLUTION_NAMES)}), but has "
            f"{', '.join(row) or 'none'}. Rename its columns."
        )
    return columns


def _read(row: Row, columns: Columns, *, where: str) -> Example:
    # Rows of a JSON file need not have the same keys.
    named = (columns.question, columns.answer, columns.solution)
    try:
        return read_example({**{name: None for name in named if name}, **row}, columns)
    except ValueError as error:
        raise ValueError(f"`{where}`: {error}") from error
