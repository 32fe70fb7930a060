from itertools import combinations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mifo_ext.eval import voting
from mifo_ext.eval.voting import clusters, majority_at, majority_curve

PICKS = st.lists(st.sampled_from([None, 0, 1, 2, 3]), min_size=1, max_size=9)


def by_enumeration(j: int, numbers: list[Any], correct: list[bool]) -> float:
    """The definition, subset by subset."""

    def verdict(cluster: int) -> float:
        own = [right for one, right in zip(numbers, correct, strict=True) if one == cluster]
        return sum(own) / len(own)

    total = 0.0
    subsets = list(combinations(numbers, j))
    for subset in subsets:
        votes = [one for one in subset if one is not None]
        if votes:
            most = max(map(votes.count, votes))
            tied = {one for one in votes if votes.count(one) == most}
            total += sum(map(verdict, tied)) / len(tied)
    return total / len(subsets)


def test_equal_answers_share_a_cluster_however_they_are_written() -> None:
    answers = ["1/2", "7", "0.5", None, r"\frac{1}{2}", " 0.50", "7", "x^2+1", "1+x^2"]

    assert clusters(answers) == [0, 1, 0, None, 0, 0, 1, 2, 2]


def test_letters_and_words_are_answers_too() -> None:
    assert clusters(["B", "(B)", "C", r"\text{east}", "East"]) == [0, 0, 1, 2, 2]


def test_an_undecided_comparison_keeps_answers_apart() -> None:
    assert clusters([r"\int_0^1 x dx", r"\int_0^1 y dy"]) == [0, 1]


def test_nothing_answered_is_no_cluster() -> None:
    assert clusters([None, None]) == [None, None]
    assert clusters([]) == []


def test_equality_holds_in_either_direction_and_over_chains(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # As if the grader accepted b for the gold a, and c for the gold b, and nothing else.
    class Said:
        def __init__(self, same: bool) -> None:
            self.same = same

    accepted = {("pa", "pb"), ("pc", "pb")}
    monkeypatch.setattr(voting, "compare", lambda gold, answer: Said((gold, answer) in accepted))

    assert clusters(["pc", "pa", "pd", "pb"]) == [0, 0, 1, 0]
    assert clusters(["pb", "pd", "pa", "pc"]) == [0, 1, 0, 0]


def test_comparisons_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def counting(gold: str, answer: str) -> Any:
        asked.append((gold, answer))
        return type("Said", (), {"same": None})()

    monkeypatch.setattr(voting, "compare", counting)
    numbers = clusters([f"x + {number}" for number in range(200)])

    assert len(asked) == 64 * 63
    assert numbers == list(range(200))


def test_which_spelling_is_compared_does_not_depend_on_the_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    def recording(gold: str, answer: str) -> Any:
        asked.append((gold, answer))
        return type("Said", (), {"same": None})()

    monkeypatch.setattr(voting, "compare", recording)
    clusters(["2", "$2$", "3"])
    clusters(["$2$", "3", "2"])

    assert asked[:2] == asked[2:] == [("$2$", "3"), ("3", "$2$")]


def test_endless_answers_are_equal_to_themselves_only() -> None:
    long = "1" * 5000
    assert clusters([long, "0" + long, long]) == [0, 1, 0]


def test_answers_nested_too_deep_to_compare_are_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    def too_deep(gold: str, answer: str) -> Any:
        raise RecursionError

    monkeypatch.setattr(voting, "compare", too_deep)

    assert clusters(["1", "2", "1"]) == [0, 1, 0]


@settings(max_examples=50, deadline=5_000)
@given(
    st.lists(
        st.sampled_from([None, "1/2", "0.5", "50\\%", "2", "2.0", "x", "(1,2)", "5 cm", "5"]),
        max_size=8,
    ),
    st.randoms(use_true_random=False),
)
def test_order_of_answers_never_matters(answers: list[str | None], random: Any) -> None:
    order = list(range(len(answers)))
    random.shuffle(order)
    straight, shuffled = clusters(answers), clusters([answers[place] for place in order])

    back = {place: shuffled[position] for position, place in enumerate(order)}
    for one, other in combinations(range(len(answers)), 2):
        assert (straight[one] == straight[other]) == (back[one] == back[other])


def test_majority_by_hand() -> None:
    # Answers a a b, a is right. One vote: 2/3. Two votes: aa right, ab and ab tied, 1/2 each:
    # (1 + 1/2 + 1/2) / 3 = 2/3. Three votes: a wins.
    votes, correct = [0, 0, 1], [True, True, False]

    assert majority_at(1, votes, correct) == pytest.approx(2 / 3)
    assert majority_at(2, votes, correct) == pytest.approx(2 / 3)
    assert majority_at(3, votes, correct) == 1


def test_silence_does_not_vote_and_alone_is_wrong() -> None:
    # Two of two: the single voter decides. One of two: in half of the draws nobody votes.
    assert majority_at(2, [0, None], [True, False]) == 1
    assert majority_at(1, [0, None], [True, False]) == 0.5
    assert majority_at(2, [None, None], [False, False]) == 0


def test_a_cluster_is_worth_its_share_of_correct_members() -> None:
    assert majority_at(3, [0, 0, 0], [True, True, False]) == pytest.approx(2 / 3)


@given(PICKS, st.data())
def test_every_size_agrees_with_the_enumeration_of_subsets(
    numbers: list[int | None], data: st.DataObject
) -> None:
    correct = [one is not None and data.draw(st.booleans()) for one in numbers]
    curve = majority_curve(range(1, len(numbers) + 1), numbers, correct)

    for j, share in curve.items():
        assert share == pytest.approx(by_enumeration(j, numbers, correct), abs=1e-12)
    assert curve[1] == pytest.approx(sum(correct) / len(correct))


@given(st.integers(1, 64), st.booleans(), st.data())
def test_a_unanimous_vote_is_its_verdict(drawn: int, right: bool, data: st.DataObject) -> None:
    j = data.draw(st.integers(1, drawn))

    assert majority_at(j, [0] * drawn, [right] * drawn) == pytest.approx(float(right))


@given(PICKS, st.randoms(use_true_random=False))
def test_order_of_samples_never_matters(numbers: list[int | None], random: Any) -> None:
    pairs = [(one, one == 0) for one in numbers]
    shuffled = list(pairs)
    random.shuffle(shuffled)
    sizes = range(1, len(numbers) + 1)

    straight = majority_curve(sizes, *map(list, zip(*pairs, strict=True)))  # type: ignore[arg-type]
    mixed = majority_curve(sizes, *map(list, zip(*shuffled, strict=True)))  # type: ignore[arg-type]
    assert straight == mixed


def test_the_largest_votes_stay_within_floats() -> None:
    # 32 right samples among 480 that all say something else: 32 to 1 if everyone votes.
    votes, correct = [0] * 32 + list(range(1, 481)), [True] * 32 + [False] * 480
    curve = majority_curve([1, 256, 512], votes, correct)

    assert curve == pytest.approx({1: 1 / 16, 256: 1.0, 512: 1.0})


@pytest.mark.parametrize(
    ("j", "votes", "correct", "message"),
    [
        (0, [0], [True], r"`j` must be in \[1, 1\]"),
        (2, [0], [True], r"`j` must be in \[1, 1\]"),
        (1, [0, 1], [True], "`correct` must be as long"),
        (1, [None], [True], "`correct` must be False for a sample without an answer"),
        (1, [0] * 513, [True] * 513, "`clusters` must be at most 512"),
    ],
)
def test_what_cannot_vote_is_refused(
    j: int, votes: list[int | None], correct: list[bool], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        majority_at(j, votes, correct)
