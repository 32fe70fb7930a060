"""Names and numbers of what an interleaved run logs, to any tracker that verl knows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from mifo_ext.adapters.demonstrations import DemonstrationTokens
from mifo_ext.core.interleave import HardExampleBuffer, waiting_age
from mifo_ext.core.outcomes import Observation, Outcome
from mifo_ext.core.usage import Usage

METRICS_FILE = "metrics.jsonl"


def outcome_metrics(outcomes: Iterable[Outcome]) -> dict[str, float]:
    """Count a step's questions by right rollouts, where no buffer looks at them."""
    outcomes = list(outcomes)
    complete = [outcome for outcome in outcomes if outcome.complete]
    return {
        "interleave/outcomes/questions": len(outcomes),
        "interleave/outcomes/incomplete": len(outcomes) - len(complete),
        **_histogram(Counter(outcome.correct for outcome in complete)),
    }


def observation_metrics(observation: Observation) -> dict[str, float]:
    """One step's outcomes, and what the buffer made of them."""
    return {
        "interleave/outcomes/questions": observation.questions,
        "interleave/outcomes/hard": observation.hard,
        "interleave/outcomes/incomplete": observation.incomplete,
        "interleave/outcomes/twice_in_batch": observation.twice_in_batch,
        "interleave/outcomes/without_demonstration": observation.without_demonstration,
        "interleave/buffer/added": observation.added,
        "interleave/buffer/repeated": observation.repeated,
        "interleave/buffer/eased": observation.eased,
        "interleave/buffer/returned": observation.returned,
        "interleave/sft/flush": 0,
        **_histogram(dict(enumerate(observation.histogram))),
    }


def buffer_metrics(
    buffer: HardExampleBuffer, rejected: Mapping[str, int], *, step: int
) -> dict[str, float]:
    """The buffer after a step, and what the run has used so far."""
    age, totals = waiting_age(buffer.waiting, step=step), buffer.totals
    return {
        "interleave/buffer/size": len(buffer),
        "interleave/buffer/age_mean": age.mean if age else 0.0,
        "interleave/buffer/age_max": age.oldest if age else 0,
        "interleave/samples/flushes": totals.flushes,
        "interleave/samples/skipped_flushes": totals.skipped_flushes,
        **rejected_metrics(rejected),
    }


def rejected_metrics(rejected: Mapping[str, int]) -> dict[str, float]:
    """Why questions had no usable demonstration, each counted once since this start."""
    return {f"interleave/rejected/{reason}": count for reason, count in rejected.items()}


def usage_metrics(usage: Usage) -> dict[str, float]:
    """What the run has used so far."""
    return {
        "interleave/samples/rl": usage.questions,
        "interleave/samples/sft": usage.demonstrations,
        "interleave/tokens/rollouts": usage.rollout_tokens,
        "interleave/tokens/demonstrations": usage.demonstration_tokens,
    }


def demonstration_metrics(demonstrations: Sequence[DemonstrationTokens]) -> dict[str, float]:
    """Lengths of what an SFT interval learned from."""
    lengths = [len(demonstration.response_ids) for demonstration in demonstrations]
    return {
        "interleave/sft/demonstrations": len(lengths),
        "interleave/sft/demonstration_length": sum(lengths) / len(lengths),
        "interleave/sft/demonstration_length_max": max(lengths),
        "interleave/sft/truncated": sum(demo.truncated for demo in demonstrations),
    }


def fresh_metrics_file(root: Path) -> Path:
    """Make way for a new metrics file: verl's file logger empties what it finds.

    Returns:
        `root/metrics.jsonl`, which does not exist. An earlier one is kept as `metrics-<n>.jsonl`;
        read in order of n, with `metrics.jsonl` last, later entries of a step replace earlier ones.
    """
    root.mkdir(parents=True, exist_ok=True)
    current = root / METRICS_FILE
    if current.exists():
        numbers = [path.stem.removeprefix("metrics-") for path in root.glob("metrics-*.jsonl")]
        taken = [int(number) for number in numbers if number.isdecimal()]
        current.rename(root / f"metrics-{max(taken, default=0) + 1:03d}.jsonl")
    return current


def _histogram(counts: Mapping[int, int]) -> dict[str, float]:
    return {f"interleave/outcomes/correct_{n:02d}": count for n, count in sorted(counts.items())}
