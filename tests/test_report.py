"""Reports from small metrics files whose numbers can be checked by eye."""

import base64
import io
import re
from pathlib import Path

from rich.console import Console

from mifo_ext.report import report
from mifo_ext.report_picture import PALETTE, colours
from mifo_ext.report_read import read_run
from mifo_ext.report_tables import accuracy_table, band_sparklines, events_table
from tests.support.reported_runs import PNG, acc, write_run


def write_mifo(folder: Path) -> Path:
    """Four steps: sum 2 goes from 0.5 to 0.75, sum 6 from 0 to 0.25; one flush at step 2."""
    easy, hard, count = acc("world/sum/2"), acc("world/sum/6"), "val-aux/world/sum/2/questions"
    return write_run(
        folder,
        {
            0: {easy: 0.5, hard: 0.0, count: 4},
            1: {"interleave/buffer/size": 3, "interleave/sft/flush": 0, "interleave/samples/rl": 8},
            2: {
                "interleave/buffer/size": 1,
                "interleave/sft/flush": 1,
                "interleave/samples/rl": 16,
                "interleave/samples/sft": 4,
                "interleave/sft/loss": 0.5,
                "interleave/hold/held_fraction": 0.5,
            },
            3: {
                "interleave/buffer/size": 2,
                "interleave/sft/flush": 0,
                "interleave/samples/rl": 24,
                easy: 0.75,
                hard: 0.25,
                count: 4,
            },
        },
    )


def printed(folder: Path) -> str:
    out = io.StringIO()
    report(folder, console=Console(file=out, width=120))
    return out.getvalue()


def test_the_accuracy_table_shows_before_after_and_interval(tmp_path: Path) -> None:
    table = accuracy_table(read_run(write_mifo(tmp_path / "mifo-seed0")))

    # Wilson, 2 of 4 and 3 of 4. Without a count there is no interval.
    assert [row[:6] for row in table.rows] == [
        ["sum", "2", "4", "50.0 [15, 85]", "75.0 [30, 95]", "+25.0"],
        ["sum", "6", "", "0.0", "25.0", "+25.0"],
        ["all", "mean", "", "25.0", "50.0", "+25.0"],
    ]
    assert table.remark.startswith("Per cent right; before: step 0, after: step 3.")


def test_the_events_table_counts_flushes_and_samples(tmp_path: Path) -> None:
    rows = {row[0]: row[1:] for row in events_table(read_run(write_mifo(tmp_path / "run"))).rows}

    assert rows["SFT intervals"] == ["1", "at 2"]
    assert rows["questions used by RL"] == ["24", ""]
    assert rows["demonstrations used"] == ["4", ""]
    assert rows["waiting at the end"] == ["2", "█▁▅"]
    assert rows["parameters held"] == ["50.0%", ""]


def test_a_run_without_a_buffer_lists_no_sft(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "grpo-seed0", {0: {acc("aime24"): 0.1}, 1: {"a": 1}}))

    assert events_table(run).rows == [["training steps", "1", ""]]


def test_a_report_is_shown_and_saved(tmp_path: Path) -> None:
    folder = write_mifo(tmp_path / "mifo-seed0")

    text = printed(folder)

    assert "mifo, seed 0: 3 steps, 1 SFT interval\n" in text
    assert "sum 6  ▁▃  0% → 25%" in text
    assert "report.png" in text
    assert "report.html" in text
    picture, page = (folder / "report.png").read_bytes(), (folder / "report.html").read_text()
    assert picture.startswith(PNG)
    assert base64.b64encode(picture).decode() in page
    assert not re.search(r'(src|href)="(?!data:)', page)
    assert sorted(path.name for path in folder.iterdir()) == [
        "metrics.jsonl",
        "report.html",
        "report.png",
    ]


def test_hostile_names_are_text_in_page_terminal_and_picture(tmp_path: Path) -> None:
    source = "_<script>alert(1) & [bold red]x $\\frac$/6"
    folder = write_run(tmp_path / "<b>evil-seed0", {0: {acc(source): 0.5}, 1: {acc(source): 0.6}})

    text = printed(folder)

    page = (folder / "report.html").read_text()
    assert "<script>" not in page
    assert "<b>" not in page
    assert "_&lt;script&gt;alert(1) &amp; [bold red]x" in page
    assert text.count("[bold red]x") == 2  # in the table, and at its curve
    assert (folder / "report.png").read_bytes().startswith(PNG)


def test_a_run_that_has_not_validated_still_has_a_report(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", {1: {"actor/lr": 1e-6}})

    assert "training steps" in printed(folder)
    assert band_sparklines(read_run(folder)) == []


def test_colours_stay_with_their_name_and_start_again_when_used_up() -> None:
    names = [f"skill {number}" for number in range(len(PALETTE) + 1)]
    found = colours([*names, "skill 0"])

    assert list(found) == names
    assert found[names[-1]] == PALETTE[0]
