"""`mifo eval`, `mifo regrade` and `mifo compare`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mifo_ext.eval.asked import Asked
    from mifo_ext.eval.checkpoint import Checkpoint
    from mifo_ext.eval.engine import EngineSettings
    from mifo_ext.eval.plan import Plan
    from mifo_ext.eval.sampler import Sampler

OUT = Path("runs/eval")


def add_eval(command: argparse.ArgumentParser) -> None:
    """Say what `mifo eval` understands."""
    add = command.add_argument
    add("checkpoints", nargs="+", metavar="[NAME=]CHECKPOINT", help="hub id, folder, verl run")
    add("--suite", action="append", metavar="NAME", help="suite or benchmark; may be repeated")
    add("--out", type=Path, default=OUT, metavar="FOLDER", help=f"a folder a run goes here ({OUT})")
    add("--data", action="append", default=[], metavar="[NAME=]FILE", help="a benchmark's own file")
    add("--template", metavar="NAME", help="prompt template (the suite's); `tokenizer`: its own")
    add("--samples", type=int, metavar="K", help="for each problem (the benchmark's)")
    add("--limit", type=int, metavar="N", help="problems of each benchmark, a fixed choice")
    add("--temperature", type=float, help="0 for greedy (the suite's)")
    add("--top-p", type=float, help="nucleus (the suite's)")
    add("--max-tokens", type=int, metavar="N", help="most new tokens (the suite's)")
    add("--seed", type=int, default=0, help="of sampling and of --limit (0)")
    add("--grader", action="append", metavar="NAME", help="strict, math_verify, lenient (strict)")
    add("--revision", help="commit, tag or branch of a hub id")
    add("--engines", type=int, metavar="N", help="copies of the model (as many as fit)")
    add("--tensor-parallel", type=int, default=1, metavar="N", help="devices a copy (1)")
    add("--dtype", default="auto", help="of weights (auto)")
    add("--memory", type=float, default=0.9, metavar="SHARE", help="of each device (0.9)")
    add("--at-once", type=int, default=256, metavar="N", help="responses that grow together (256)")
    add("--trust-remote-code", action="store_true", help="run Python that lies beside the model")
    add("--allow-missing", action="store_true", help="figures from what is there")
    command.set_defaults(run=_eval)


def add_regrade(command: argparse.ArgumentParser) -> None:
    """Say what `mifo regrade` understands."""
    command.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a run")
    command.add_argument(
        "--grader", action="append", metavar="NAME", help="strict, math_verify, lenient (strict)"
    )
    command.add_argument("--allow-missing", action="store_true", help="figures from what is there")
    command.set_defaults(run=_regrade)


def add_compare(command: argparse.ArgumentParser) -> None:
    """Say what `mifo compare` understands."""
    add = command.add_argument
    add("runs", nargs="+", type=Path, metavar="RUN", help="folders; the last is the reference")
    add("--grader", default="strict", metavar="NAME", help="whose verdicts (strict)")
    add("--into", type=Path, metavar="FOLDER", help="for the report (comparison beside the first)")
    add("--allow-missing", action="store_true", help="figures from what is there")
    command.set_defaults(run=_compare)


def _eval(chosen: argparse.Namespace) -> int:
    from rich.console import Console

    from mifo_ext.eval.asked import Asked, read_data
    from mifo_ext.eval.publish import publish

    asked = Asked(
        suites=tuple(chosen.suite or ["math"]),
        template=chosen.template,
        samples=chosen.samples,
        limit=chosen.limit,
        temperature=chosen.temperature,
        top_p=chosen.top_p,
        max_tokens=chosen.max_tokens,
        seed=chosen.seed,
        data=read_data(chosen.data),
        graders=tuple(chosen.grader or ["strict"]),
    )
    asked.check()
    console = Console()
    _require_distinct(chosen.checkpoints)
    runs = [_evaluate_one(word, asked, chosen, console=console) for word in chosen.checkpoints]
    grader, allow = asked.graders[0], chosen.allow_missing
    for folder in runs if len(runs) > 1 else []:
        publish([folder], grader=grader, into=folder, console=None, allow_missing=allow)
    into = runs[0] if len(runs) == 1 else chosen.out
    publish(runs, grader=grader, into=into, console=console, allow_missing=allow)
    return 0


def _regrade(chosen: argparse.Namespace) -> int:
    from rich.console import Console

    from mifo_ext.eval.folder import only_one, read_run
    from mifo_ext.eval.publish import publish
    from mifo_ext.eval.run import graded

    console = Console()
    graders = chosen.grader or ["strict"]
    for folder in chosen.runs:
        stored = read_run(folder)
        with only_one(folder):
            for grader in graders:
                graded(stored, grader, console=console, missing=chosen.allow_missing)
    for grader in graders:
        publish(
            chosen.runs,
            grader=grader,
            into=None,
            console=console,
            allow_missing=chosen.allow_missing,
        )
    return 0


def _compare(chosen: argparse.Namespace) -> int:
    from rich.console import Console

    from mifo_ext.eval.publish import publish

    if len(chosen.runs) < 2:
        raise ValueError("`mifo compare` must be given two runs or more, but is given one.")
    publish(
        chosen.runs,
        grader=chosen.grader,
        into=chosen.into or chosen.runs[0].resolve().parent / "comparison",
        console=Console(),
        allow_missing=chosen.allow_missing,
    )
    return 0


def _evaluate_one(word: str, asked: Asked, chosen: argparse.Namespace, *, console: Any) -> Path:
    """Evaluate a checkpoint and return its run's folder."""
    from rich.text import Text

    from mifo_ext.eval.asked import make_plan
    from mifo_ext.eval.checkpoint import opened, tokenizer_of
    from mifo_ext.eval.engine import device_count
    from mifo_ext.eval.run import evaluate

    name, at = _named(word)
    with opened(at, name=name, revision=chosen.revision, dtype=chosen.dtype) as checkpoint:
        console.print(Text(f"{checkpoint.name}: {checkpoint.asked}", style="bold"))

        def tokenizer() -> Any:
            return tokenizer_of(checkpoint.folder, trust_remote_code=chosen.trust_remote_code)

        plan = make_plan(asked, tokenizer=tokenizer)
        for benchmark, asking in plan.askings.items():
            for note in asking.loaded.notes:
                console.print(Text(f"note: {benchmark}: {note}", style="yellow"))
        folder: Path = chosen.out / checkpoint.name
        settings = _engine_settings(checkpoint, plan, chosen, tokenizer=tokenizer())
        engines = chosen.engines or max(device_count() // chosen.tensor_parallel, 1)
        told = {**asdict(settings), "engines": engines}
        evaluate(
            checkpoint,
            plan,
            folder,
            sampler=lambda: _start(settings, engines=engines, folder=folder),
            served={name: value for name, value in told.items() if name not in ("model", "log")},
            graders=asked.graders,
            console=console,
            allow_missing=chosen.allow_missing,
        )
    return folder


def _engine_settings(
    checkpoint: Checkpoint, plan: Plan, chosen: argparse.Namespace, *, tokenizer: Any
) -> EngineSettings:
    """How the model is to be served; refuses responses that could outgrow it."""
    from mifo_ext.eval.engine import EngineSettings, prompt_tokens
    from mifo_ext.eval.plan import check_context

    context = check_context(
        plan,
        prompt_tokens=[len(prompt_tokens(tokenizer, prompt)) for prompt in plan.prompts()],
        model_context=_model_context(checkpoint.folder, chosen.trust_remote_code),
    )
    return EngineSettings(
        model=checkpoint.folder,
        context=context,
        tensor_parallel=chosen.tensor_parallel,
        dtype=chosen.dtype,
        memory_share=chosen.memory,
        at_once=chosen.at_once,
        seed=chosen.seed,
        log=(chosen.out / checkpoint.name / "engine.log").resolve(),
        trust_remote_code=chosen.trust_remote_code,
    )


def _start(settings: EngineSettings, *, engines: int, folder: Path) -> Sampler:
    """Start one engine here, or several as Ray actors; none outlives this process."""
    from mifo_ext.adapters.processes import guard
    from mifo_ext.eval.engine import VllmSampler, device_count

    # A killed process takes no engine with it: they would keep their devices' memory.
    guard(folder)

    if engines == 1:
        return VllmSampler(settings)
    from mifo_ext.adapters.eval_fleet import FleetSampler

    devices = settings.tensor_parallel if device_count() else 0
    return FleetSampler(settings, engines=engines, devices=devices)


def _model_context(folder: Path, trust_remote_code: bool) -> int | None:
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
    context = getattr(config, "max_position_embeddings", None)
    return None if context is None else int(context)


def _named(word: str) -> tuple[str | None, str]:
    name, equals, at = word.partition("=")
    return (name, at) if equals and name and not Path(word).exists() else (None, word)


def _require_distinct(words: Sequence[str]) -> None:
    """Refuse checkpoints that would share a folder."""
    from mifo_ext.eval.checkpoint import name_of

    if len(set(words)) < len(words):
        raise ValueError("Every checkpoint must be given once, but one is given twice.")
    names = [name or name_of(at) for name, at in map(_named, words)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(
            f"Checkpoints must have different names, but several have the same name "
            f"{', '.join(twice)}. Name them: NAME=CHECKPOINT."
        )
