"""Which rows are good enough to train on, and why the rest fall."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from mifo_ext.data.columns import Example
from mifo_ext.data.lengths import Lengths
from mifo_ext.data.overlap import Benchmarks, normal_form
from mifo_ext.data.prompts import KEEP, with_system
from mifo_ext.data.tables import TableRow, table_row

FLAWS = {
    "wrong": "demonstration wrong",
    "no_answer": "demonstration without an answer",
    "unparsable_gold": "answer not readable",
    "timeout": "grading took too long",
    "error": "grading failed",
}
"""How the grader's verdicts read in the report."""


@dataclass
class Tally:
    """What became of the rows.

    Attributes:
        read: rows looked at.
        fell: rows left out, by reason.
        stripped: questions kept without their demonstration, by what was wrong with it.
        overlap: questions that stand in a benchmark, by its name.
    """

    read: int = 0
    fell: Counter[str] = field(default_factory=Counter)
    stripped: Counter[str] = field(default_factory=Counter)
    overlap: Counter[str] = field(default_factory=Counter)


@dataclass
class Sieve:
    """Takes examples one after the other and gives rows back.

    Attributes:
        name: `data_source` of examples that do not say it themselves.
        verdict: the grader's word on a demonstration, given the ground truth.
        system: which system prompt rows get; see `with_system`.
        lengths: what fits; None lets any length pass.
        benchmarks: what must not be trained on.
        drop_overlap: leave questions of a benchmark out, instead of counting them only.
        keep_questions: keep a question whose demonstration fell, without it.
        tally: what became of the rows so far.
    """

    name: str
    verdict: Callable[[str, str], str]
    system: str = KEEP
    lengths: Lengths | None = None
    benchmarks: Benchmarks = field(default_factory=lambda: Benchmarks({}))
    drop_overlap: bool = False
    keep_questions: bool = False
    tally: Tally = field(default_factory=Tally)
    _kept: set[str] = field(default_factory=set)

    def sift(self, example: Example, *, source_row: int) -> TableRow | None:
        """Return the example as a row, or None when it falls; either way it is counted.

        Args:
            example: what the source says.
            source_row: its row there.
        """
        self.tally.read += 1
        row = table_row(
            with_system(example.prompt, self.system),
            answer=example.answer or "",
            demonstration=example.demonstration,
            data_source=example.data_source or self.name,
            source_row=source_row,
        )
        reason = self._question_flaw(example, row)
        if reason is None:
            flaw = self._demonstration_flaw(example, row)
            if flaw is not None and self.keep_questions:
                self.tally.stripped[flaw] += 1
                row["target"] = None
            else:
                reason = flaw
        if reason is not None:
            self.tally.fell[reason] += 1
            return None
        self._kept.add(normal_form(example.question))
        return row

    def _question_flaw(self, example: Example, row: TableRow) -> str | None:
        if not example.question.strip():
            return "no question"
        if normal_form(example.question) in self._kept:
            return "duplicate question"
        if example.answer is None:
            return "no answer"
        if self.lengths and not self.lengths.question_fits(row["prompt"]):
            return "question too long"
        held_by = self.benchmarks.holding(example.question)
        if held_by is not None:
            self.tally.overlap[held_by] += 1
            return "stands in a benchmark" if self.drop_overlap else None
        return None

    def _demonstration_flaw(self, example: Example, row: TableRow) -> str | None:
        if example.demonstration is None:
            return "no demonstration"
        verdict = self.verdict(example.demonstration, example.answer or "")
        if verdict != "correct":
            return FLAWS[verdict]
        fits = not self.lengths or self.lengths.demonstration_fits(
            row["prompt"], example.demonstration
        )
        return None if fits else "demonstration too long"
