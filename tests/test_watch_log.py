"""What is read off a log: who speaks, how far the start is, why a run failed."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mifo_ext.watch_log import ATTEMPT, ERROR_LINES, Line, RunLog, cleaned
from tests.support.watched_runs import RUNNER, START


def log_of(tmp_path: Path, text: str) -> tuple[RunLog, list[str]]:
    (tmp_path / "log.txt").write_text(text, newline="")
    log = RunLog(tmp_path / "log.txt")
    return log, log.read()


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
