"""Values of expressions: exact where they are rational, by evaluation where not, always bounded."""

import time
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mifo_ext.grading.exact import InexactError, exact_value
from mifo_ext.grading.expression import read_expression
from mifo_ext.grading.normalise import normalise
from mifo_ext.grading.probe import agree, proportional
from mifo_ext.grading.tokens import UnreadableError
from mifo_ext.grading.units import read_unit


def exact(text: str) -> Fraction:
    return exact_value(read_expression(normalise(text)))


def same(left: str, right: str) -> bool | None:
    return agree(read_expression(normalise(left)), read_expression(normalise(right)))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1+2*3", Fraction(7)),
        ("-2^2", Fraction(-4)),
        ("2^3^2", Fraction(512)),
        ("3\\frac{1}{2}", Fraction(7, 2)),
        ("-3 1/2", Fraction(-7, 2)),
        ("\\frac12", Fraction(1, 2)),
        ("8/2/2", Fraction(2)),
        ("2(3+4)", Fraction(14)),
        ("\\sqrt[3]{27}", Fraction(3)),
        ("4^{-1/2}", Fraction(1, 2)),
        ("\\binom{5}{2}", Fraction(10)),
        ("3!!", Fraction(720)),
        ("|2-5|", Fraction(3)),
        ("17 \\bmod 5", Fraction(2)),
        ("\\lfloor 7/2 \\rfloor", Fraction(3)),
        ("50\\%", Fraction(1, 2)),
        ("1.5e3", Fraction(1500)),
        ("{6 \\over 4}", Fraction(3, 2)),
    ],
)
def test_rational_expressions_have_their_exact_value(text: str, value: Fraction) -> None:
    assert exact(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "x",
        "\\sqrt{2}",
        "1/0",
        "2^{100000}",
        "9999!",
        "0^{-1}",
        "+".join(f"1/{k}^{{999}}" for k in range(101, 199, 2)),
        "*".join("9^{5000}" for _ in range(60)),
    ],
)
def test_what_is_not_a_small_rational_is_refused_quickly(text: str) -> None:
    started = time.process_time()

    with pytest.raises(InexactError):
        exact(text)

    assert time.process_time() - started < 1


@pytest.mark.parametrize("text", ["", "+", "(1", "1)", "the answer", "\\foo", "x y_", "1 2", "2x3"])
def test_what_is_no_expression_is_refused(text: str) -> None:
    with pytest.raises(UnreadableError):
        read_expression(text)


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ("\\sin^2 x + \\cos^2 x", "1", True),
        ("\\sin^{-1} x", "\\arcsin x", True),
        ("\\sqrt{x^2}", "x", False),
        ("x_1", "x_2", False),
        ("2^{(2^{31})}", "4^{(2^{30})}", True),
        ("2^{(2^{31})}", "2^{(2^{30})}", False),
        ("e^{-1000}", "e^{-1001}", False),
        # A term of a sum is lost beside the other: no verdict rather than a wrong one.
        ("10^{10^9} + 1", "10^{10^9}", None),
        ("9^{9^{9^{9}}}", "1", None),
    ],
)
def test_expressions_agree_by_their_values(left: str, right: str, expected: bool | None) -> None:
    assert same(left, right) is expected


@given(st.integers(1, 50), st.integers(1, 50), st.integers(-50, 50))
def test_an_expanded_product_agrees_with_its_factors(a: int, b: int, c: int) -> None:
    factored = f"({a}x+{b})(x-({c}))"
    expanded = f"{a}x^2+({b}-({a * c}))x-({b * c})"

    assert same(factored, expanded) is True
    assert same(factored, expanded + "+1") is False


def test_equations_agree_up_to_a_factor_and_inequalities_up_to_a_positive_one() -> None:
    left, right = read_expression("x+2y-1"), read_expression("-2x-4y+2")

    assert proportional(left, right, positive=False) is True
    assert proportional(left, right, positive=True) is False
    assert proportional(left, read_expression("x+2y-2"), positive=False) is False


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("\\text{cm}", "\\text{centimeters}"),
        ("\\text{m}/\\text{s}", "\\text{m s}^{-1}"),
        ("\\text{square feet}", "\\text{ft}^2"),
        ("\\text{km per hour}", "\\text{km/h}"),
        ("°", "\\text{degrees}"),
    ],
)
def test_units_are_read_in_any_spelling(left: str, right: str) -> None:
    assert read_unit(left) is not None
    assert read_unit(left) == read_unit(right)
