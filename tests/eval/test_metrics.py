import json
from dataclasses import astuple
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mifo_ext.eval.estimates import average_of, mean_interval
from mifo_ext.eval.metrics import MissingSamples, from_json, run_result, to_json
from mifo_ext.eval.record import Finish, GradeLine, Problem, Sample
from mifo_ext.eval.results import Lengths, RunResult
from mifo_ext.grading.record import Verdict


def problem(benchmark: str, name: str, *, group: str = "") -> Problem:
    return Problem(benchmark, name, f"What is {name}?", "1/2", group=group)


def sample(
    benchmark: str, name: str, number: int, *, tokens: int = 10, finish: Finish = "stop"
) -> Sample:
    return Sample(benchmark, name, number, "key", number, "So 1.", finish, tokens)


def grade(
    benchmark: str, name: str, number: int, verdict: Verdict, extracted: str | None = "3"
) -> GradeLine:
    return GradeLine(benchmark, name, number, "key", verdict, "", extracted, "number")


def drawn(benchmark: str, name: str, pattern: str) -> tuple[list[Sample], list[GradeLine]]:
    """Samples by letter: c is correct, w is wrong, n has no answer."""
    said: dict[str, tuple[Verdict, str | None]] = {
        "c": ("correct", "0.5"),
        "w": ("wrong", "3"),
        "n": ("no_answer", None),
    }
    grades = [grade(benchmark, name, at, *said[letter]) for at, letter in enumerate(pattern)]
    return [sample(benchmark, name, at) for at in range(len(pattern))], grades


def result(patterns: dict[str, dict[str, str]], **changes: Any) -> RunResult:
    """Figures of problems given as letters by benchmark and id."""
    problems, samples, grades = [], [], []
    for benchmark, own in patterns.items():
        for name, pattern in own.items():
            problems.append(problem(benchmark, name))
            more_samples, more_grades = drawn(benchmark, name, pattern)
            samples += more_samples
            grades += more_grades
    planned = {name: max(map(len, own.values())) for name, own in patterns.items()}
    arguments: dict[str, Any] = {
        "grader": "strict",
        "problems": problems,
        "samples": samples,
        "grades": grades,
        "planned": planned,
    }
    return run_result("mifo", **(arguments | changes))


def test_figures_of_two_problems_by_hand() -> None:
    [found] = result({"aime24": {"one": "cwww", "two": "ccwn"}}).benchmarks

    assert (found.benchmark, found.problems, found.samples, found.coverage) == ("aime24", 2, 4, 1.0)
    assert found.per_problem == {"one": 0.25, "two": 0.5}
    assert found.accuracy == mean_interval([0.25, 0.5])
    # pass@2 of "one": 1 - C(3,2)/C(4,2) = 1/2; of "two": 1 - C(2,2)/C(4,2) = 5/6.
    assert found.passes == pytest.approx({1: 0.375, 2: (1 / 2 + 5 / 6) / 2, 4: 1.0})
    # maj@2 of "one": half of the draws are tied, 1/4; of "two", letters c c w n: cc 1, cw 1/2
    # twice, cn 1 twice, wn 0: 4/6. maj@4: w wins "one", c wins "two".
    assert found.majorities == pytest.approx({1: 0.375, 2: (1 / 4 + 4 / 6) / 2, 4: 0.5})
    assert found.rates == {
        "truncated": 0.0,
        "no_answer": 1 / 8,
        "unparsable_gold": 0.0,
        "timeout": 0.0,
        "error": 0.0,
    }


def test_the_series_ends_with_k_itself() -> None:
    [found] = result({"aime24": {"one": "cwwwww"}}).benchmarks

    assert list(found.passes) == list(found.majorities) == [1, 2, 4, 6]
    [single] = result({"math500": {"one": "c"}}).benchmarks
    assert list(single.passes) == [1]


