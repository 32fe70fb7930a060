"""The demonstrations of training questions, found by question and checked when they are wanted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mifo_ext.data.demonstration_server import DemonstrationServer
from mifo_ext.data.demonstration_sources import (
    DatasetColumn,
    DemonstrationFile,
    DemonstrationSource,
    Question,
)
from mifo_ext.data.demonstrations import demonstration_tokens
from mifo_ext.data.questions import question_id
from mifo_ext.data.recorded_answers import FILE_NAME, RecordedAnswers
from mifo_ext.grading import grade
from mifo_ext.settings_demonstrations import DemonstrationSettings


class DemonstrationTokens(NamedTuple):
    """A question and its demonstration, as the actor sees them.

    Attributes:
        prompt_ids: the prompt as the rollout renders it.
        response_ids: the demonstration, EOS included unless it was cut.
        truncated: whether it was cut at the response limit.
    """

    prompt_ids: list[int]
    response_ids: list[int]
    truncated: bool


def demonstration_source(
    settings: DemonstrationSettings, *, folder: Path, max_response_length: int
) -> DemonstrationSource:
    """Open what the settings name.

    Args:
        settings: where demonstrations come from.
        folder: the run's; a server's answers are kept there.
        max_response_length: of the run, in tokens.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if the file, or what an earlier start kept, cannot be read, or there is no key.
    """
    if settings.file is not None:
        return DemonstrationFile(Path(settings.file).expanduser())
    if settings.server is not None:
        answers = RecordedAnswers(folder / FILE_NAME)
        return DemonstrationServer(
            settings.server, answers=answers, max_response_length=max_response_length
        )
    return DatasetColumn()


class DemonstrationCatalog:
    """Looks demonstrations up by question id; keeps only those whose answer is right.

    Args:
        dataset: verl's training data set (`RLHFDataset`).
        tokenizer: the actor's.
        max_response_length: tokens; a longer demonstration is cut, and loses its EOS.
        chat_template_kwargs: `data.apply_chat_template_kwargs`, as the rollout uses them.
        source: where demonstrations come from; None is the data set's column `target`.

    Attributes:
        rejected: why hard questions had no usable demonstration, counted once a question and
            reason.
        first_look: most questions to look at before step 1.
        advice: what to do when none of these has a usable demonstration.
    """

    def __init__(
        self,
        dataset: Any,
        tokenizer: Any,
        *,
        max_response_length: int,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        source: DemonstrationSource | None = None,
    ) -> None:
        self._dataset = dataset
        self._tokenizer = tokenizer
        self._max_response_length = max_response_length
        self._template_kwargs = dict(chat_template_kwargs or {})
        self._source = source or DatasetColumn()
        self.first_look, self.advice = self._source.first_look, self._source.advice
        # Only the prompts are read here: the demonstrations are the bulk of such a data set.
        prompts = dataset.dataframe.select_columns([dataset.prompt_key])
        self._rows: dict[str, int] = {}
        self._covered: list[str] = []
        for number, row in enumerate(prompts):
            messages = dataset._build_messages(row, dataset.prompt_key)
            name = question_id(messages)
            if name not in self._rows:
                self._rows[name] = number
                if self._source.covers(messages):
                    self._covered.append(name)
        self._verdicts: dict[str, str] = {}
        self._counted: set[tuple[str, str]] = set()
        self.rejected: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._rows)

    def question_ids(self) -> list[str]:
        """All questions, in the data set's order."""
        return list(self._rows)

    def covered(self) -> list[str]:
        """Those that the source may have a demonstration for, as far as it knows in advance."""
        return list(self._covered)

    def prefetch(self, question_ids: Iterable[str]) -> None:
        """Fetch many demonstrations at once, where that takes time, before `has` is asked.

        Args:
            question_ids: hard questions; those without a row are left out.
        """
        self._source.prefetch([self.question(name) for name in question_ids if name in self._rows])

    def has(self, question: str) -> bool:
        """Whether there is a demonstration whose answer equals the ground truth.

        Graded once, when a question first turns out hard: a data set of long demonstrations would
        take minutes to check in advance.
        """
        reason = self.reason_against(question)
        if reason is not None and (question, reason) not in self._counted:
            self._counted.add((question, reason))
            self.rejected[reason] += 1
        return reason is None

    def reason_against(self, question: str) -> str | None:
        """Why a question's demonstration cannot be used; None if it can."""
        if question not in self._rows:
            return "unknown_question"
        if question not in self._verdicts:
            asked = self.question(question)
            found = self._source.find(asked)
            if found.text is None:
                return found.reason
            self._verdicts[question] = str(grade(found.text, asked.ground_truth).verdict)
        verdict = self._verdicts[question]
        return None if verdict == "correct" else verdict

    def row(self, question: str) -> dict[str, Any]:
        """The question's row as it stands in the data set."""
        return dict(self._dataset.dataframe[self._rows[question]])

    def question(self, question: str) -> Question:
        """The question as sources know it."""
        row = self.row(question)
        return Question(
            id=question,
            messages=self._dataset._build_messages(row, self._dataset.prompt_key),
            ground_truth=str(row["reward_model"]["ground_truth"]),
            target=row.get("target"),
        )

    def text(self, question: str) -> str:
        """The question's demonstration, right or wrong.

        Raises:
            ValueError: if it has none.
        """
        text = self._source.find(self.question(question)).text
        if text is None:
            raise ValueError(f"Question {question} has no demonstration.")
        return text

    def tokens(self, question: str) -> DemonstrationTokens:
        """Render the question as the rollout does, and the demonstration as its answer.

        Raises:
            ValueError: if the question has no demonstration.
        """
        text, prompt = self.text(question), self.prompt_text(question)
        demonstration = demonstration_tokens(
            text, self._tokenizer, prompt_text=prompt, max_length=self._max_response_length
        )
        prompt_ids = self._tokenizer.encode(prompt, add_special_tokens=False)
        return DemonstrationTokens(prompt_ids, list(demonstration.ids), demonstration.truncated)

    def prompt_text(self, question: str) -> str:
        """The question as the chat template renders it, generation prompt included."""
        messages = self._dataset._build_messages(self.row(question), self._dataset.prompt_key)
        return str(
            self._tokenizer.apply_chat_template(
                messages, add_generation_prompt=True, tokenize=False, **self._template_kwargs
            )
        )
