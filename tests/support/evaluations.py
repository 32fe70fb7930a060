"""Evaluations with a scripted engine."""

from pathlib import Path

from rich.console import Console

from mifo_ext.eval.plan import Plan
from mifo_ext.eval.results import RunResult
from mifo_ext.eval.run import evaluate
from tests.support.scripted_sampler import ScriptedSampler, checkpoint, make_plan

SAME_AFTER_EVERY_RERUN = ("samples.jsonl", "grades-strict.jsonl", "metrics-strict.json")


def run(
    folder: Path,
    sampler: ScriptedSampler | None = None,
    *,
    plan: Plan | None = None,
    identity: str = "weights",
    graders: tuple[str, ...] = ("strict",),
    allow_missing: bool = False,
) -> list[RunResult]:
    return evaluate(
        checkpoint(identity),
        plan or make_plan(),
        folder,
        sampler=lambda: ScriptedSampler() if sampler is None else sampler,
        graders=graders,
        console=Console(quiet=True),
        served={"dtype": "float32"},
        allow_missing=allow_missing,
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in SAME_AFTER_EVERY_RERUN}
