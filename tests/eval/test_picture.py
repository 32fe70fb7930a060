"""Pictures of an evaluation: drawn for every shape of results, names of any kind."""

from pathlib import Path

import pytest

from mifo_ext.eval.picture import accuracy_picture, passes_picture
from mifo_ext.eval.picture_lengths import TokenCounts, lengths_picture, token_counts
from mifo_ext.eval.picture_parts import drawable, styles
from mifo_ext.eval.record import GradeLine, Sample
from mifo_ext.eval.results import BenchmarkResult, Estimate, Lengths, RunResult

PNG = b"\x89PNG\r\n\x1a\n"
EVIL = "$x_1$ 模型 \x1b[31m \ud800 _a " + "long" * 30


def result(benchmark: str, *, samples: int = 4, accuracy: float = 0.5) -> BenchmarkResult:
    lengths = Lengths(8, 100, 100, 100)
    return BenchmarkResult(
        benchmark=benchmark,
        problems=1,
        samples=samples,
        coverage=1,
        accuracy=Estimate(accuracy, accuracy, accuracy),
        passes={1: accuracy, samples: accuracy},
        majorities={1: accuracy, samples: accuracy},
        lengths={"all": lengths, "correct": lengths, "wrong": lengths},
        rates={},
    )


def run(name: str, *benchmarks: BenchmarkResult) -> RunResult:
    return RunResult(name, "strict", list(benchmarks), None)


def height(path: Path) -> int:
    return int.from_bytes(path.read_bytes()[20:24], "big")


def test_nothing_solved_and_names_that_no_font_has_can_be_drawn(tmp_path: Path) -> None:
    picture = tmp_path / "accuracy.png"

    accuracy_picture([run(EVIL, result(EVIL, accuracy=0))], picture)

    assert picture.read_bytes().startswith(PNG)
    assert list(tmp_path.iterdir()) == [picture]


def test_the_accuracy_picture_grows_with_its_rows(tmp_path: Path) -> None:
    few, many = tmp_path / "few.png", tmp_path / "many.png"

    accuracy_picture([run("a", result("b"))], few)
    accuracy_picture(
        [run(name, *(result(f"b{i}") for i in range(4))) for name in ("a", "c", "d")], many
    )

    assert height(many) > 1.5 * height(few)


def test_runs_that_were_asked_different_benchmarks_are_drawn(tmp_path: Path) -> None:
    runs = [run("a", result("x", samples=1)), run("b", result("y")), run("c", result("x"))]

    accuracy_picture(runs, tmp_path / "accuracy.png")
    passes_picture(runs, tmp_path / "passes.png")

    assert (tmp_path / "passes.png").read_bytes().startswith(PNG)


def test_pass_at_k_of_a_single_sample_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="but every k is 1"):
        passes_picture([run("a", result("b", samples=1))], tmp_path / "passes.png")


@pytest.mark.parametrize(
    "counts",
    [
        [TokenCounts("a", "b", [], [])],
        [TokenCounts("a", "b", [5], [])],
        [TokenCounts("a", "b", [0, 9000], [3]), TokenCounts("a", EVIL, [100], [120, 130])],
        [TokenCounts("a", "b", [], [7]), TokenCounts(EVIL, "b", [0, 2, 9000], [])],
    ],
)
def test_lengths_of_any_kind_can_be_drawn(tmp_path: Path, counts: list[TokenCounts]) -> None:
    lengths_picture(counts, tmp_path / "lengths.png", cap=8192)

    assert (tmp_path / "lengths.png").read_bytes().startswith(PNG)


def test_no_lengths_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`counts` must be one benchmark or more"):
        lengths_picture([], tmp_path / "lengths.png")


def test_lengths_are_sorted_by_benchmark_and_verdict() -> None:
    samples = [
        Sample(benchmark, "1", i, "", 0, "", "stop", tokens)
        for benchmark, i, tokens in (("a", 0, 5), ("a", 1, 6), ("b", 0, 7))
    ]
    grades = [
        GradeLine(benchmark, "1", i, "", verdict, "", None, "")
        for benchmark, i, verdict in (("b", 0, "correct"), ("a", 1, "correct"), ("a", 0, "timeout"))
    ]

    assert token_counts("r", samples, grades) == [
        TokenCounts("r", "a", correct=[6], other=[5]),
        TokenCounts("r", "b", correct=[7], other=[]),
    ]
    with pytest.raises(ValueError, match="`grades` must hold every sample"):
        token_counts("r", samples, grades[:1])


def test_a_long_name_keeps_both_its_ends() -> None:
    shown = drawable("start-" + "x" * 90 + "-step-500", longest=20)

    assert len(shown) == 20
    assert shown.startswith("start-")
    assert shown.endswith("-step-500")


def test_a_name_is_no_formula_and_misses_no_glyph() -> None:
    assert drawable("$x$ 模\n") == r"\$x\$ □□"


def test_six_runs_have_six_looks() -> None:
    looks = styles(["a", "b", "c", "d", "e", "f"])

    assert len({look.colour for look in looks.values()}) == 6
    assert len({look.marker for look in looks.values()}) == 6


def test_a_response_without_a_token_is_drawn_with_the_shortest(tmp_path: Path) -> None:
    # A logarithmic axis has no zero, but the response must not vanish.
    for name, shortest in (("zero", 0), ("one", 1)):
        lengths_picture([TokenCounts("a", "b", [shortest, 9000], [9])], tmp_path / f"{name}.png")

    assert (tmp_path / "zero.png").read_bytes() == (tmp_path / "one.png").read_bytes()
