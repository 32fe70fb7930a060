import re
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mifo_ext.world.problems import (
    MEANING,
    SKILLS,
    code_problem,
    draw_distinct,
    draw_problem,
    product_problem,
    sum_problem,
)

CELLS = [(name, level) for name, skill in SKILLS.items() for level in (2, *skill.asked)]


def test_a_sum_is_worked_one_addition_at_a_time() -> None:
    problem = sum_problem([3, 4, 7])

    assert problem.question == "3+4+7="
    assert problem.demonstration == "3+4=7+7=14\n\\boxed{14}"


def test_a_product_is_worked_one_multiplication_at_a_time() -> None:
    problem = product_problem([3, 4, 2])

    assert problem.question == "3*4*2="
    assert problem.demonstration == "3*4=12*2=24\n\\boxed{24}"


def test_a_code_is_worked_in_the_digits_its_letters_stand_for() -> None:
    # Letters 1, 4 and 3 are a, d and c, which stand for 4, 7 and 1.
    problem = code_problem([1, 4, 3])

    assert problem.question == "a+d+c="
    assert problem.demonstration == "4+7=11+1=12\n\\boxed{12}"


def test_each_letter_stands_for_a_digit_of_its_own() -> None:
    assert sorted(MEANING.values()) == list(range(1, 10))


def evaluated(question: str) -> int:
    """The answer by another way than the one under test: Python reads the expression."""
    expression = question.removesuffix("=").translate(str.maketrans("abcdefghi", "491738265"))
    assert re.fullmatch(r"[1-9]([+*][1-9])+", expression)
    return int(eval(expression))


@pytest.mark.parametrize(("skill", "level"), CELLS)
@given(seed=st.integers(0, 2**32))
def test_every_demonstration_is_right_in_each_step(skill: str, level: int, seed: int) -> None:
    problem = draw_problem(Random(seed), skill, level)

    assert problem.answer == str(evaluated(problem.question))
    working, last_line = problem.demonstration.split("\n")
    assert last_line == "\\boxed{" + problem.answer + "}"
    # "3+4=7+7=14": each number after "=" is worth what stands before it since the last "=".
    claims = working.split("=")
    for left, right in pairwise(claims):
        assert eval(left) == int(re.match(r"\d+", right).group())  # type: ignore[union-attr]
    assert claims[-1] == problem.answer
    assert len(re.findall(r"[+*]", problem.question)) == level - 1


@given(seed=st.integers(0, 2**32))
def test_a_product_has_at_most_two_digits(seed: int) -> None:
    assert int(draw_problem(Random(seed), "product", 5).answer) <= 99


def test_distinct_problems_differ_and_avoid_what_is_taken() -> None:
    taken = {"1+1=", "1+2="}

    drawn = draw_distinct(Random(0), "sum", 2, 79, without=taken)

    # 9 * 9 questions less the two taken.
    assert len({problem.question for problem in drawn}) == 79
    assert not taken & {problem.question for problem in drawn}


def test_more_distinct_problems_than_there_are_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"`count` must be at most .* but is 82"):
        draw_distinct(Random(0), "sum", 2, 82)


def test_an_unknown_skill_is_an_error_that_names_the_skills() -> None:
    with pytest.raises(ValueError, match="one of sum, product, code, but is 'root'"):
        draw_problem(Random(0), "root", 3)


def test_a_single_number_is_no_problem() -> None:
    with pytest.raises(ValueError, match="`level` must be at least 2, but is 1"):
        draw_problem(Random(0), "sum", 1)
