"""What of a run is read: steps, sources, skills; what is no number is none."""

from pathlib import Path

import pytest

from mifo_ext.report_read import Curve, Group, groups, read_run
from tests.support.reported_runs import acc, line, write_run


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
