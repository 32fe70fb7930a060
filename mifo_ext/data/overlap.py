"""Training questions that stand in a benchmark."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping

SPACING = re.compile(r"\\(?:left|right|quad|qquad|displaystyle)(?![A-Za-z])|\\[,;:! ]|[\s$~]+")
WORD = re.compile(r"\w+")


def normal_form(question: str) -> str:
    """Return the question without what only changes its looks.

    Width and case of letters, blank space, dollar signs, LaTeX spacing and the full stop or
    question mark at the end go. Every sign that carries meaning stays, so x-1 and x+1 remain two
    questions, and so do n and n! at the end.
    """
    folded = unicodedata.normalize("NFKC", question).casefold()
    return SPACING.sub("", folded).rstrip(".?:")


class Benchmarks:
    """Finds questions that stand in one of several benchmarks."""

    def __init__(
        self, questions: Mapping[str, Iterable[str]], *, shared_words: int | None = None
    ) -> None:
        """Index the benchmarks.

        Args:
            questions: the questions of each benchmark, by its name.
            shared_words: also match when this many words in a row are shared; None for equal
                normal forms only.

        Raises:
            ValueError: when `shared_words` is below 1.
        """
        if shared_words is not None and shared_words < 1:
            raise ValueError(f"`shared_words` must be at least 1, but is {shared_words}.")
        self._shared_words = shared_words
        self._by_form: dict[str, str] = {}
        self._by_run: dict[tuple[str, ...], str] = {}
        for name, listed in questions.items():
            for question in listed:
                self._by_form.setdefault(normal_form(question), name)
                for run in self._runs(question):
                    self._by_run.setdefault(run, name)

    def holding(self, question: str) -> str | None:
        """Return the name of a benchmark that the question stands in, or None."""
        found = self._by_form.get(normal_form(question))
        if found is not None:
            return found
        return next(
            (self._by_run[run] for run in self._runs(question) if run in self._by_run), None
        )

    def _runs(self, question: str) -> list[tuple[str, ...]]:
        if self._shared_words is None:
            return []
        words = WORD.findall(unicodedata.normalize("NFKC", question).casefold())
        last = len(words) - self._shared_words
        return [tuple(words[i : i + self._shared_words]) for i in range(last + 1)]
