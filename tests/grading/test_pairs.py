"""Labelled pairs: a response, a gold, and whether the response is right.

`shared_pairs.jsonl` was labelled before this grader existed, `own_pairs.jsonl` for it; the ids
name the category.
"""

import json
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from mifo_ext.grading import grade

HERE = Path(__file__).parent
SECONDS_AT_MOST = 2.0


class Pair(NamedTuple):
    id: str
    gold: str
    pred: str
    expected: bool
    note: str


def read(name: str) -> list[Pair]:
    lines = (HERE / name).read_text(encoding="utf-8").splitlines()
    return [Pair(**json.loads(line)) for line in lines]


SHARED = read("shared_pairs.jsonl")
OWN = read("own_pairs.jsonl")


@pytest.fixture(autouse=True, scope="module")
def warm() -> None:
    # The first symbolic question starts the worker process, which imports sympy.
    grade("\\boxed{\\foo x}", "\\bar{\\foo} x")


@pytest.mark.parametrize("pair", [*SHARED, *OWN], ids=lambda pair: pair.id)
def test_verdict_is_the_label(pair: Pair) -> None:
    graded = grade(pair.pred, pair.gold)

    assert graded.correct == pair.expected, f"{graded}\n{pair.note}"


@pytest.mark.parametrize("pairs", [SHARED, OWN], ids=["shared", "own"])
def test_recall_and_specificity_are_in_bounds(pairs: list[Pair]) -> None:
    right = [grade(pair.pred, pair.gold).correct for pair in pairs if pair.expected]
    wrong = [grade(pair.pred, pair.gold).correct for pair in pairs if not pair.expected]

    assert sum(right) / len(right) >= 0.95
    assert 1 - sum(wrong) / len(wrong) >= 0.97


CATEGORIES = (
    "frac mixed int pct unit set ival tuple mat expr eq sci text mcq ext uni bomb long safe"
)


def test_there_are_enough_pairs_of_every_category() -> None:
    assert len(OWN) >= 150
    assert {pair.id.split("-")[-2] for pair in OWN} == set(CATEGORIES.split())
    assert len({pair.id for pair in OWN}) == len(OWN)


@pytest.mark.parametrize(
    "pair",
    [p for p in (*SHARED, *OWN) if p.id.split("-")[-2] in ("bomb", "long", "safe")],
    ids=lambda pair: pair.id,
)
def test_hostile_text_is_graded_within_two_seconds(pair: Pair) -> None:
    seconds = []
    for _ in range(3):  # the best of three: other processes may hold the machine
        started = time.perf_counter()
        grade(pair.pred, pair.gold)
        seconds.append(time.perf_counter() - started)
        if seconds[-1] < SECONDS_AT_MOST:
            break

    assert min(seconds) < SECONDS_AT_MOST


def test_nothing_in_an_answer_is_executed(tmp_path: Path) -> None:
    target = tmp_path / "touched"
    for code in (
        f"__import__('os').system('touch {target}')",
        f"\\text{{open('{target}','w')}}",
        f"(lambda: open('{target}','w'))()",
    ):
        grade(f"\\boxed{{{code}}}", "5")
        grade("\\boxed{5}", code)

    assert not target.exists()
