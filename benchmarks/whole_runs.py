"""What a recipe adds to a run: `grpo` against verl alone, `mifo` against `interleave`.

    python benchmarks/whole_runs.py [--steps 24] [--rounds 2] [--runs FOLDER] [--json FILE]

Real runs on the CPU scale, one at a time and in turns; a run that is complete in the folder is not
trained again. verl alone is `+recipe=grpo` with verl's own trainer, worker, replay buffer and
checkpoints. The same steps of two runs of one round are compared, but the first two, which warm up,
and the last, which saves: their seconds with and without generation, because two runs do not sample
the same answers. Two runs of one command differ by some per cent here; what the method itself takes
(outcomes, hold, and SFT beyond the other's) is timed within the run and stands in a column of its
own. Size and time of the checkpoint stand below.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from measure import show
from rich.table import Table

from mifo_ext.adapters.first_check import parameters_in
from mifo_ext.hydra_plugin import world_folder

HERE = Path(__file__).parent
VERL_ALONE = [
    "trainer.v1.trainer_mode=sync",
    "~hydra.callbacks.mifo",
    f"trainer.v1.sampler.custom_sampler.path={HERE / 'verl_alone.py'}",
    "trainer.v1.sampler.custom_sampler.name=EagerReplayBuffer",
]
VARIANTS: dict[str, list[str]] = {
    "verl alone": ["+recipe=grpo", *VERL_ALONE],
    "grpo": ["+recipe=grpo"],
    "interleave": ["+recipe=interleave"],
    "mifo": ["+recipe=mifo"],
}
PAIRS = (("grpo", "verl alone"), ("mifo", "interleave"))
WARM_UP = 2


def folder_of(runs: Path, name: str, number: int) -> Path:
    """Where one run of a variant lies."""
    return runs / f"{name.replace(' ', '_')}-{number}"


def train(folder: Path, overrides: Sequence[str], steps: int) -> None:
    """One run without validation that saves once, at its end."""
    common = [
        f"trainer.total_training_steps={steps}",
        f"trainer.save_freq={steps}",
        "trainer.test_freq=-1",
        "trainer.val_before_train=false",
    ]
    command = [str(HERE.parent / "scripts/train.sh"), str(folder), *overrides, *common]
    metrics = {"VERL_FILE_LOGGER_PATH": str(folder / "metrics.jsonl")}
    subprocess.run(command, check=True, env=os.environ | metrics)


def steps_of(folder: Path) -> list[dict[str, float]]:
    """The metrics of each step that counts."""
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    steps = [json.loads(line)["data"] for line in lines]
    return [step for step in steps if "timing_s/step" in step][WARM_UP:-1]


def without_generation(step: dict[str, float]) -> float:
    """Seconds of a step but those in which answers are sampled."""
    return step["timing_s/step"] - step["timing_s/gen"]


def method_seconds(step: dict[str, float]) -> float:
    """Seconds of a step that a recipe's method took, as it timed them itself."""
    timed = [f"interleave/seconds/{name}" for name in ("hold", "sft", "release")]
    return sum(step.get(name, 0.0) for name in (*timed, "timing_s/outcomes"))


def compared(runs: Path, ours: str, theirs: str, rounds: int) -> dict[str, object]:
    """Medians over steps and rounds, and the ratios of whole runs."""
    pairs = [
        (steps_of(folder_of(runs, ours, i)), steps_of(folder_of(runs, theirs, i)))
        for i in range(rounds)
    ]
    whole = [
        sum(step["timing_s/step"] for step in a) / sum(step["timing_s/step"] for step in b)
        for a, b in pairs
    ]
    mine, other = ([step for pair in pairs for step in pair[side]] for side in (0, 1))
    rest = [statistics.median(map(without_generation, steps)) for steps in (mine, other)]
    added = sum(map(method_seconds, mine)) - sum(map(method_seconds, other))
    return {
        "ours": ours,
        "against": theirs,
        "step_seconds": statistics.median(step["timing_s/step"] for step in mine),
        "step_ratio": statistics.median(
            a["timing_s/step"] / b["timing_s/step"]
            for x, y in pairs
            for a, b in zip(x, y, strict=True)
        ),
        "step_without_generation_ratio": rest[0] / rest[1],
        "run_ratio": statistics.median(whole),
        "run_ratios": whole,
        "added_share_of_run": added / sum(step["timing_s/step"] for step in other),
    }


def checkpoint(folder: Path, parameters: int) -> dict[str, Any]:
    """Size and time of the run's checkpoint, ours and verl's files apart."""
    saved = sorted(folder.glob("global_step_*"))[-1]
    sizes = {path: path.stat().st_size for path in saved.rglob("*") if path.is_file()}
    ours = sum(size for path, size in sizes.items() if "interleave" in path.parts)
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    seconds = [
        data["timing_s/save_checkpoint"]
        for line in lines
        if "timing_s/save_checkpoint" in (data := json.loads(line)["data"])
    ]
    return {
        "checkpoint_bytes": sum(sizes.values()),
        "bytes_beside_verls": ours,
        "bytes_a_parameter_beside_verls": ours / parameters,
        "save_seconds": seconds[-1],
    }


def shown(rows: Sequence[dict[str, Any]]) -> list[Table]:
    """Both comparisons as tables."""
    runs = Table("", "against", "step, s", "step", "without sampling", "run", "timed within")
    for row in rows:
        if "against" in row:
            runs.add_row(
                row["ours"],
                row["against"],
                f"{row['step_seconds']:.2f}",
                f"{row['step_ratio']:.3f}",
                f"{row['step_without_generation_ratio']:.3f}",
                f"{row['run_ratio']:.3f}",
                f"{row['added_share_of_run']:+.2%}",
            )
    saves = Table("checkpoint", "MB", "beside verl's", "bytes a parameter", "seconds")
    for row in rows:
        if "variant" in row:
            saves.add_row(
                row["variant"],
                f"{row['checkpoint_bytes'] / 1e6:.1f}",
                f"{row['bytes_beside_verls'] / 1e6:.1f}",
                f"{row['bytes_a_parameter_beside_verls']:.1f}",
                f"{row['save_seconds']:.2f}",
            )
    return [runs, saves]


def main() -> None:
    """Train what is missing, and show."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--runs", type=Path, default=Path("runs/whole"))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    runs = arguments.runs.absolute()
    for number in range(arguments.rounds):
        order = list(VARIANTS) if number % 2 == 0 else list(VARIANTS)[::-1]
        for name in order:
            train(folder_of(runs, name, number), VARIANTS[name], arguments.steps)
    parameters = parameters_in(Path(world_folder()) / "model")
    rows: list[dict[str, Any]] = [compared(runs, *pair, arguments.rounds) for pair in PAIRS]
    for name in VARIANTS:
        folder = folder_of(runs, name, arguments.rounds - 1)
        rows.append({"variant": name, **checkpoint(folder, parameters)})
    show("whole_runs", shown(rows), rows, file=arguments.json)


if __name__ == "__main__":
    main()
