"""How fast the strict grader is on ordinary answers, against math-verify alone.

Run: python benchmarks/grading.py [--responses 10000] [--library-responses 300]

Prints grades per second of both, their ratio, and what share of the verdicts needed the library.
The responses are made here: integers, fractions, decimals, expressions, tuples, intervals and
letters, half of them right, each behind 2,000 characters of text.
"""

import argparse
import random
import time
from collections import Counter
from collections.abc import Callable

from mifo_ext.grading import Grade, grade

FILLER = "We compute the next term and simplify what is left over. " * 35

Pair = tuple[str, str]
"""A response and its gold."""


def _answer(rng: random.Random) -> tuple[str, str, str]:
    """A gold, another spelling of it, and something different."""
    a, b, c = rng.randint(2, 60), rng.randint(2, 60), rng.randint(2, 9)
    kinds = (
        (f"{a * b}", f"{a * b:,}", f"{a * b + 1}"),
        (f"\\frac{{{a}}}{{{b}}}", f"\\dfrac{{{a * c}}}{{{b * c}}}", f"\\frac{{{a + 1}}}{{{b}}}"),
        (f"{a / 8}", f"\\frac{{{a}}}{{8}}", f"{a / 8 + 1}"),
        (f"x^2+{a}x+{b}", f"{b}+x({a}+x)", f"x^2+{b + a}x+{b}"),
        (f"{c}\\sqrt{{{a}}}", f"\\sqrt{{{c * c * a}}}", f"{c}\\sqrt{{{a + 1}}}"),
        (f"({a},{b})", f"\\left({a}, {b}.0\\right)", f"({b},{a + 1})"),
        (f"[{a},{a + b})", f"{a} \\le x < {a + b}", f"[{a},{a + b}]"),
        (f"{a}\\%", f"\\frac{{{a}}}{{100}}", f"{a + 1}\\%"),
        (f"{a} \\text{{ cm}}", f"{a}", f"{a} \\text{{ m}}"),
        ("C", "\\text{(C)}", "D"),
    )
    return rng.choice(kinds)


def make_pairs(count: int, *, seed: int) -> list[Pair]:
    """Pairs of response and gold; every second response is right."""
    rng = random.Random(seed)
    pairs = []
    for index in range(count):
        gold, spelled, different = _answer(rng)
        shown = spelled if index % 2 else different
        pairs.append((f"{FILLER}So the answer is $\\boxed{{{shown}}}$.", gold))
    return pairs


def math_verify_alone(response: str, gold: str) -> bool:
    """math-verify with its defaults on the whole response."""
    from math_verify import parse, verify

    return bool(verify(parse(f"${gold}$"), parse(response)))


def per_second(judge: Callable[[str, str], object], pairs: list[Pair]) -> float:
    """Pairs judged in a second."""
    judge(*pairs[0])
    started = time.perf_counter()
    for response, gold in pairs:
        judge(response, gold)
    return len(pairs) / (time.perf_counter() - started)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--responses", type=int, default=10_000)
    parser.add_argument("--library-responses", type=int, default=300)
    arguments = parser.parse_args()
    pairs = make_pairs(arguments.responses, seed=0)

    graded: list[Grade] = []
    ours = per_second(lambda response, gold: graded.append(grade(response, gold)), pairs)
    integers = per_second(grade, [("\\boxed{42}", str(gold)) for gold in range(20_000)])
    library = per_second(math_verify_alone, pairs[: arguments.library_responses])

    paths = Counter(one.path for one in graded)
    share = paths["symbolic"] / len(graded)
    right = sum(one.correct == bool(index % 2) for index, one in enumerate(graded[1:]))
    print(f"strict grader      {ours:10.0f} grades/s   ({len(pairs) / ours:.1f} s in all)")
    print(f"  integers only    {integers:10.0f} grades/s")
    print(f"math-verify alone  {library:10.0f} grades/s")
    print(f"ratio              {ours / library:10.1f}")
    print(f"verdicts as made   {right / (len(graded) - 1):10.1%}")
    print(f"library needed     {share:10.1%}   {dict(paths)}")


if __name__ == "__main__":
    main()
