"""The training set's demonstrations, found by question and checked when they are wanted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

from mifo_ext.data.demonstrations import demonstration_text, demonstration_tokens
from mifo_ext.data.questions import question_id
from mifo_ext.grading import grade


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


class DemonstrationCatalog:
    """Looks demonstrations up by question id; keeps only those whose answer is right.

    Args:
        dataset: verl's training data set (`RLHFDataset`).
        tokenizer: the actor's.
        max_response_length: tokens; a longer demonstration is cut, and loses its EOS.
        chat_template_kwargs: `data.apply_chat_template_kwargs`, as the rollout uses them.

    Attributes:
        rejected: why hard questions had no usable demonstration, counted once a question.
    """

    def __init__(
        self,
        dataset: Any,
        tokenizer: Any,
        *,
        max_response_length: int,
        chat_template_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        self._dataset = dataset
        self._tokenizer = tokenizer
        self._max_response_length = max_response_length
        self._template_kwargs = dict(chat_template_kwargs or {})
        # Only the prompts are read here: the demonstrations are the bulk of such a data set.
        prompts = dataset.dataframe.select_columns([dataset.prompt_key])
        self._rows: dict[str, int] = {}
        for number, row in enumerate(prompts):
            messages = dataset._build_messages(row, dataset.prompt_key)
            self._rows.setdefault(question_id(messages), number)
        self._verified: dict[str, bool] = {}
        self.rejected: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._rows)

    def question_ids(self) -> list[str]:
        """All questions, in the data set's order."""
        return list(self._rows)

    def has(self, question: str) -> bool:
        """Whether there is a demonstration whose answer equals the ground truth.

        Graded once, when a question first turns out hard: a data set of long demonstrations would
        take minutes to check in advance.
        """
        if question not in self._verified:
            reason = self.reason_against(question)
            self._verified[question] = reason is None
            if reason is not None:
                self.rejected[reason] += 1
        return self._verified[question]

    def reason_against(self, question: str) -> str | None:
        """Why a question's demonstration cannot be used; None if it can."""
        if question not in self._rows:
            return "unknown_question"
        row = self.row(question)
        text = demonstration_text(row.get("target"))
        if text is None:
            return "no_demonstration"
        verdict = grade(text, str(row["reward_model"]["ground_truth"])).verdict
        return None if verdict == "correct" else str(verdict)

    def row(self, question: str) -> dict[str, Any]:
        """The question's row as it stands in the data set."""
        return dict(self._dataset.dataframe[self._rows[question]])

    def tokens(self, question: str) -> DemonstrationTokens:
        """Render the question as the rollout does, and the demonstration as its answer.

        Raises:
            ValueError: if the question has no demonstration.
        """
        row = self.row(question)
        text = demonstration_text(row.get("target"))
        if text is None:
            raise ValueError(f"Question {question} has no demonstration.")
        prompt = self.prompt_text(question)
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
