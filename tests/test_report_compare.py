"""Recipes beside each other, paired by seed; and what cannot be compared."""

import io
import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from rich.console import Console

from mifo_ext.report import compare, main
from mifo_ext.report_compare import comparison, paired_difference, seed_mean
from mifo_ext.report_read import read_run
from tests.support.reported_runs import PNG, acc, write_run


def test_the_mean_over_seeds_has_a_t_interval() -> None:
    # Mean 2, standard deviation 1, t(0.975, 2) = 4.3027: 2 +- 4.3027 / sqrt(3).
    mean = seed_mean([1.0, 2.0, 3.0])

    assert mean.value == 2.0
    assert mean.interval == pytest.approx((-0.4841, 4.4841), abs=1e-4)
    assert seed_mean([0.3]).interval is None


def test_differences_are_paired_by_seed() -> None:
    difference = paired_difference({0: 0.5, 1: 0.9, 2: 0.0}, {1: 0.7, 0: 0.3})

    assert difference.value == pytest.approx(0.2)
    assert difference.interval == pytest.approx((0.2, 0.2))
    with pytest.raises(ValueError, match=r"must share a seed, but have \[1\] and \[2\]"):
        paired_difference({1: 0.5}, {2: 0.5})


def write_pair(root: Path) -> list[Path]:
    """Two recipes, two seeds: mifo ends 0.2 and 0.4 above grpo on sum 6."""
    ends = {("mifo", 0): 0.2, ("mifo", 1): 0.5, ("grpo", 0): 0.0, ("grpo", 1): 0.1}
    name = acc("world/sum/6")
    return [
        write_run(root / f"{recipe}-seed{seed}", {0: {name: 0.0}, 10: {name: end}})
        for (recipe, seed), end in ends.items()
    ]


def test_a_comparison_is_shown_and_saved(tmp_path: Path) -> None:
    out = io.StringIO()

    compare(write_pair(tmp_path), console=Console(file=out, width=120))

    # mifo - grpo: 20 and 40 points, mean 30, t(0.975, 1) = 12.706, half-width 127.1.
    assert "+30.0 [-97.1, +157.1]" in out.getvalue()
    assert "35.0" in out.getvalue()
    folder = tmp_path / "comparison"
    assert (folder / "report.png").read_bytes().startswith(PNG)
    assert "mifo and grpo" in (folder / "report.html").read_text()


def test_with_one_seed_the_difference_has_the_interval_of_its_questions(tmp_path: Path) -> None:
    count = "val-aux/w/a/1/questions"
    ends = {"mifo": 0.7, "grpo": 0.3}
    runs = [
        write_run(tmp_path / f"{recipe}-seed0", {0: {acc("w/a/1"): end, count: 10}})
        for recipe, end in ends.items()
    ]
    out = io.StringIO()

    compare(runs, console=Console(file=out, width=120))

    assert out.getvalue().count("+40.0 [-2.9, +67.2]") == 2  # as a band, and as a level


def test_groups_of_unequal_size_have_no_interval_as_one(tmp_path: Path) -> None:
    rows = {acc("w/a/1"): 0.5, acc("w/a/2"): 0.5}
    counts = {"val-aux/w/a/1/questions": 10, "val-aux/w/a/2/questions": 30}
    runs = [
        read_run(write_run(tmp_path / f"{recipe}-seed0", {0: rows | counts}))
        for recipe in ("mifo", "grpo")
    ]

    compared = comparison(runs)

    assert compared.gain("mifo", frozenset(["w/a/1", "w/a/2"])).interval is None
    assert compared.gain("mifo", frozenset(["w/a/2"])).interval is not None


def test_runs_are_compared_at_the_last_step_that_all_validated(tmp_path: Path) -> None:
    name = acc("world/sum/2")
    folders = [
        write_run(tmp_path / "mifo-seed0", {0: {name: 0.1}, 5: {name: 0.4}, 10: {name: 0.9}}),
        write_run(tmp_path / "grpo-seed0", {0: {name: 0.1}, 5: {name: 0.3}, 7: {name: 0.5}}),
    ]

    compared = comparison([read_run(folder) for folder in folders])

    assert compared.after("mifo", frozenset(["world/sum/2"])) == {0: 0.4}
    assert compared.reference == "grpo"
    assert compared.notes == (
        "mifo-seed0 was trained to step 10; it is compared at step 5.",
        "grpo-seed0 was trained to step 7; it is compared at step 5.",
    )


def test_a_source_that_one_run_lacks_is_left_out_with_a_note(tmp_path: Path) -> None:
    folders = [
        write_run(tmp_path / "mifo-seed0", {0: {acc("w/a/1"): 0.1, acc("w/b/1"): 0.2}}),
        write_run(tmp_path / "grpo-seed0", {0: {acc("w/a/1"): 0.1}}),
    ]

    compared = comparison([read_run(folder) for folder in folders])

    assert [band.sources for band in compared.bands] == [frozenset(["w/a/1"])]
    assert compared.notes == ("Not in every run, so left out: w/b/1.",)


@pytest.mark.parametrize(
    ("second", "rows", "message"),
    [
        ("other/mifo-seed0", {0: {acc("a"): 0.5}}, "recipe and seed must be given once"),
        ("grpo-seed0", {1: {acc("a"): 0.5}}, "must share a validated step"),
        ("grpo-seed0", {0: {"actor/lr": 1.0}}, "must have validated at least once"),
    ],
)
def test_runs_without_anything_to_compare_are_refused(
    tmp_path: Path, second: str, rows: Mapping[int, Mapping[str, float]], message: str
) -> None:
    folders = [
        write_run(tmp_path / "mifo-seed0", {0: {acc("a"): 0.5}}),
        write_run(tmp_path / second, rows),
    ]

    with pytest.raises(ValueError, match=message):
        compare(folders)


def test_one_run_is_no_comparison(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`run_folders` must be two or more, but is 1"):
        compare([tmp_path])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "must hold metrics.jsonl, but does not"),
        ("", "must hold at least one step, but holds none"),
        ("\x00\xff not json\n[1]\n", "must hold at least one step, but holds none"),
        ('{"step":"x","data":{}}\n{"step":1}\n', "must hold at least one step, but holds none"),
    ],
)
def test_a_run_that_cannot_be_read_is_one_clear_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None, message: str
) -> None:
    if content is not None:
        (tmp_path / "metrics.jsonl").write_text(content, encoding="latin-1")

    assert main([str(tmp_path)]) == 2
    assert re.fullmatch(rf"mifo report: `.*{re.escape(message)}.*\n", capsys.readouterr().err)


def test_a_missing_folder_is_one_clear_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path / "nowhere")]) == 2
    assert "must be a run's folder, but there is none" in capsys.readouterr().err


def test_the_command_compares_when_it_is_given_several_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mifo, _, grpo, _ = write_pair(tmp_path / "runs")

    assert main([str(mifo), str(grpo), "--into", str(tmp_path / "shown")]) == 0
    assert "mifo - grpo" in capsys.readouterr().out
    assert (tmp_path / "shown" / "report.html").is_file()
