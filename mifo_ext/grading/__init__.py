"""Answer extraction and equivalence, shared by the reward and the evaluation."""

from mifo_ext.grading.record import VERDICTS, Grade, Verdict
from mifo_ext.grading.strict import grade

__all__ = ["VERDICTS", "Grade", "Verdict", "grade"]
