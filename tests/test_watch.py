"""Watching a run, and `scripts/train.sh` with a small program in the place of the training."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from mifo_ext.report_read import Curve, read_run
from mifo_ext.watch import driver_of, lives, watch
from mifo_ext.watch_log import ATTEMPT, ERROR_LINES, Line, RunLog, cleaned
from mifo_ext.watch_view import Watch, clock, rollout_accuracy, step_seconds

ROOT = Path(__file__).parents[1]
RUNNER = "\x1b[36m(TaskRunnerV1 pid=7)\x1b[0m "

START = f"""\
{ATTEMPT} +recipe=mifo
mifo: recipe mifo, scale cpu_tiny, run folder runs/mifo
ray init kwargs: {{'num_cpus': 16}}
2026-11-23 00:43:41,495	INFO worker.py:2038 -- Started a local Ray instance.
{RUNNER}Using dataset class: RLHFDataset
{RUNNER}INFO:2026-11-23 00:44:02,167:Total training steps: 4
{RUNNER}INFO:2026-11-23 00:44:47,187:all initialize finished, ready to fit
{RUNNER}Using dataset class: RLHFDataset
{RUNNER}                 Before step 1
{RUNNER}┏━━━━━━┓
{RUNNER}│ fine │
{RUNNER}└──────┘
{RUNNER}WARNING 11-23 00:44:25 [importing.py:65] Triton is not there
"""


def log_of(tmp_path: Path, text: str) -> tuple[RunLog, list[str]]:
    (tmp_path / "log.txt").write_text(text, newline="")
    log = RunLog(tmp_path / "log.txt")
    return log, log.read()


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


def test_a_line_is_its_speaker_and_what_a_person_would_see() -> None:
    said = "\x1b[36m(vLLMHttpServer pid=5)\x1b[0m (EngineCore pid=6) 10%\r90% \x1b[1mdone\x1b[0m  "

    assert cleaned(said.encode()) == Line("", "90% done")
    assert cleaned(f"{RUNNER}INFO:2026-11-23 00:44:02,167:ready".encode()) == Line(
        "(TaskRunnerV1 pid=7) ", "ready"
    )
    assert cleaned(b"\xff plain").actor == ""


def test_the_phases_of_a_start_are_recognised_and_never_go_back(tmp_path: Path) -> None:
    log, _ = log_of(tmp_path, START)

    assert log.phases == [
        "loading verl",
        "checking settings and files",
        "starting Ray",
        "starting the trainer",
        "reading the questions",
        "first validation",
    ]
    assert (log.total_steps, log.step, log.stopped) == (4, None, False)
    assert log.latest == "Using dataset class: RLHFDataset"


def test_what_is_meant_for_the_user_is_passed_on(tmp_path: Path) -> None:
    _, notes = log_of(tmp_path, START + "mifo: this run cannot start.\n  1. `x` is wrong.\nelse\n")

    assert notes == [
        "mifo: recipe mifo, scale cpu_tiny, run folder runs/mifo",
        "                 Before step 1",
        "┏━━━━━━┓",
        "│ fine │",
        "└──────┘",
        "mifo: this run cannot start.",
        "  1. `x` is wrong.",
    ]


def test_a_new_start_in_the_same_log_forgets_the_one_before(tmp_path: Path) -> None:
    again = f"{RUNNER}step:3 - a:1\n{RUNNER}Stopped on request after step 3; saved.\n\n"
    log, notes = log_of(tmp_path, START + again + f"{ATTEMPT} +recipe=mifo\nmifo: hello\n")

    assert notes == ["mifo: hello"]
    assert (log.phases, log.step, log.stopped) == (["loading verl"], None, False)


@given(cuts=st.lists(st.integers(0, len(START.encode())), max_size=6))
def test_it_does_not_matter_in_what_pieces_a_log_arrives(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int]
) -> None:
    folder, text = tmp_path_factory.mktemp("log"), START.encode()
    whole, expected = log_of(folder, START)
    log, notes = RunLog(folder / "pieces.txt"), []
    for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(text)], strict=True):
        with log.path.open("ab") as file:
            file.write(text[start:end])
        notes += log.read()

    assert (notes, log.phases, log.latest) == (expected, whole.phases, whole.latest)


def test_why_is_the_drivers_traceback_down_to_rays_cause(tmp_path: Path) -> None:
    log, _ = log_of(
        tmp_path,
        START
        + "Traceback (most recent call last):\nValueError: an older one\n"
        + "Traceback (most recent call last):\n"
        + '  File "main_ppo.py", line 1\n'
        + "ray.exceptions.RayTaskError(RuntimeError): \x1b[36mray::run()\x1b[0m\n"
        + f"{RUNNER}something else\n"
        + '  File "first_check.py", line 9\n'
        + "RuntimeError: This run cannot learn.\n"
        + f"{RUNNER}Traceback (most recent call last):\n{RUNNER}OSError: while ending\n",
    )

    assert log.why() == [
        "Traceback (most recent call last):",
        '  File "main_ppo.py", line 1',
        "ray.exceptions.RayTaskError(RuntimeError): ray::run()",
        '  File "first_check.py", line 9',
        "RuntimeError: This run cannot learn.",
    ]


def test_an_actors_traceback_is_better_than_none_and_a_long_one_is_cut(tmp_path: Path) -> None:
    frames = "".join(f"{RUNNER}  frame {n}\n" for n in range(100))
    log, _ = log_of(
        tmp_path, f"{RUNNER}Traceback (most recent call last):\n{frames}{RUNNER}KeyError: 'a'\n"
    )

    reasons = log.why()

    assert len(reasons) == ERROR_LINES + 1
    assert (reasons[0], reasons[-1]) == ("…", "KeyError: 'a'")


def test_without_a_traceback_the_last_lines_that_say_something_are_why(tmp_path: Path) -> None:
    log, _ = log_of(tmp_path, START + "Key 'hodl' is not in struct\n  full_key: hodl\n")

    assert log.why()[-1] == "Key 'hodl' is not in struct"
    assert not any("fine" in line or "WARNING" in line for line in log.why())


def test_nothing_is_said_twice_when_the_last_word_was_for_the_user(tmp_path: Path) -> None:
    log, notes = log_of(tmp_path, f"{ATTEMPT}\nmifo: this run cannot start.\n  1. wrong\n")

    assert notes[-1] == "  1. wrong"
    assert log.why() == []


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


PROGRAM = """\
import json, os, signal, sys, time
from pathlib import Path

