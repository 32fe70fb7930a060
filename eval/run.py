"""One checkpoint: draw what is missing, grade it, and write the figures."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.text import Text

from mifo_ext.eval.checkpoint import Checkpoint
from mifo_ext.eval.folder import PROBLEMS, RUN, SAMPLES, StoredRun, only_one, read_run
from mifo_ext.eval.grading import grade_samples, grades_path
from mifo_ext.eval.judged import judge
from mifo_ext.eval.live import LiveFigures
from mifo_ext.eval.metrics import to_json
from mifo_ext.eval.plan import Plan
from mifo_ext.eval.progress import Meter
from mifo_ext.eval.provenance import Sitting
from mifo_ext.eval.record import GradeLine, Sample
from mifo_ext.eval.results import RunResult
from mifo_ext.eval.sampler import Sampler, SamplerError
from mifo_ext.eval.store import Log, write_json, write_records
from mifo_ext.grading import grader_versions

COPIES_AT_LEAST = 4
"""Problems whose samples are all the same, in a benchmark where all are, that count as a fault."""


def evaluate(
    checkpoint: Checkpoint,
    plan: Plan,
    folder: Path,
    *,
    sampler: Callable[[], Sampler],
    graders: Sequence[str],
    console: Console,
    served: Mapping[str, object],
    allow_missing: bool = False,
) -> list[RunResult]:
    """Draw what is missing of a plan, grade it and write the figures.

    Args:
        checkpoint: who answers.
        plan: what is asked.
        folder: the run's; one that holds part of the same plan is gone on with.
        sampler: starts an engine; called only when a sample is missing.
        graders: whose verdicts are asked for.
        console: where progress is shown.
        served: how the engine was set up, for the record.
        allow_missing: count what is there when the engine dies.

    Returns:
        The figures, one result a grader.

    Raises:
        ValueError: when the folder holds another plan's samples, or the engine dies.
    """
    with only_one(folder):
        _check_same(folder, checkpoint, plan)
        with Log(folder / SAMPLES, Sample) as log:
            # Before anything is written: what is refused must leave the folder as it was.
            _check_keys(folder, plan, log)
            write_records(folder / PROBLEMS, plan.problems)
            sitting = Sitting(folder / RUN, _record(checkpoint, plan), served=served)
            live = LiveFigures(plan, folder, grader=graders[0], console=console)
            try:
                _draw(plan, log, sampler=sampler, sitting=sitting, console=console, live=live)
            except (SamplerError, OSError) as error:
                _say_what_is_kept(error, log, plan, console if allow_missing else None)
            finally:
                sitting.write(complete=len(log.records) == len(plan.places()))
            _check_distinct(plan, log)
            log.settle(plan.places())
        stored = read_run(folder)
        return [graded(stored, name, console=console, missing=allow_missing) for name in graders]


def _say_what_is_kept(
    error: SamplerError | OSError, log: Log[Sample], plan: Plan, console: Console | None
) -> None:
    """Raise the error with what is kept; an engine's death is only noted if a console is given."""
    if isinstance(error, OSError):
        raise OSError(f"{error}. {_kept(log, plan)}") from error
    said = f"{error} {_kept(log, plan)}"
    if console is None:
        raise SamplerError(said) from error
    console.print(Text(f"note: {said}", style="yellow"))


def graded(stored: StoredRun, grader: str, *, console: Console, missing: bool = False) -> RunResult:
    """Grade what a run holds, as far as it is not yet, and write the figures.

    Args:
        stored: the run.
        grader: whose verdicts are asked for.
        console: where progress is shown.
        missing: count what is there when samples are missing.

    Raises:
        ValueError: for an unknown grader, or when samples are missing.
    """
    label = f"grading ({grader})"
    with Log(grades_path(stored.folder, grader), GradeLine) as log:
        meter = Meter(console, {label: len(stored.samples)}, defaultdict(int))
        with meter.shown():
            grade_samples(
                log,
                stored.samples,
                grader=grader,
                golds=stored.golds,
                thinks=stored.thinks,
                on_graded=lambda count: meter.advance(label, count),
            )
        log.settle(sample.place for sample in stored.samples)
    judged = judge(stored, grader, missing=missing)
    write_json(
        stored.folder / f"metrics-{grader}.json",
        {"grader_versions": grader_versions(), "figures": to_json(judged.result)},
    )
    return judged.result


