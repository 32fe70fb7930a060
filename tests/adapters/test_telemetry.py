"""Names and numbers that a run logs."""

from __future__ import annotations

from pathlib import Path

import pytest

from mifo_ext.adapters.demonstrations import DemonstrationTokens
from mifo_ext.adapters.telemetry import (
    buffer_metrics,
    demonstration_metrics,
    fresh_metrics_file,
    observation_metrics,
    outcome_metrics,
    usage_metrics,
)
from mifo_ext.core.interleave import HardExampleBuffer
from mifo_ext.core.outcomes import Outcome
from mifo_ext.core.usage import Usage

STEP = [
    Outcome("easy", correct=4, received=4, expected=4),
    Outcome("fair", correct=2, received=4, expected=4),
    Outcome("hard", correct=0, received=4, expected=4),
    Outcome("unknown", correct=0, received=4, expected=4),
    Outcome("short", correct=0, received=3, expected=4),
]


def a_buffer() -> HardExampleBuffer:
    return HardExampleBuffer(
        size=1, hard_at_most=0.25, has_demonstration=lambda question: question != "unknown"
    )


def test_plain_rl_logs_its_questions_by_right_rollouts() -> None:
    assert outcome_metrics(STEP) == {
        "interleave/outcomes/questions": 5,
        "interleave/outcomes/incomplete": 1,
        "interleave/outcomes/correct_00": 2,
        "interleave/outcomes/correct_02": 1,
        "interleave/outcomes/correct_04": 1,
    }


def test_a_step_logs_what_the_buffer_made_of_it() -> None:
    buffer = a_buffer()

    metrics = observation_metrics(buffer.observe(STEP, step=3))

    assert metrics["interleave/outcomes/questions"] == 5
    assert metrics["interleave/outcomes/hard"] == 2
    assert metrics["interleave/outcomes/incomplete"] == 1
    assert metrics["interleave/outcomes/without_demonstration"] == 1
    assert metrics["interleave/buffer/added"] == 1
    assert metrics["interleave/buffer/repeated"] == 0
    assert metrics["interleave/sft/flush"] == 0
    counts = [metrics[f"interleave/outcomes/correct_{n:02d}"] for n in range(5)]
    assert counts == [2, 0, 1, 0, 1]


def test_the_buffer_logs_its_size_age_and_what_was_used_so_far() -> None:
    buffer = a_buffer()
    buffer.observe(STEP, step=3)

    metrics = buffer_metrics(buffer, {"no_demonstration": 1}, step=5)

    assert metrics["interleave/buffer/size"] == 1
    assert metrics["interleave/buffer/age_mean"] == metrics["interleave/buffer/age_max"] == 2
    assert metrics["interleave/rejected/no_demonstration"] == 1
    buffer.take()
    emptied = buffer_metrics(buffer, {}, step=5)
    assert emptied["interleave/buffer/age_max"] == 0
    assert emptied["interleave/samples/flushes"] == 1


def test_every_recipe_logs_what_it_used() -> None:
    usage = Usage().plus(questions=32, rollout_tokens=900).plus(questions=32, demonstrations=4)

    assert usage_metrics(usage) == {
        "interleave/samples/rl": 64,
        "interleave/samples/sft": 4,
        "interleave/tokens/rollouts": 900,
        "interleave/tokens/demonstrations": 0,
    }


def test_demonstration_lengths() -> None:
    demonstrations = [
        DemonstrationTokens([1], [2] * 3, truncated=False),
        DemonstrationTokens([1], [2] * 5, truncated=True),
    ]

    assert demonstration_metrics(demonstrations) == {
        "interleave/sft/demonstrations": 2,
        "interleave/sft/demonstration_length": 4.0,
        "interleave/sft/demonstration_length_max": 5,
        "interleave/sft/truncated": 1,
    }


def test_earlier_metrics_are_kept_in_order(tmp_path: Path) -> None:
    root = tmp_path / "run"
    for start in range(12):
        file = fresh_metrics_file(root)
        assert file == root / "metrics.jsonl"
        assert not file.exists()
        file.write_text(str(start))

    kept = sorted(root.glob("metrics-*.jsonl"))
    assert [file.read_text() for file in kept] == [str(start) for start in range(11)]
    assert (root / "metrics.jsonl").read_text() == "11"


@pytest.mark.parametrize("name", ["metrics-final.jsonl", "metrics-2-copy.jsonl"])
def test_files_of_other_names_are_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    (tmp_path / "metrics.jsonl").write_text("run")

    fresh_metrics_file(tmp_path)

    assert (tmp_path / name).read_text() == "mine"
    assert (tmp_path / "metrics-001.jsonl").read_text() == "run"
