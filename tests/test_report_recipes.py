"""Many recipes are rows of a table and of a picture."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from mifo_ext.report import compare
from mifo_ext.report_compare import Comparison, comparison
from mifo_ext.report_read import read_run
from mifo_ext.report_recipes import recipes_picture, recipes_tables

# Per cent right of `code` before and after, and demonstrations, by recipe and seed.
RUNS = {
    ("first", 0): (2, 40, 64),
    ("first", 1): (2, 60, 128),
    ("second", 0): (2, 10, 32),
    ("third", 0): (2, 20, 0),
    ("last", 0): (2, 4, 0),
    ("last", 1): (2, 8, 0),
}


def write_run(root: Path, recipe: str, seed: int) -> Path:
    before, after, used = RUNS[recipe, seed]
    folder = root / f"{recipe}-seed{seed}"
    folder.mkdir()
    lines = [
        {"step": 0, "data": {"val-core/world/code/3/acc/mean@1": before / 100}},
        {"step": 20, "data": {"val-core/world/code/3/acc/mean@1": (before + after) / 200}},
        {
            "step": 40,
            "data": {
                "val-core/world/code/3/acc/mean@1": after / 100,
                "interleave/samples/sft": used,
            },
        },
    ]
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    return folder


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    return [write_run(tmp_path, recipe, seed) for recipe, seed in RUNS]


@pytest.fixture
def compared(folders: list[Path]) -> Comparison:
    return comparison([read_run(folder) for folder in folders])


def test_each_recipe_is_a_row_with_its_seeds_and_what_it_used(compared: Comparison) -> None:
    accuracy, difference, on_the_way = recipes_tables(compared)

    assert list(accuracy.columns) == ["recipe", ">seeds", ">demonstrations", ">code 3 *"]
    assert [list(row) for row in accuracy.rows] == [
        ["before training", "", "", "2.0"],
        ["first", "2", "64 to 128", "50.0"],
        ["second", "1", "32", "10.0"],
        ["third", "1", "0", "20.0"],
        ["last", "2", "0", "6.0"],
    ]
    # Paired by seed: 40 - 4 and 60 - 8 for the first, 10 - 4 for the second.
    assert [row[0] for row in difference.rows] == ["first", "second", "third"]
    assert difference.rows[0][1].startswith("+44.0 [")
    assert difference.rows[1][1] == "+6.0"
    assert on_the_way.title == "On the way: after step 20"
    assert [list(row) for row in on_the_way.rows] == [
        ["first", "26.0"],
        ["second", "6.0"],
        ["third", "11.0"],
        ["last", "4.0"],
    ]


def test_the_picture_has_a_panel_a_band(compared: Comparison, tmp_path: Path) -> None:
    recipes_picture(compared, tmp_path / "ends.png")

    assert (tmp_path / "ends.png").read_bytes().startswith(b"\x89PNG")


def test_a_terminal_of_80_columns_cuts_no_cell(folders: list[Path], tmp_path: Path) -> None:
    console = Console(width=80, record=True, file=io.StringIO())

    compare(folders, into=tmp_path / "into", console=console)

    said = console.export_text()
    assert "64 to 128" in said
    assert "…" not in said
    assert all(len(line.rstrip()) <= 80 for line in said.splitlines() if "/" not in line)
