"""The graders by name, so that stored responses can be graded as a published table was."""

import importlib.metadata
import platform
import time
from typing import Protocol

from mifo_ext.grading import library
from mifo_ext.grading.extract import closed_boxes
from mifo_ext.grading.record import Grade, Verdict
from mifo_ext.grading.strict import gold_problem, grade

REVISION = 1
"""Raised whenever a verdict of `strict` may change."""

LIBRARY_TIMEOUT_S = 12.0
"""math-verify bounds its parsing and its comparison by 5 s each."""


def grade_as_relift(response: str, gold: str, *, thinking: bool = False) -> Grade:
    """The verdict of math-verify 0.9 with its defaults, as ReLIFT and LUFFY's training call it.

    The whole response is parsed, `$gold$` is the gold; ReLIFT cuts the thinking part only when
    both of its tags are there, so `thinking` changes nothing. Known differences to `strict` are in
    docs/grading.md.
    """
    del thinking
    started = time.perf_counter()
    text = response
    if "<think>" in response and "</think>" in response:
        text = response.rpartition("</think>")[2]
    verdict, reason = _library_verdict(text, gold)
    return Grade(verdict, reason, None, "symbolic", time.perf_counter() - started)


def grade_leniently(response: str, gold: str, *, thinking: bool = False) -> Grade:
    """The forgiving reading of LUFFY's evaluation script.

    LUFFY gives a response up whose prompt began its thinking and that does not end it, takes the
    last box of the rest, and accepts it when any of its comparisons does. Here: the last box, or
    failing that the whole text; accepted when our comparison or math-verify with its defaults
    accepts it.
    """
    started = time.perf_counter()
    if thinking and "</think>" not in response:
        seconds = time.perf_counter() - started
        return Grade("no_answer", "the thinking part does not end", None, "none", seconds)
    _, _, tail = response.rpartition("</think>")
    boxes = closed_boxes(tail)
    extracted = boxes[-1].content if boxes else None
    ours = grade(tail if boxes else f"\\boxed{{{tail.strip()}}}", gold)
    if ours.correct or ours.verdict == "unparsable_gold":
        verdict, reason, path = ours.verdict, ours.reason, ours.path
    else:
        text = f"\\boxed{{{extracted}}}" if extracted else tail
        verdict, reason = _library_verdict(text, gold)
        path = "symbolic"
    return Grade(verdict, reason, extracted, path, time.perf_counter() - started)


def _library_verdict(text: str, gold: str) -> tuple[Verdict, str]:
    if problem := gold_problem(gold):
        return "unparsable_gold", problem
    said = library.pool.ask("as_relift", gold, text, timeout_s=LIBRARY_TIMEOUT_S)
    verdicts: dict[str, Verdict] = {
        "same": "correct",
        "different": "wrong",
        "no answer": "no_answer",
        "unreadable gold": "unparsable_gold",
        "timeout": "timeout",
    }
    return verdicts.get(said, "error"), f"math-verify: {said}"


class Grader(Protocol):
    """Grades a response against a gold; `thinking`: the prompt ended inside a thinking part."""

    def __call__(self, response: str, gold: str, *, thinking: bool = False) -> Grade:
        """Grade one response."""
        ...


GRADERS: dict[str, Grader] = {
    "strict": grade,
    "math_verify": grade_as_relift,
    "lenient": grade_leniently,
}


def grade_with(name: str, response: str, gold: str, *, thinking: bool = False) -> Grade:
    """Grade by a grader's name.

    Args:
        name: a key of `GRADERS`.
        response: the model's text.
        gold: the benchmark's answer.
        thinking: the prompt ended inside a thinking part.

    Raises:
        ValueError: there is no such grader.
    """
    if name not in GRADERS:
        raise ValueError(f"Unknown grader {name!r}. Graders: {', '.join(GRADERS)}.")
    return GRADERS[name](response, gold, thinking=thinking)


def grader_versions() -> dict[str, str]:
    """What a verdict may depend on, for the record beside every result."""
    packages = ("math-verify", "latex2sympy2_extended", "antlr4-python3-runtime", "sympy", "mpmath")
    return {
        "strict": str(REVISION),
        **{package: importlib.metadata.version(package) for package in packages},
        "python": platform.python_version(),
    }
