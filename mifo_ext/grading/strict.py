"""Our grader: extraction, comparison in layers, and a symbolic library only at the very end."""

import time
import unicodedata

from mifo_ext.grading import library
from mifo_ext.grading.compare import compare
from mifo_ext.grading.extract import Answer, after_thinking, find_answer
from mifo_ext.grading.normalise import normalise, unwrap
from mifo_ext.grading.record import Grade, Path, Verdict
from mifo_ext.grading.risk import risk_of
from mifo_ext.grading.scalar import Sameness, plain_integer
from mifo_ext.grading.words import gold_letter

GOLD_CHARACTERS_AT_MOST = 10_000
ANSWER_CHARACTERS_AT_MOST = 1000
"""Longer answers are compared as text only."""


def grade(
    response: str,
    gold: str | int | float,
    *,
    thinking: bool = False,
    require_box: bool = False,
    timeout_s: float = 0.8,
) -> Grade:
    """Grade one response against one gold.

    Args:
        response: the model's text; the prompt is not part of it.
        gold: the benchmark's answer.
        thinking: the prompt ended inside a thinking block, so a response without `</think>`
            never reached an answer.
        require_box: accept an answer only from a box.
        timeout_s: bound on the symbolic comparison, the only step that can be slow.

    Returns:
        The verdict with its reason. Never raises because of a text.
    """
    started = time.perf_counter()
    extracted: str | None = None
    try:
        outcome = _grade(response, str(gold), thinking, require_box, timeout_s)
        verdict, reason, extracted, path = outcome
    except RecursionError:
        verdict, reason, path = "wrong", "nested too deep", "none"
    return Grade(verdict, reason, extracted, path, time.perf_counter() - started)


_Outcome = tuple[Verdict, str, str | None, Path]


def _grade(
    response: str, gold: str, thinking: bool, require_box: bool, timeout_s: float
) -> _Outcome:
    if problem := gold_problem(gold):
        return "unparsable_gold", problem, None, "none"
    text = after_thinking(response)
    if text is None or (thinking and "</think>" not in response):
        return "no_answer", "the thinking part does not end", None, "none"
    is_letter = gold_letter(normalise(gold)) is not None
    answer = find_answer(text, require_box=require_box, letter=is_letter)
    if answer is None:
        return (
            "no_answer",
            "no closed box" if require_box else "no closed box or answer line",
            None,
            "none",
        )
    return _judge(gold, answer, timeout_s)


def _judge(gold: str, answer: Answer, timeout_s: float) -> _Outcome:
    content = unwrap(answer.text.strip())
    if plain_integer(content) is None:
        if any(
            unicodedata.category(char) in ("Cc", "Cs", "Co")
            for char in content
            if char not in "\t\n\r"
        ):
            return "wrong", "control characters in the answer", answer.text, "string"
        if len(content) > max(ANSWER_CHARACTERS_AT_MOST, 2 * len(gold)):
            return (
                "wrong",
                f"an answer of more than {ANSWER_CHARACTERS_AT_MOST} characters",
                answer.text,
                "string",
            )
    outcome = compare(gold, content)
    if outcome.same is None:
        return _ask_library(gold, content, answer.text, outcome, timeout_s)
    if outcome.path in ("algebra", "structure"):
        library.pool.start()  # such golds are the ones that may need it: do not wait then
    verdict: Verdict = "correct" if outcome.same else "wrong"
    return verdict, outcome.reason, answer.text, _path(outcome)


def _path(outcome: Sameness) -> Path:
    return outcome.path  # type: ignore[return-value]


def _ask_library(
    gold: str, answer: str, extracted: str, undecided: Sameness, timeout_s: float
) -> _Outcome:
    """Have math-verify compare what no layer could decide."""
    left, right = normalise(gold), normalise(answer)
    for text in (left, right):
        if risk := risk_of(text):
            return "wrong", f"{undecided.reason}; not evaluated: {risk}", extracted, "symbolic"
    result = library.pool.ask("equal", left, right, timeout_s=timeout_s)
    if result == "same":
        return "correct", "equal by math-verify", extracted, "symbolic"
    if result == "timeout":
        return "timeout", f"math-verify ran longer than {timeout_s} s", extracted, "symbolic"
    if result in ("different", "unreadable"):
        return "wrong", f"{undecided.reason}; math-verify: {result}", extracted, "symbolic"
    return "error", f"math-verify {result}", extracted, "symbolic"


def gold_problem(gold: str) -> str | None:
    """Why a gold cannot be graded against, or None when it can."""
    if not any(char.isalnum() or char in "∅∞\\" for char in gold):
        return "the gold is empty"
    if len(gold) > GOLD_CHARACTERS_AT_MOST:
        return f"the gold has more than {GOLD_CHARACTERS_AT_MOST} characters"
    if any(unicodedata.category(char) in ("Cc", "Cs") for char in gold if char not in "\t\n\r"):
        return "the gold contains control characters"
    return None