def test_lengths_and_truncation_are_those_of_responses() -> None:
    samples = [
        sample("aime24", "one", number, tokens=tokens, finish="length" if tokens == 90 else "stop")
        for number, tokens in enumerate([10, 20, 30, 90])
    ]
    said: list[Verdict] = ["correct", "correct", "wrong", "no_answer"]
    grades = [grade("aime24", "one", number, verdict) for number, verdict in enumerate(said)]

    [found] = result({"aime24": {"one": "cccc"}}, samples=samples, grades=grades).benchmarks

    assert found.rates["truncated"] == 0.25
    assert found.rates["no_answer"] == 0.25
    assert astuple(found.lengths["all"]) == pytest.approx((4, 37.5, 25.0, 81.0))
    assert astuple(found.lengths["correct"]) == pytest.approx((2, 15.0, 15.0, 19.5))
    assert astuple(found.lengths["wrong"]) == pytest.approx((2, 60.0, 60.0, 87.0))


def test_no_response_of_a_kind_has_no_length() -> None:
    [found] = result({"aime24": {"one": "ww"}}).benchmarks

    assert found.lengths["correct"] == Lengths(0, None, None, None)


def test_groups_have_intervals_and_problems_without_one_are_in_none() -> None:
    names = {"one": "algebra", "two": "number theory", "three": "algebra", "four": ""}
    problems = [problem("math500", name, group=group) for name, group in names.items()]

    [found] = result(
        {"math500": {"one": "c", "two": "w", "three": "w", "four": "c"}}, problems=problems
    ).benchmarks

    assert found.groups == {
        "algebra": mean_interval([1.0, 0.0]),
        "number theory": mean_interval([0.0]),
    }


def test_the_average_is_there_for_several_benchmarks_in_the_plans_order() -> None:
    found = result({"math500": {"one": "c", "two": "c"}, "aime24": {"one": "wwww"}})

    assert [one.benchmark for one in found.benchmarks] == ["math500", "aime24"]
    assert found.average == average_of([one.accuracy for one in found.benchmarks])
    assert found.average is not None
    assert found.average.value == 0.5
    assert result({"aime24": {"one": "w"}}).average is None


def test_missing_samples_stop_and_say_how_many_of_which() -> None:
    samples, grades = drawn("aime24", "one", "ccww")

    with pytest.raises(MissingSamples, match=r"3 of 4 in aime24 are missing.*`allow_missing`"):
        result({"aime24": {"one": "ccww"}}, samples=samples[:1], grades=grades[:1])
    with pytest.raises(MissingSamples, match="2 of 4 in aime24 have no grade"):
        result({"aime24": {"one": "ccww"}}, samples=samples, grades=grades[2:])


def test_missing_samples_never_count_as_zero() -> None:
    [found] = result(
        {"aime24": {"one": "cc", "two": "ccwc", "three": ""}}, allow_missing=True
    ).benchmarks

    # "three" has no sample and is left out; "one" has 2 of 4, so pass@j ends at 2.
    assert found.per_problem == {"one": 1.0, "two": 0.75}
    assert found.accuracy.value == 0.875
    assert found.problems == 2
    assert found.coverage == 6 / 12
    assert list(found.passes) == list(found.majorities) == [1, 2]


def test_a_benchmark_without_any_sample_is_never_a_figure() -> None:
    with pytest.raises(MissingSamples, match="hold some of aime25, but hold none"):
        result(
            {"aime24": {"one": "c"}, "aime25": {"one": ""}},
            planned={"aime24": 1, "aime25": 1},
            allow_missing=True,
        )


def test_doubles_strangers_and_grades_without_samples_are_refused() -> None:
    samples, grades = drawn("aime24", "one", "cc")
    case = {"aime24": {"one": "cc"}}

    with pytest.raises(ValueError, match=r"`samples` must be one .*'one', 1\) has two"):
        result(case, samples=[*samples, samples[1]])
    with pytest.raises(ValueError, match="`grades` must be one"):
        result(case, grades=[*grades, grades[1]])
    with pytest.raises(ValueError, match=r"1 samples, first \('aime24', 'one', 1\), have a grade"):
        result(case, samples=samples[:1], allow_missing=True)
    with pytest.raises(ValueError, match=r"first \('aime24', 'one', 2\), are not planned"):
        result(case, samples=[*samples, sample("aime24", "one", 2)])