def _draw(
    plan: Plan,
    log: Log[Sample],
    *,
    sampler: Callable[[], Sampler],
    sitting: Sitting,
    console: Console,
    live: LiveFigures,
) -> None:
    missing = [request for request in plan.requests() if request.place not in log.records]
    if not missing:
        return
    totals = Counter(place.benchmark for place in plan.places())
    done = totals - Counter(request.place.benchmark for request in missing)
    console.print(
        Text(f"{len(missing):,} of {totals.total():,} samples to draw; the engine starts.")
    )
    engine = sampler()
    meter = Meter(console, totals, {name: done[name] for name in totals})
    try:
        with meter.shown():
            for samples in engine.draw(missing):
                log.add(samples)
                for sample in samples:
                    sitting.samples += 1
                    sitting.tokens += sample.tokens
                    meter.advance(sample.benchmark, 1, tokens=sample.tokens)
                for name in {sample.benchmark for sample in samples}:
                    # The last benchmark's figures are the table's, which comes at once.
                    if meter.done[name] == totals[name] and meter.done != dict(totals):
                        live.show(name, log)
    finally:
        engine.close()


def _record(checkpoint: Checkpoint, plan: Plan) -> dict[str, object]:
    told = {name: value for name, value in asdict(checkpoint).items() if name != "folder"}
    return {"name": checkpoint.name, "checkpoint": told, "plan": plan.record()}


def _check_same(folder: Path, checkpoint: Checkpoint, plan: Plan) -> None:
    """Refuse a folder of another model, or one that holds benchmarks that are not asked now."""
    if not (folder / RUN).is_file():
        return
    before = json.loads((folder / RUN).read_text(encoding="utf-8"))
    if before["checkpoint"]["identity"] != checkpoint.identity:
        raise ValueError(
            f"{folder} must hold samples of {checkpoint.asked}, but holds those of another model "
            f"({before['checkpoint']['asked']}, or other weights there by then). Choose another "
            "--out, or another name: NAME=CHECKPOINT."
        )
    if gone := [name for name in before["plan"] if name not in plan.askings]:
        raise ValueError(
            f"{folder} holds samples of {', '.join(gone)} too, which are not asked for now. Ask "
            "for them as well, or choose another --out."
        )


def _check_keys(folder: Path, plan: Plan, log: Log[Sample]) -> None:
    """Refuse samples that were drawn with another prompt or sampling: they would be lost."""
    keys = {request.place: request.key for request in plan.requests()}
    strange = [place for place, sample in log.records.items() if keys.get(place) != sample.key]
    if strange:
        first = log.records[strange[0]]
        raise ValueError(
            f"{folder} holds {len(strange):,} samples of other prompts, sampling or problems (the "
            f"first: {first.benchmark} {first.problem}, sample {first.sample}). Ask as it was "
            "asked before, or choose another --out."
        )


def _check_distinct(plan: Plan, log: Log[Sample]) -> None:
    """Refuse samples that are copies of each other, as equal seeds would make them."""
    responses: dict[tuple[str, str], list[str]] = defaultdict(list)
    for sample in log.records.values():
        responses[sample.benchmark, sample.problem].append(sample.response)
    for name, asking in plan.askings.items():
        drawn = [texts for (of, _), texts in responses.items() if of == name and len(texts) > 1]
        copies = all(len(set(texts)) == 1 for texts in drawn)
        if asking.sampling.temperature > 0 and copies and len(drawn) >= COPIES_AT_LEAST:
            raise ValueError(
                f"Samples of {name} must differ at temperature {asking.sampling.temperature}, but "
                f"all {asking.samples} of each problem are the same text: nothing is drawn."
            )


def _kept(log: Log[Sample], plan: Plan) -> str:
    return (
        f"{len(log.records):,} of {len(plan.places()):,} samples are kept; the same command goes "
        "on from there."
    )
