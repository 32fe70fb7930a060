"""Answer extraction and equivalence, shared by the reward and the evaluation."""

from mifo_ext.grading.compare import compare
from mifo_ext.grading.golds import CleanGold, clean_gold
from mifo_ext.grading.graders import GRADERS, grade_with, grader_versions
from mifo_ext.grading.record import VERDICTS, Grade, Verdict
from mifo_ext.grading.strict import grade

__all__ = [
    "GRADERS",
    "VERDICTS",
    "CleanGold",
    "Grade",
    "Verdict",
    "clean_gold",
    "compare",
    "grade",
    "grade_with",
    "grader_versions",
]