run = Path(sys.argv[-1].partition("=")[2])
stop = []
signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
print("mifo: recipe mifo, run folder", run)
print("noise of verl")
print("Total training steps: 2")
with (run / "metrics.jsonl").open("w") as file:
    for step in (1, 2):
        file.write(json.dumps({"step": step, "data": {"critic/score/mean": step / 4}}) + "\\n")
        file.flush()
        print(f"step:{step} - a:1")
        (run / f"at-{step}").touch()
        while "wait" in sys.argv and not stop:
            time.sleep(0.02)
        if stop:
            print(f"Stopped on request after step {step}; the checkpoint is saved.")
            sys.exit(0)
if "fail" in sys.argv:
    print("mifo: soon")
    raise ValueError("`x` must be 1, but is 2.")
"""


class Training:
    """`scripts/train.sh` in an environment whose python is the small program above."""

    def __init__(self, tmp_path: Path) -> None:
        self.run = tmp_path / "runs" / "mifo-seed0"
        (tmp_path / "venv/bin").mkdir(parents=True)
        (tmp_path / "program.py").write_text(PROGRAM)
        for name, words in (
            ("python", f"exec '{sys.executable}' '{tmp_path}/program.py'"),
            ("mifo", f"exec '{sys.executable}' -m mifo_ext.cli"),
        ):
            script = tmp_path / "venv/bin" / name
            script.write_text(f'#!/bin/sh\n{words} "$@"\n')
            script.chmod(0o755)
        self.environment = {**os.environ, "VENV": str(tmp_path / "venv"), "COLUMNS": "120"}

    def start(self, *words: str, **environment: str) -> subprocess.Popen[str]:
        # A test run in the background ignores SIGINT, and what it starts would, too.
        command = ["env", "--default-signal=INT", "scripts/train.sh", str(self.run), *words]
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env={**self.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait_until_it_trains(self) -> None:
        deadline = time.monotonic() + 90
        while not (self.run / "at-1").exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)


@pytest.fixture
def training(tmp_path: Path) -> Training:
    return Training(tmp_path)


def test_a_run_shows_its_command_and_its_steps_and_keeps_its_output(training: Training) -> None:
    out, error = (process := training.start("+recipe=mifo")).communicate(timeout=120)

    command = (
        f"python -m verl.trainer.main_ppo +recipe=mifo trainer.default_local_dir={training.run}"
    )
    assert out.startswith(f"$ {command}\n")
    assert "step 2 of 2: rollouts right 50%" in out
    assert out.endswith("Trained: step 2 of 2.\n")
    assert "noise of verl" not in out
    assert f"$ {command}\nmifo: recipe" in (training.run / "log.txt").read_text()
    assert (process.returncode, error) == (0, "")
    assert (training.run / "complete").exists()

    again, _ = training.start("+recipe=mifo").communicate(timeout=120)
    assert "is trained already" in again


def test_verbose_shows_the_output_itself_and_only_that_of_this_start(training: Training) -> None:
    training.run.mkdir(parents=True)
    (training.run / "log.txt").write_text("of an earlier start\n")

    out, _ = training.start(VERBOSE="1").communicate(timeout=120)

    assert "noise of verl\nTotal training steps: 2\nstep:1 - a:1\nstep:2 - a:1\n" in out
    assert "of an earlier start" not in out
    assert "of an earlier start" in (training.run / "log.txt").read_text()


def test_a_failure_shows_its_reason_its_log_and_its_status(training: Training) -> None:
    out, error = (process := training.start("fail")).communicate(timeout=120)

    assert process.returncode == 1
    assert out.endswith("    ValueError: `x` must be 1, but is 2.\n")
    assert error.endswith(f"exit status 1. Its output: {training.run}/log.txt\n")
    assert not (training.run / "complete").exists()


def test_sigterm_is_passed_on_and_a_run_that_stopped_is_not_complete(training: Training) -> None:
    process = training.start("wait")
    training.wait_until_it_trains()
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=120)

    assert process.returncode == 0
    assert "Stopped on request after step 1; the checkpoint is saved." in out
    assert "Stopped after step 1 of 2; the same command goes on from here." in out
    assert not (training.run / "complete").exists()


def test_ctrl_c_ends_the_run_and_what_watches_it(training: Training) -> None:
    process = training.start("wait")
    training.wait_until_it_trains()
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=120)

    assert process.returncode == 130
    assert "Interrupted after step 1 of 2; the same command goes on" in out


def test_a_killed_run_is_said_to_be_killed(training: Training) -> None:
    process = training.start("wait")
    training.wait_until_it_trains()
    (child,) = (
        one for one in psutil.Process(process.pid).children() if "program.py" in str(one.cmdline())
    )
    child.kill()
    _, error = process.communicate(timeout=120)

    assert process.returncode == 137
    assert "perhaps because memory ran out" in error
