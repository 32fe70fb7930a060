r"""Problems with a difficulty dial, and a worked demonstration for each.

Three skills share one way of writing: a chain of equalities, then the answer.

| skill   | question     | demonstration                       | schooled levels | level is      |
|---------|--------------|-------------------------------------|-----------------|---------------|
| sum     | `sum 3+4+7=` | `3+4=7+7=14` and `\boxed{14}`       | 2 to 5          | terms         |
| product | `mul 3*4*2=` | `3*4=12*2=24` and `\boxed{24}`      | 2 to 4          | factors       |
| twice   | `dbl 3+4+7=` | `3+4=7+7=14*2=28` and `\boxed{28}`  | none            | terms inside  |
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random

LARGEST_PRODUCT = 99


@dataclass(frozen=True)
class Problem:
    """One question with its worked answer.

    Attributes:
        skill: the operation asked for, a key of `SKILLS`.
        numbers: what the question is about, in its order.
        question: what the model is asked.
        working: the steps, one line.
        answer: the number asked for, in decimal digits.
    """

    skill: str
    numbers: tuple[int, ...]
    question: str
    working: str
    answer: str

    @property
    def level(self) -> int:
        """How many numbers the question holds; the difficulty dial."""
        return len(self.numbers)

    @property
    def word(self) -> str:
        """The word that stands first in the question."""
        return SKILLS[self.skill].word

    @property
    def demonstration(self) -> str:
        """The worked steps and the boxed answer."""
        return f"{self.working}\n{boxed(self.answer)}"


@dataclass(frozen=True)
class Skill:
    r"""One operation, the levels it is asked at and those the schooling shows.

    Attributes:
        word: stands first in its questions.
        make: builds the problem for a list of digits.
        asked: levels that occur in the data.
        schooled: levels that the schooling shows; empty for an operation it never shows.
        acceptable: whether these digits make a fair question.
    """

    word: str
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
    question = "sum " + "+".join(map(str, terms)) + "="
    return Problem("sum", tuple(terms), question, chain, str(total))


def product_problem(factors: list[int]) -> Problem:
    """The product of the factors, one multiplication at a time."""
    chain, total = str(factors[0]), factors[0]
    for factor in factors[1:]:
        total *= factor
        chain += f"*{factor}={total}"
    question = "mul " + "*".join(map(str, factors)) + "="
    return Problem("product", tuple(factors), question, chain, str(total))


def twice_problem(terms: list[int]) -> Problem:
    """Twice the sum of the terms: the additions, then one doubling."""
    chain, total = running_sum(terms)
    question = "dbl " + "+".join(map(str, terms)) + "="
    return Problem("twice", tuple(terms), question, f"{chain}*2={2 * total}", str(2 * total))


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
    "sum": Skill("sum", sum_problem, (3, 4, 5, 6, 7), (2, 3, 4, 5), always),
    "product": Skill("mul", product_problem, (3, 4, 5), (2, 3, 4), small_product),
    "twice": Skill("dbl", twice_problem, (3, 4, 5), (), always),
}


def draw_problem(random: Random, skill: str, level: int) -> Problem:
    """Draw one problem of a skill and level.

    Args:
        random: the source of chance; its state moves on.
        skill: a key of `SKILLS`.
        level: how many digits the question holds, at least 2.

    Returns:
        The problem, its digits drawn from 1 to 9 until they make a fair question.

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
