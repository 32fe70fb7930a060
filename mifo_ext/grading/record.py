"""What a grader says about one response."""

from dataclasses import dataclass
from typing import Literal

Verdict = Literal["correct", "wrong", "no_answer", "unparsable_gold", "timeout", "error"]
Path = Literal["none", "string", "letter", "text", "number", "structure", "algebra", "symbolic"]

VERDICTS: tuple[Verdict, ...] = (
    "correct",
    "wrong",
    "no_answer",
    "unparsable_gold",
    "timeout",
    "error",
)


@dataclass(frozen=True, slots=True)
class Grade:
    """One verdict, and how it came about.

    Only `correct` scores. The other verdicts are kept apart so that they can be reported as
    rates: a response without an answer is not the same failure as a wrong one.
    """

    verdict: Verdict
    """One of `VERDICTS`."""
    reason: str
    """A short sentence for a human reader."""
    extracted: str | None
    """The answer as it stood in the response, or None when there was none."""
    path: Path
    """The layer that decided; `none` when no comparison took place."""
    seconds: float
    """Wall time of the whole call."""

    @property
    def correct(self) -> bool:
        """Whether the response scores."""
        return self.verdict == "correct"