def test_a_plan_that_does_not_fit_the_problems_is_refused() -> None:
    case = {"aime24": {"one": "c"}}

    with pytest.raises(ValueError, match="benchmarks of `problems`, aime24, but names aime25"):
        result(case, planned={"aime25": 1})
    with pytest.raises(ValueError, match="must be at least 1, but is 0 for aime24"):
        result(case, planned={"aime24": 0}, samples=[], grades=[])
    with pytest.raises(ValueError, match="`problems` must have ids of their own"):
        result(case, problems=[problem("aime24", "one")] * 2)


def test_a_grader_that_names_no_answers_has_no_vote() -> None:
    grades = [grade("aime24", "one", 0, "correct", None), grade("aime24", "one", 1, "wrong", None)]

    [found] = result({"aime24": {"one": "cw"}}, grades=grades).benchmarks

    assert found.majorities == {}
    assert found.passes == {1: 0.5, 2: 1.0}


def test_a_correct_sample_without_a_named_answer_votes_for_the_gold() -> None:
    grades = [
        grade("aime24", "one", 0, "correct", None),
        grade("aime24", "one", 1, "correct", "0.5"),
        grade("aime24", "one", 2, "wrong", "3"),
    ]

    [found] = result({"aime24": {"one": "ccw"}}, grades=grades).benchmarks

    assert found.majorities[3] == 1.0


def test_silence_under_a_grader_that_names_answers_is_a_lost_vote() -> None:
    [found] = result({"aime24": {"one": "nn"}}).benchmarks

    assert found.majorities == {1: 0.0, 2: 0.0}


PATTERNS = st.lists(st.text("cwn", min_size=3, max_size=3), min_size=1, max_size=4)


@settings(max_examples=40)
@given(PATTERNS, st.randoms(use_true_random=False))
def test_order_of_records_never_matters(patterns: list[str], random: Any) -> None:
    case = {"aime24": {str(at): pattern for at, pattern in enumerate(patterns)}}
    problems = [problem("aime24", name) for name in case["aime24"]]
    samples = [one for name, own in case["aime24"].items() for one in drawn("aime24", name, own)[0]]
    grades = [one for name, own in case["aime24"].items() for one in drawn("aime24", name, own)[1]]
    for records in (problems, samples, grades):
        random.shuffle(records)

    assert result(case, problems=problems, samples=samples, grades=grades) == result(case)


@settings(max_examples=40)
@given(PATTERNS, PATTERNS)
def test_json_and_back_is_the_same_and_holds_no_nan(first: list[str], second: list[str]) -> None:
    found = result(
        {
            name: {str(at): pattern for at, pattern in enumerate(patterns)}
            for name, patterns in (("aime24", first), ("math500", second))
        }
    )

    text = json.dumps(to_json(found), allow_nan=False)
    back = from_json(json.loads(text))

    assert back == found
    assert json.dumps(to_json(back)) == text


def test_json_names_the_ends_of_intervals() -> None:
    written = to_json(result({"aime24": {"one": "cw"}}))

    assert written["average"] is None
    assert set(written["benchmarks"][0]["accuracy"]) == {"value", "low", "high"}
    assert written["benchmarks"][0]["passes"] == {"1": 0.5, "2": 1.0}


def test_json_of_something_else_is_refused() -> None:
    written = to_json(result({"aime24": {"one": "cw"}}))

    for broken in ({"name": "x"}, {**written, "more": 1}, {**written, "benchmarks": [{}]}):
        with pytest.raises(ValueError, match="`written` must be a result"):
            from_json(broken)
