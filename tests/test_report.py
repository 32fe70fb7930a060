"""Reports from small metrics files whose numbers can be checked by eye."""

import base64
import io
import json
import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from mifo_ext.report import compare, main, report
from mifo_ext.report_accuracy import bands, difference_interval, mean_curve, wilson_interval
from mifo_ext.report_compare import comparison, paired_difference, seed_mean
from mifo_ext.report_picture import PALETTE, colours
from mifo_ext.report_read import Curve, Group, groups, read_run
from mifo_ext.report_tables import accuracy_table, band_sparklines, events_table, sparkline

PNG = b"\x89PNG\r\n\x1a\n"


def acc(source: str, samples: int = 1) -> str:
    return f"val-core/{source}/acc/mean@{samples}"


def line(step: int, data: Mapping[str, float | None]) -> str:
    # As verl's file logger writes it: orjson puts no space anywhere.
    return json.dumps({"step": step, "data": data}, separators=(",", ":")) + "\n"


def write_run(folder: Path, rows: Mapping[int, Mapping[str, float | None]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    text = "".join(line(step, data) for step, data in rows.items())
    (folder / "metrics.jsonl").write_text(text)
    return folder


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


def test_reads_steps_and_leaves_out_what_is_no_number(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "mifo-seed3", {0: {"a": 1}, 5: {"a": None, "b": 2.5}}))

    assert (run.recipe, run.seed, run.last_step) == ("mifo", 3, 5)
    assert run.curve("a") == Curve([0], [1.0])
    assert run.curve("b") == Curve([5], [2.5])
    assert run.curve("missing") == Curve([], [])
    assert run.notes == ()


def test_infinities_and_nan_are_no_values(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", {0: {"a": 1}})
    (folder / "metrics.jsonl").write_text(
        '{"step":0,"data":{"a":NaN,"b":Infinity,"c":"text","d":2}}\n'
    )

    assert read_run(folder).metrics == {0: {"d": 2.0}}


def test_a_folder_of_another_name_is_its_own_recipe_without_seed(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "my try", {0: {"a": 1}}))

    assert (run.recipe, run.seed) == ("my try", None)


def test_a_torn_last_line_is_left_out_with_a_note(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", {0: {"a": 1}, 1: {"a": 2}})
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step":2,"data":{"a":')

    run = read_run(folder)

    assert run.curve("a") == Curve([0, 1], [1, 2])
    assert run.notes == (
        "metrics.jsonl, line 3, is torn: the run was stopped while it wrote; it is left out.",
    )


def test_a_step_that_was_appended_to_a_torn_line_is_kept(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", {0: {"a": 1}})
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step":1,"data":{"a":' + line(1, {"a": 7}) + line(2, {"a": 8}))

    run = read_run(folder)

    assert run.curve("a") == Curve([0, 1, 2], [1, 7, 8])
    assert run.notes == ("metrics.jsonl, line 2, is torn; it is left out.",)


def test_replayed_steps_count_once_and_what_the_dead_attempt_did_after_them_not_at_all(
    tmp_path: Path,
) -> None:
    folder = write_run(tmp_path / "run", {0: {"v": 0.1}, 1: {"a": 1}, 2: {"a": 2}, 3: {"a": 3}})
    with (folder / "metrics.jsonl").open("a") as file:
        # Resumed from the checkpoint of step 1: verl validates there, then trains step 2 anew.
        file.write(line(1, {"v": 0.2}) + line(2, {"a": 20}))

    run = read_run(folder)

    assert run.curve("a") == Curve([1, 2], [1, 20])
    assert run.curve("v") == Curve([0, 1], [0.1, 0.2])


def test_earlier_metrics_files_come_first(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", {2: {"a": 20}, 3: {"a": 30}})
    (folder / "metrics-002.jsonl").write_text(line(1, {"a": 11}) + line(2, {"a": 12}))
    (folder / "metrics-001.jsonl").write_text(line(0, {"a": 0}) + line(1, {"a": 1}))

    assert read_run(folder).curve("a") == Curve([0, 1, 2, 3], [0, 11, 20, 30])


def test_sources_are_split_into_skill_and_level() -> None:
    found = groups(["world/sum/10", "world/sum/2", "world/product/3"])

    assert found == [
        Group("world/product/3", "product", 3),
        Group("world/sum/2", "sum", 2),
        Group("world/sum/10", "sum", 10),
    ]


@pytest.mark.parametrize(
    ("sources", "expected"),
    [
        (["aime24"], [("aime24", None)]),
        (["7"], [("7", None)]),
        (["sum/6"], [("sum", 6)]),
        (["world/sum/6"], [("sum", 6)]),
        (["hub/gsm8k", "hub/math"], [("hub/gsm8k", None), ("hub/math", None)]),
        (["a/x/1", "b/x/1"], [("a/x", 1), ("b/x", 1)]),
    ],
)
def test_sources_of_any_shape_have_a_name(
    sources: list[str], expected: list[tuple[str, int | None]]
) -> None:
    assert [(group.skill, group.level) for group in groups(sources)] == expected


def test_accuracy_is_verls_core_metric_with_most_samples(tmp_path: Path) -> None:
    folder = write_run(
        tmp_path / "run",
        {
            0: {
                acc("aime24", 4): 0.9,
                acc("aime24", 32): 0.25,
                "val-core/aime24/acc/best@32/mean": 0.8,
                "val-aux/aime24/reward/mean@32": 0.7,
                "val-aux/other/acc/mean@32": 0.6,
                "val-core/gsm8k/reward/mean@4": 0.5,
            }
        },
    )

    aime, gsm8k = read_run(folder).accuracies()

    assert (aime.curve, aime.samples, aime.questions) == (Curve([0], [0.25]), 32, None)
    assert (gsm8k.curve, gsm8k.samples) == (Curve([0], [0.5]), 4)


def test_wilson_interval_of_half_of_ten() -> None:
    # z = 1.96, z^2 = 3.8415: centre 0.5,
    # half-width 1.96 * sqrt(0.25 / 10 + 3.8415 / 400) / 1.38415 = 0.2634.
    low, high = wilson_interval(0.5, 10)

    assert (round(low, 4), round(high, 4)) == (0.2366, 0.7634)


@given(right=st.integers(0, 50), count=st.integers(1, 50))
def test_wilson_interval_holds_the_share_and_mirrors(right: int, count: int) -> None:
    share = min(right, count) / count
    low, high = wilson_interval(share, count)
    mirrored = wilson_interval(1 - share, count)

    assert 0 <= low <= share + 1e-12
    assert share - 1e-12 <= high <= 1
    assert mirrored.low == pytest.approx(1 - high, abs=1e-9)


@pytest.mark.parametrize(
    ("share", "count", "message"),
    [
        (1.1, 5, r"`share` must be in \[0, 1\], but is 1.1"),
        (0.5, 0, "`count` must be at least 1, but is 0"),
    ],
)
def test_wilson_interval_refuses(share: float, count: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        wilson_interval(share, count)


def test_the_interval_of_a_difference_is_newcombes() -> None:
    # 7 and 3 of 10 right. Wilson [0.3968, 0.8922] and [0.1078, 0.6032];
    # 0.4 -+ hypot(0.7 - 0.3968, 0.6032 - 0.3) and hypot(0.8922 - 0.7, 0.3 - 0.1078).
    low, high = difference_interval(0.7, 0.3, 10)

    assert (round(low, 3), round(high, 3)) == (-0.029, 0.672)


@given(right=st.integers(0, 20), other=st.integers(0, 20))
def test_the_interval_of_a_difference_holds_it_and_turns_round_with_it(
    right: int, other: int
) -> None:
    low, high = difference_interval(right / 20, other / 20, 20)
    turned = difference_interval(other / 20, right / 20, 20)

    assert -1 - 1e-9 <= low <= (right - other) / 20 <= high <= 1 + 1e-9
    assert turned == pytest.approx((-high, -low))


def test_bands_part_a_skill_where_it_was_unsolved(tmp_path: Path) -> None:
    start = {2: 0.6, 3: 0.05, 6: 0.049, 8: 0.0}
    rows = {acc(f"world/sum/{level}"): value for level, value in start.items()}
    run = read_run(write_run(tmp_path / "run", {0: rows}))

    reached, unsolved = bands(run.accuracies())

    assert (reached.label, reached.unsolved) == ("sum 2\N{EN DASH}3", False)
    assert (unsolved.label, unsolved.unsolved) == ("sum 6, 8", True)
    assert reached.curve.values == pytest.approx([0.325])


def test_a_mean_curve_has_the_steps_that_all_share() -> None:
    mean = mean_curve([Curve([0, 1, 2], [0.0, 0.5, 1.0]), Curve([0, 2], [1.0, 0.0])])

    assert mean == Curve([0, 2], [0.5, 0.5])


def test_a_sparkline_rises_with_its_values() -> None:
    assert sparkline(Curve([0, 1, 2], [0.0, 0.5, 1.0]), low=0, high=1) == "▁▅█"
    assert sparkline(Curve([0, 1], [3.0, 3.0])) == "▁▁"
    assert sparkline(Curve([], [])) == ""
    assert len(sparkline(Curve(list(range(1000)), [float(i) for i in range(1000)]))) == 24


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=60), st.integers(2, 30))
def test_a_sparkline_never_exceeds_its_width(values: list[float], width: int) -> None:
    drawn = sparkline(Curve(list(range(len(values))), values), width=width)

    assert len(drawn) == min(len(values), width)


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
