"""Which samples a page shows, and how much of each."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mifo_ext.eval.record import GradeLine, Problem, Sample
from mifo_ext.eval.shown import RunSamples, clipped, fair_shares, samples_of
from mifo_ext.grading.record import Verdict


def answers(
    run: str, benchmark: str, verdicts: list[Verdict], *, response: str = "abc"
) -> tuple[list[Sample], list[GradeLine]]:
    samples = [
        Sample(benchmark, f"{i}", 0, "", 0, response, "stop", 3) for i in range(len(verdicts))
    ]
    grades = [
        GradeLine(benchmark, f"{i}", 0, "", verdict, "why", None, "none")
        for i, verdict in enumerate(verdicts)
    ]
    return samples, grades


def asked(benchmark: str, count: int) -> list[Problem]:
    return [Problem(benchmark, f"{i}", f"question {i}", "1") for i in range(count)]


def test_few_samples_are_all_shown_in_their_order() -> None:
    samples, grades = answers("r", "a", ["wrong", "correct", "timeout"])

    selection = samples_of([RunSamples("r", samples, grades)], asked("a", 3))

    assert [(one.problem, one.verdict) for one in selection.samples] == [
        *(("0", "wrong"), ("1", "correct"), ("2", "timeout")),
    ]
    assert selection.samples[2].question == "question 2"
    assert selection.remark == ""


def test_the_cap_is_shared_by_benchmarks_and_then_by_verdicts() -> None:
    big, big_grades = answers("r", "big", ["wrong"] * 90 + ["correct"] * 9 + ["timeout"])
    small, small_grades = answers("r", "small", ["correct"] * 2)
    run = RunSamples("r", [*big, *small], [*big_grades, *small_grades])

    selection = samples_of([run], [*asked("big", 100), *asked("small", 2)], at_most=13)

    # small needs 2; big has 11: 1 timeout, 5 of each of the others.
    counts = Counter((one.benchmark, one.verdict) for one in selection.samples)
    assert counts == {
        ("small", "correct"): 2,
        ("big", "timeout"): 1,
        ("big", "correct"): 5,
        ("big", "wrong"): 5,
    }
    assert selection.remark.startswith("13 of 102 samples are here")
    assert selection == samples_of([run], [*asked("big", 100), *asked("small", 2)], at_most=13)


def test_runs_show_the_same_problems() -> None:
    runs = [RunSamples(name, *answers(name, "a", ["wrong"] * 50)) for name in ("r", "s")]

    selection = samples_of(runs, asked("a", 50), at_most=10)

    of_r, of_s = ({o.problem for o in selection.samples if o.run == name} for name in ("r", "s"))
    assert len(of_r) == 5
    assert of_r == of_s


def test_a_long_response_says_how_much_of_its_middle_is_left_out() -> None:
    samples, grades = answers("r", "a", ["wrong"], response="x" * 1_500 + "the end")

    selection = samples_of([RunSamples("r", samples, grades)], asked("a", 1), longest_text=1_000)

    (one,) = selection.samples
    assert "[… 507 characters left out …]" in one.response
    assert one.response.endswith("the end")
    assert selection.remark == (
        "1 responses are longer than 1,000 characters: their middle is left out."
    )


def test_all_responses_together_stay_below_their_cap() -> None:
    samples, grades = answers("r", "a", ["wrong"] * 4, response="x" * 5_000)

    selection = samples_of([RunSamples("r", samples, grades)], asked("a", 4), text_at_most=8_000)

    assert all("[… 3,000 characters left out …]" in one.response for one in selection.samples)


def test_a_sample_without_grade_or_problem_is_refused() -> None:
    samples, grades = answers("r", "a", ["wrong", "wrong"])

    with pytest.raises(ValueError, match="`grades` must hold every sample"):
        samples_of([RunSamples("r", samples, grades[:1])], asked("a", 2))
    with pytest.raises(ValueError, match="`problems` must hold every problem"):
        samples_of([RunSamples("r", samples, grades)], asked("a", 1))


@given(st.dictionaries(st.integers(), st.integers(0, 50), max_size=6), st.integers(0, 200))
def test_shares_are_as_even_as_the_counts_allow(counts: dict[int, int], total: int) -> None:
    shares = fair_shares(counts, total)

    assert sum(shares.values()) == min(total, sum(counts.values()))
    assert all(0 <= shares[key] <= counts[key] for key in counts)
    most = max(shares.values(), default=0)
    assert all(shares[key] >= most - 1 for key in counts if shares[key] < counts[key])


@given(st.text(max_size=50), st.integers(0, 50))
def test_clipping_keeps_both_ends(text: str, longest: int) -> None:
    short = clipped(text, longest)

    if len(text) <= longest:
        assert short == text
    else:
        tail = longest // 2
        assert short.startswith(text[: longest - tail])
        assert short.endswith(text[len(text) - tail :])
        assert f"{len(text) - longest} characters" in short
