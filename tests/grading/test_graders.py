"""The graders by name, and the cleaning of golds."""

import re

import pytest

from mifo_ext.grading import GRADERS, clean_gold, grade, grade_with, grader_versions


def test_strict_is_the_default_grader() -> None:
    named, direct = grade_with("strict", "\\boxed{2,552}", "2552"), grade("\\boxed{2,552}", "2552")

    assert (named.verdict, named.path) == (direct.verdict, direct.path) == ("correct", "number")


def test_an_unknown_grader_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(ValueError, match=r"Unknown grader 'oat'\. Graders: strict, math_verify"):
        grade_with("oat", "\\boxed{1}", "1")


@pytest.mark.parametrize(
    ("response", "gold", "strict", "math_verify"),
    [
        ("\\boxed{\\frac{2}{4}}", "\\frac{1}{2}", "correct", "correct"),
        # No box and no answer line: math-verify takes the last number of the text.
        ("Then 2+3=5, and I should go on", "5", "no_answer", "correct"),
        # Scientific notation with an e is read as a product by math-verify.
        ("\\boxed{4.5 \\times 10^{33}}", "4.5e33", "correct", "wrong"),
        # Six decimals are all it compares.
        ("\\boxed{\\frac{1}{2^{99}}}", "\\frac{1}{2^{98}}", "wrong", "correct"),
    ],
)
def test_where_the_named_graders_differ(
    response: str, gold: str, strict: str, math_verify: str
) -> None:
    assert grade_with("strict", response, gold).verdict == strict
    assert grade_with("math_verify", response, gold).verdict == math_verify


def test_math_verify_cuts_the_thinking_only_between_both_tags_as_relift_does() -> None:
    assert grade_with("math_verify", "<think>\\boxed{3}</think>\\boxed{4}", "4").correct
    assert not grade_with("math_verify", "<think>\\boxed{3}</think>\\boxed{4}", "3").correct


def test_the_lenient_grader_takes_the_whole_text_where_there_is_no_box() -> None:
    assert grade_with("strict", "Then x is 5, I think", "5").verdict == "no_answer"
    assert grade_with("lenient", "Then x is 5, I think", "5").correct
    assert grade_with("lenient", "\\boxed{5} rather than 6", "5").correct
    assert not grade_with("lenient", "\\boxed{6} rather than 5", "5").correct


@pytest.mark.parametrize("name", sorted(GRADERS))
def test_every_grader_reports_an_empty_gold(name: str) -> None:
    assert grade_with(name, "\\boxed{5}", " ").verdict == "unparsable_gold"


def test_versions_name_what_a_verdict_depends_on() -> None:
    versions = grader_versions()

    assert versions["antlr4-python3-runtime"] == "4.9.3"
    assert versions["math-verify"] == "0.9.0"
    assert {"strict", "sympy", "latex2sympy2_extended", "python", "mpmath"} <= versions.keys()
    assert all(re.match(r"\d", version) for version in versions.values())


@pytest.mark.parametrize(
    ("gold", "text", "rules"),
    [
        ("42", "42", ()),
        (" 42 ", "42", ("trim",)),
        ("4.5e33", "4.5 \\times 10^{33}", ("e_notation",)),
        ("1E-5", "1 \\times 10^{-5}", ("e_notation",)),
        ("336^\\circ", "336", ("degree_number",)),
        ("142.0", "142", ("integral_float",)),
        ("033", "33", ("leading_zeros",)),
        ("$x+1$", "x+1", ("outer_dollars",)),
        ("a+$ $b", "a+ b", ("math_groups",)),
        (142.0, "142", ("integral_float",)),
        ("0", "0", ()),
        ("0.50", "0.50", ()),
        ("e^{2}", "e^{2}", ()),
        ("30^\\circ + x", "30^\\circ + x", ()),
    ],
)
def test_golds_are_cleaned_by_named_rules(
    gold: str | float, text: str, rules: tuple[str, ...]
) -> None:
    assert clean_gold(gold) == (text, rules, None)


@pytest.mark.parametrize("gold", ["", "   ", "$$", "4\x002"])
def test_a_gold_that_cannot_be_graded_against_says_so(gold: str) -> None:
    assert clean_gold(gold).problem is not None
