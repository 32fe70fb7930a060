import pytest
from hypothesis import given
from hypothesis import strategies as st

from mifo_ext.eval.differences import differences
from mifo_ext.eval.estimates import average_of, mean_interval, paired_interval
from mifo_ext.eval.results import BenchmarkResult, RunResult

SHARES = st.dictionaries(st.text("abcdef", min_size=1, max_size=2), st.floats(0, 1), min_size=1)


def run(name: str, *, grader: str = "strict", k: int = 4, **shares: dict[str, float]) -> RunResult:
    benchmarks = [
        BenchmarkResult(
            benchmark=benchmark,
            problems=len(own),
            samples=k,
            coverage=1.0,
            accuracy=mean_interval(list(own.values())),
            passes={},
            majorities={},
            lengths={},
            rates={},
            per_problem=own,
        )
        for benchmark, own in shares.items()
    ]
    return RunResult(name, grader, benchmarks, None)


def test_the_last_run_is_the_reference_and_problems_are_paired_by_id() -> None:
    mifo = run("mifo", aime24={"two": 0.5, "one": 1.0, "three": 0.75})
    base = run("base", aime24={"one": 0.5, "two": 0.0, "three": 0.25})

    [row] = differences([mifo, base])

    assert (row.run, row.reference, row.benchmark, row.problems) == ("mifo", "base", "aime24", 3)
    assert row.difference == paired_interval([0.5, 0.5, 0.5])
    # Three equal differences: 2 of the 8 assignments of signs are as far out.
    assert row.p == 0.25
    assert row.p_holm == 0.25


def test_only_shared_problems_and_shared_benchmarks_count() -> None:
    mifo = run("mifo", aime24={"one": 1.0, "two": 0.0}, amc83={"a": 1.0})
    base = run("base", aime24={"one": 0.25, "three": 1.0}, math500={"a": 1.0})

    [row] = differences([mifo, base])

    assert (row.benchmark, row.problems, row.difference.value) == ("aime24", 1, 0.75)


def test_holm_is_over_the_benchmarks_of_one_run() -> None:
    ten = {str(number): 0.0 for number in range(10)}
    won = dict.fromkeys(ten, 1.0)
    half = {name: float(int(name) < 4) for name in ten}
    rows = differences(
        [
            run("mifo", aime24=won, math500=half),
            run("grpo", aime24=won),
            run("base", aime24=ten, math500=ten),
        ]
    )

    # 2 of 1,024 assignments for ten wins, 2 of 16 for four.
    assert [(row.run, row.benchmark, row.p, row.p_holm) for row in rows] == [
        ("mifo", "aime24", 2 / 1024, 4 / 1024),
        ("mifo", "math500", 2 / 16, 2 / 16),
        ("mifo", "average", pytest.approx(2 / 2**14), None),
        ("grpo", "aime24", 2 / 1024, 2 / 1024),
    ]


def test_the_average_weighs_benchmarks_alike() -> None:
    mifo = run("mifo", aime24={"one": 1.0}, math500={"a": 0.0, "b": 0.0, "c": 0.5})
    base = run("base", aime24={"one": 0.5}, math500={"a": 0.0, "b": 0.0, "c": 0.0})

    first, second, average = differences([mifo, base])

    assert average.difference.value == pytest.approx((0.5 + 0.5 / 3) / 2)
    assert average.difference == average_of([first.difference, second.difference])
    assert average.problems == 4
    assert average.p_holm is None


def test_the_averages_p_weighs_benchmarks_alike_too() -> None:
    # 0.5 of one problem against 3 times -1 of six: they cancel, and nothing is less far from 0.
    # Unweighted they would sum to -2.5, and 8 of 16 assignments would be less far.
    none = dict.fromkeys("def", 0.0)
    mifo = run("mifo", aime24={"one": 0.5}, math500=dict.fromkeys("abc", 0.0) | none)
    base = run(
        "base", aime24={"one": 0.0}, math500=dict(zip("abcdef", [1, 1, 1, 0, 0, 0], strict=True))
    )

    *_, average = differences([mifo, base])

    assert average.difference.value == 0
    assert average.p == 1.0


def test_different_numbers_of_samples_may_be_compared() -> None:
    [row] = differences(
        [run("mifo", k=32, aime24={"a": 0.5}), run("base", k=4, aime24={"a": 0.25})]
    )

    assert row.difference.value == 0.25


@given(SHARES, SHARES)
def test_a_run_against_itself_is_no_difference(
    first: dict[str, float], second: dict[str, float]
) -> None:
    rows = differences(
        [run("mifo", aime24=first, math500=second), run("base", aime24=first, math500=second)]
    )

    assert [row.benchmark for row in rows] == ["aime24", "math500", "average"]
    for row in rows:
        assert row.difference.value == 0
        assert row.difference.low < 0 < row.difference.high
        assert row.p == 1
        assert row.p_holm in (1, None)


@given(SHARES, st.data())
def test_swapping_the_runs_changes_signs_only(
    shares: dict[str, float], data: st.DataObject
) -> None:
    other = {name: data.draw(st.floats(0, 1)) for name in reversed(shares)}
    [there] = differences([run("a", aime24=shares), run("b", aime24=other)], seed=3)
    [back] = differences([run("b", aime24=other), run("a", aime24=shares)], seed=3)

    value, low, high = there.difference
    assert back.difference == pytest.approx((-value, -high, -low))
    assert back.p == there.p


def test_runs_that_cannot_be_compared_are_refused() -> None:
    mifo, base = run("mifo", aime24={"one": 1.0}), run("base", aime24={"one": 0.0})

    with pytest.raises(ValueError, match="at least two runs, but are 1"):
        differences([mifo])
    with pytest.raises(ValueError, match="names of their own, but are base, base"):
        differences([base, base])
    with pytest.raises(ValueError, match="one grader, but are mifo by strict, base by lenient"):
        differences([mifo, run("base", grader="lenient", aime24={"one": 0.0})])
    with pytest.raises(ValueError, match=r"must share a benchmark, .*aime24 and amc"):
        differences([mifo, run("base", amc83={"one": 1.0})])
    with pytest.raises(ValueError, match="'mifo' and 'base' must share problems of aime24"):
        differences([mifo, run("base", aime24={"two": 1.0})])
