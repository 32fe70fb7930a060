r"""Problems with a difficulty dial, and a worked demonstration for each.

Three skills share one way of writing: a chain of equalities, then the answer.

| skill   | question   | demonstration                 | schooled levels | level is |
|---------|------------|-------------------------------|-----------------|----------|
| sum     | `3+4+7=`   | `3+4=7+7=14` and `\boxed{14}` | 2 to 5          | terms    |
| product | `3*4*2=`   | `3*4=12*2=24` and `\boxed{24}`| 2 to 4          | factors  |
| code    | `a+d+c=`   | `4+7=11+1=12` and `\boxed{12}`| none            | letters  |

The letters of a code stand for fixed digits, which the schooling never tells. Adding them up is
known; which digit a letter means can only be learned from a demonstration, because a chain of
lucky guesses is all that rollouts could find it by.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random

LARGEST_PRODUCT = 99

LETTERS = "abcdefghi"
MEANING = dict(zip(LETTERS, (4, 9, 1, 7, 3, 8, 2, 6, 5), strict=True))
"""What each letter of a code stands for; written down nowhere but in the demonstrations."""


@dataclass(frozen=True)
class Problem:
    """One question with its worked answer.

    Attributes:
        skill: the operation asked for, a key of `SKILLS`.
        level: how many numbers the question holds; the difficulty dial.
        question: what the model is asked.
        working: the steps, one line.
        answer: the number asked for, in decimal digits.
    """

    skill: str
    level: int
    question: str
    working: str
    answer: str

    @property
    def demonstration(self) -> str:
        """The worked steps and the boxed answer."""
        return f"{self.working}\n{boxed(self.answer)}"


@dataclass(frozen=True)
class Skill:
    r"""One operation, the levels it is asked at and those the schooling shows.

    Attributes:
        make: builds the problem for a list of digits.
        asked: levels that occur in the data.
        schooled: levels that the schooling shows; empty for an operation it never shows.
        acceptable: whether these digits make a fair question.
    """

    make: Callable[[list[int]], Problem]
    asked: tuple[int, ...]
    schooled: tuple[int, ...]
    acceptable: Callable[[list[int]], bool]


def boxed(answer: str) -> str:
    r"""The answer as the grader looks for it: `\boxed{answer}`."""
    return rf"\boxed{{{answer}}}"


def sum_problem(terms: list[int]) -> Problem:
    """The sum of the terms, one addition at a time."""
    chain, total = running_sum(terms)
    return Problem("sum", len(terms), "+".join(map(str, terms)) + "=", chain, str(total))


def product_problem(factors: list[int]) -> Problem:
    """The product of the factors, one multiplication at a time."""
    chain, total = str(factors[0]), factors[0]
    for factor in factors[1:]:
        total *= factor
        chain += f"*{factor}={total}"
    return Problem("product", len(factors), "*".join(map(str, factors)) + "=", chain, str(total))


def code_problem(numbers: list[int]) -> Problem:
    """The sum of letters, number n being the n-th letter."""
    letters = [LETTERS[number - 1] for number in numbers]
    chain, total = running_sum([MEANING[letter] for letter in letters])
    return Problem("code", len(numbers), "+".join(letters) + "=", chain, str(total))


def running_sum(terms: list[int]) -> tuple[str, int]:
    """The chain of equalities that adds up the terms, and their total."""
    chain, total = str(terms[0]), terms[0]
    for term in terms[1:]:
        total += term
        chain += f"+{term}={total}"
    return chain, total


def always(_: list[int]) -> bool:
    """Every list of digits makes a fair question."""
    return True


def small_product(factors: list[int]) -> bool:
    """Whether the product has at most two digits."""
    total = 1
    for factor in factors:
        total *= factor
    return total <= LARGEST_PRODUCT


SKILLS: dict[str, Skill] = {
    "sum": Skill(sum_problem, (3, 4, 5, 6), (2, 3, 4, 5), always),
    "product": Skill(product_problem, (3, 4, 5), (2, 3, 4), small_product),
    "code": Skill(code_problem, (3, 4, 5), (), always),
}


def draw_problem(random: Random, skill: str, level: int) -> Problem:
    """Draw one problem of a skill and level.

    Args:
        random: the source of chance; its state moves on.
        skill: a key of `SKILLS`.
        level: how many digits the question holds, at least 2.

    Returns:
        The problem, its numbers drawn from 1 to 9 until they make a fair question.

    Raises:
        ValueError: if the skill is unknown or the level below 2.
    """
    if skill not in SKILLS:
        raise ValueError(f"`skill` must be one of {', '.join(SKILLS)}, but is {skill!r}.")
    if level < 2:
        raise ValueError(f"`level` must be at least 2, but is {level}.")

    while True:
        digits = [random.randint(1, 9) for _ in range(level)]
        if SKILLS[skill].acceptable(digits):
            return SKILLS[skill].make(digits)


def draw_distinct(
    random: Random, skill: str, level: int, count: int, *, without: Iterable[str] = ()
) -> list[Problem]:
    """Draw problems whose questions are all different.

    Args:
        random: the source of chance; its state moves on.
        skill: a key of `SKILLS`.
        level: how many digits each question holds.
        count: how many problems to draw.
        without: questions that must not occur.

    Returns:
        `count` problems, in the order drawn.

    Raises:
        ValueError: if so many different questions were not found.
    """
    seen, drawn = set(without), list[Problem]()
    for _ in range(200 * count + 1000):
        if len(drawn) == count:
            return drawn
        problem = draw_problem(random, skill, level)
        if problem.question not in seen:
            seen.add(problem.question)
            drawn.append(problem)
    raise ValueError(
        f"`count` must be at most the number of different questions of {skill} at level {level}, "
        f"but is {count}. Ask for fewer."
    )
