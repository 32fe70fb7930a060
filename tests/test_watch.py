"""What a person who watches a run sees."""

import io
import json
from collections.abc import Mapping
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from mifo_ext.report_read import Curve, read_run
from mifo_ext.watch import driver_of, lives, watch
from mifo_ext.watch_log import RunLog
from mifo_ext.watch_view import Watch, clock, rollout_accuracy, step_seconds
from tests.support.watched_runs import RUNNER, START


def write_metrics(folder: Path, rows: Mapping[int, Mapping[str, float]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"step": step, "data": data}) for step, data in rows.items()]
    (folder / "metrics.jsonl").write_text("\n".join([*lines, ""]))
    return folder


def write_run(folder: Path) -> Path:
    """Two of four steps; the buffer holds 3 of 6 after one SFT interval."""
    (folder / "hydra/.hydra").mkdir(parents=True)
    (folder / "hydra/.hydra/config.yaml").write_text(
        "trainer: {total_training_steps: 4}\n"
        "interleave: {buffer_size: 6}\n"
        "data: {train_files: '${mifo.world:}/train.parquet'}\n"
    )
    validation = "val-core/world/sum/3/acc/mean@1"
    steps = {
        0: {validation: 0.25},
        1: {"interleave/buffer/size": 5, "interleave/sft/flush": 0, "timing_s/step": 4},
        2: {
            "interleave/buffer/size": 3,
            "interleave/sft/flush": 1,
            "interleave/hold/held_fraction": 0.5,
            "interleave/outcomes/correct_00": 1,
            "interleave/outcomes/correct_01": 2,
            "interleave/outcomes/correct_02": 1,
            "timing_s/step": 6,
            validation: 0.75,
        },
    }
    return write_metrics(folder, steps)


def test_rollout_accuracy_is_read_off_the_histogram(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "run"))

    # 4 questions with 2 rollouts each: 0, 1, 1 and 2 right, so 4 of 8.
    assert rollout_accuracy(run) == Curve([2], [0.5])


def test_rollout_accuracy_is_verls_score_where_nothing_is_counted(tmp_path: Path) -> None:
    run = read_run(write_metrics(tmp_path, {1: {"critic/score/mean": 0.3}}))

    assert rollout_accuracy(run) == Curve([1], [0.3])


def test_validations_are_part_of_what_a_step_takes(tmp_path: Path) -> None:
    rows = {1: {"timing_s/step": 4.0}, 2: {"timing_s/step": 6.0, "timing_s/testing": 5.0}}

    assert step_seconds(read_run(write_metrics(tmp_path, rows))) == 7.5
    assert step_seconds(read_run(write_metrics(tmp_path / "0", {0: {"a": 1}}))) is None


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.4, "0:00:00"), (59.6, "0:01:00"), (3725, "1:02:05"), (-1, "0:00:00")]
)
def test_times_are_hours_minutes_seconds(seconds: float, shown: str) -> None:
    assert clock(seconds) == shown


def test_a_run_is_one_line_where_there_is_no_terminal(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    seen = Watch(folder, RunLog(folder / "log.txt"))

    seen.look()

    # 2 steps left at 5 s a step.
    assert seen.line() == (
        "step 2 of 4: rollouts right 50%; validation 25% → 75% (step 2); buffer 3 of 6; "
        "SFT intervals 1, last in step 2; 50.0% held still; "
        "5.0 s a step, about 0:00:10 left"
    )


def test_a_terminal_shows_the_start_and_then_the_steps(tmp_path: Path) -> None:
    folder, times = write_run(tmp_path / "run"), iter(range(100))
    (folder / "log.txt").write_text(START)
    seen = Watch(folder, RunLog(folder / "log.txt"), now=lambda: float(next(times)))
    console = Console(file=io.StringIO(), width=100, force_terminal=True, color_system=None)

    def shown() -> str:
        seen.look()
        with console.capture() as capture:
            console.print(seen.view())
        return capture.get()

    starting = shown()
    with (folder / "log.txt").open("a") as file:
        file.write(f"{RUNNER}step:2 - a:1\n")
    training = shown()

    assert "…  first validation" in starting
    assert "✓  reading the questions" in starting
    assert "step 2" not in starting
    assert "step 2 of 4" in training
    assert "████████████░░░░░░░░░░░░  3 of 6" in training
    assert "first validation" not in training


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        ("", "The run ended after step 2 of 4."),
        ("Stopped on request after step 2; saved.\n", "Stopped after step 2 of 4;"),
        ("Traceback (most recent call last):\nKeyboardInterrupt\n", "Interrupted after step 2"),
    ],
)
def test_the_end_says_how_the_run_ended(tmp_path: Path, end: str, expected: str) -> None:
    folder = write_run(tmp_path / "run")
    (folder / "log.txt").write_text(START + f"{RUNNER}step:2 - a:1\n" + end)
    seen = Watch(folder, RunLog(folder / "log.txt"))

    seen.look()

    assert seen.ending()[0].startswith(expected)


def test_a_run_that_took_all_its_steps_is_trained_unless_it_then_failed(tmp_path: Path) -> None:
    folder = write_metrics(tmp_path, {step: {"a": 1} for step in range(5)})
    (folder / "log.txt").write_text(START + f"{RUNNER}step:4 - a:1\n")
    seen = Watch(folder, RunLog(folder / "log.txt"))
    seen.look()
    assert seen.ending() == ["Trained: step 4 of 4."]

    with (folder / "log.txt").open("a") as file:
        file.write("Traceback (most recent call last):\nOSError: disk full\n")
    seen.look()

    assert seen.ending()[-1] == "    OSError: disk full"


def test_metrics_of_a_run_that_is_still_starting_are_awaited(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").touch()
    seen = Watch(tmp_path, RunLog(tmp_path / "log.txt"))

    seen.look()
    assert (seen.step, seen.line()) == (0, "step 0: ")
    write_metrics(tmp_path, {1: {"critic/score/mean": 0.5}})
    seen.look()

    assert seen.line() == "step 1: rollouts right 50%; "


def test_the_driver_is_who_holds_the_lock(tmp_path: Path) -> None:
    assert driver_of(tmp_path) is None

    with (tmp_path / ".lock").open("w"):
        found = driver_of(tmp_path)

    assert found == psutil.Process()
    assert lives(found)
    assert not lives(None)


def test_a_run_that_is_over_is_shown_as_it_stands(tmp_path: Path) -> None:
    out = io.StringIO()

    watch(write_run(tmp_path / "run"), console=Console(file=out, width=100))

    assert "step 2 of 4" in out.getvalue()
    assert "No run is under way" in out.getvalue()
    with pytest.raises(FileNotFoundError, match="must be a run's folder, but there is none"):
        watch(tmp_path / "nowhere")


def test_of_a_start_that_was_missed_only_its_last_phase_is_said(tmp_path: Path) -> None:
    out, folder = io.StringIO(), write_run(tmp_path / "run")
    (folder / "log.txt").write_text(START)

    with psutil.Popen(["sleep", "0.8"]) as process:
        watch(folder, pid=process.pid, console=Console(file=out, width=100))

    assert "first validation" in out.getvalue()
    assert "starting Ray" not in out.getvalue()
    assert "The run ended before step 1.\n    2026-11-23 00:43:41,495" in out.getvalue()
