"""`mifo prepare data`: any data set with answers and solutions, verified, in LUFFY's schema."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from mifo_ext.data.columns import Columns, Example, find_columns, read_example
from mifo_ext.data.lengths import Lengths
from mifo_ext.data.overlap import Benchmarks
from mifo_ext.data.prompts import KEEP, system_prompt, with_system
from mifo_ext.data.sieve import Sieve, Tally
from mifo_ext.data.sources import Source, read_source, sha256
from mifo_ext.data.tables import TableRow, table_row, write_table

RECORD = "prepare.json"
AUTO, AUTO_AT_MOST = "auto", 500
Track = Callable[[Sequence[Example]], Iterable[Example]]


@dataclass(frozen=True)
class Plan:
    """What `mifo prepare data` is asked to do.

    Attributes:
        source: a file, a folder or a hub id.
        out: folder to write into.
        revision: commit, tag or branch of a hub data set.
        split: split of a folder or hub data set.
        name: `data_source` of rows that do not say it themselves; None takes the source's name.
        system: system prompt: keep, none, a chat format's name or a text file.
        question_column: column of the question, when its name is not a known one.
        answer_column: column of the ground truth, likewise.
        solution_column: column of the demonstration, likewise.
        keep_questions: keep questions whose demonstration fell, without it.
        validation: how many questions to set aside ("auto" for 5 %, at most 500), or where
            validation questions come from; None for no validation file.
        benchmarks: files whose questions must not stand in the training data.
        shared_words: words in a row that make near copies; None compares whole questions.
        drop_overlap: drop questions that stand in a benchmark instead of warning.
        limit: read only so many rows of the source.
        seed: chooses the questions set aside.
    """

    source: str
    out: Path
    revision: str | None = None
    split: str = "train"
    name: str | None = None
    system: str = KEEP
    question_column: str | None = None
    answer_column: str | None = None
    solution_column: str | None = None
    keep_questions: bool = False
    validation: str | None = None
    benchmarks: tuple[str, ...] = ()
    shared_words: int | None = None
    drop_overlap: bool = False
    limit: int | None = None
    seed: int = 0


class Prepared(NamedTuple):
    """What was written.

    Attributes:
        tally: what became of the source's rows.
        columns: how the source was read.
        train: rows of train.parquet.
        validation: rows of validation.parquet; none when there is no such file.
        set_aside: whether these were taken out of the source.
        warnings: sentences a user should read.
    """

    tally: Tally
    columns: Columns
    train: list[TableRow]
    validation: list[TableRow]
    set_aside: bool
    warnings: list[str]


def prepare(plan: Plan, *, lengths: Lengths | None = None, track: Track | None = None) -> Prepared:
    """Read, verify and write a data set: train.parquet, validation.parquet, prepare.json.

    Args:
        plan: what to do.
        lengths: tells what is too long; None lets any length pass.
        track: wraps the examples while they are verified, to show progress.

    Raises:
        FileNotFoundError: when a source is missing.
        ValueError: when a source cannot be read, a column is missing or nothing is left.
    """
    _check(plan)
    source = read_source(plan.source, revision=plan.revision, split=plan.split)
    columns, examples = _examples(source, plan)
    aside = _aside_source(plan)
    sieve = Sieve(
        name=plan.name or source.name,
        verdict=_verdict,
        system=plan.system,
        lengths=lengths,
        benchmarks=_benchmarks(plan, aside),
        drop_overlap=plan.drop_overlap,
        keep_questions=plan.keep_questions,
    )
    sifted = (
        sieve.sift(example, source_row=number)
        for number, example in enumerate(track(examples) if track else examples)
    )
    kept = [row for row in sifted if row is not None]
    train, validation = _divide(kept, plan, aside)
    if not train:
        raise ValueError(
            f"{plan.source} must leave at least one row to train on, but leaves none "
            f"({_counts(sieve.tally.fell)}). Look at the columns: question {columns.question!r}, "
            f"answer {columns.answer!r}, solution {columns.solution!r}."
        )
    warnings = _warnings(columns, sieve.tally, drop_overlap=plan.drop_overlap)
    prepared = Prepared(sieve.tally, columns, train, validation, aside is None, warnings)
    _write(prepared, plan, [found for found in (source, aside) if found])
    return prepared


def _check(plan: Plan) -> None:
    if plan.system != KEEP:
        system_prompt(plan.system)
    for option, value in (("limit", plan.limit), ("validation", _count(plan.validation))):
        if value is not None and value < 1:
            raise ValueError(f"`--{option}` must be at least 1, but is {value}.")


def _count(validation: str | None) -> int | None:
    return int(validation) if validation and validation.lstrip("-").isdigit() else None


def _verdict(demonstration: str, answer: str) -> str:
    from mifo_ext.grading import grade

    return grade(demonstration, answer).verdict


def _examples(source: Source, plan: Plan) -> tuple[Columns, list[Example]]:
    columns = find_columns(
        source.rows[0],
        question=plan.question_column,
        answer=plan.answer_column,
        solution=plan.solution_column,
    )
    return columns, _read(source, columns, limit=plan.limit)


def _read(source: Source, columns: Columns, *, limit: int | None = None) -> list[Example]:
    examples = []
    for number, row in enumerate(source.rows[:limit]):
        try:
            examples.append(read_example(row, columns))
        except (KeyError, ValueError) as error:
            raise ValueError(f"Row {number} of {source.name} cannot be read: {error}") from error
    return examples


def _aside_source(plan: Plan) -> Source | None:
    if plan.validation in (None, AUTO) or _count(plan.validation) is not None:
        return None
    return read_source(str(plan.validation))


def _benchmarks(plan: Plan, aside: Source | None) -> Benchmarks:
    # By the words of the command line: two files may have the same name.
    sources = {benchmark: read_source(benchmark) for benchmark in plan.benchmarks}
    if aside is not None:
        sources[plan.validation or aside.name] = aside
    questions = {
        name: [example.question for example in _read(source, find_columns(source.rows[0]))]
        for name, source in sources.items()
    }
    return Benchmarks(questions, shared_words=plan.shared_words)


def _divide(
    rows: list[TableRow], plan: Plan, aside: Source | None
) -> tuple[list[TableRow], list[TableRow]]:
    if aside is not None:
        return rows, _validation_rows(aside, system=plan.system)
    auto = min(len(rows) // 20, AUTO_AT_MOST) if plan.validation == AUTO else 0
    count = _count(plan.validation) or auto
    if count and count >= len(rows):
        raise ValueError(
            f"`--validation` must be below the number of rows kept, {len(rows)}, but is {count}."
        )
    chosen = set(random.Random(plan.seed).sample(range(len(rows)), count))
    return (
        [row for number, row in enumerate(rows) if number not in chosen],
        [rows[number] for number in sorted(chosen)],
    )


def _validation_rows(aside: Source, *, system: str) -> list[TableRow]:
    examples = _read(aside, find_columns(aside.rows[0]))
    rows = [
        table_row(
            with_system(example.prompt, system),
            answer=example.answer,
            demonstration=None,
            data_source=example.data_source or aside.name,
            source_row=number,
        )
        for number, example in enumerate(examples)
        if example.answer is not None
    ]
    if len(rows) < len(examples):
        raise ValueError(
            f"Every row of {aside.name} must have an answer to validate with, "
            f"but {len(examples) - len(rows)} have none."
        )
    return rows


def _warnings(columns: Columns, tally: Tally, *, drop_overlap: bool) -> list[str]:
    warnings = []
    if columns.answer is None or columns.family == "gsm8k":
        warnings.append(
            "The answers come from the demonstrations themselves, so verifying these could only "
            "find unreadable ones."
        )
    if tally.overlap:
        what = "were left out" if drop_overlap else "are kept (--drop-overlap leaves them out)"
        warnings.append(
            f"{tally.overlap.total()} training questions stand in a benchmark and {what}: "
            f"{_counts(tally.overlap)}."
        )
    return warnings


def _counts(counter: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counter.items())


def _write(prepared: Prepared, plan: Plan, sources: list[Source]) -> None:
    plan.out.mkdir(parents=True, exist_ok=True)
    outputs = {}
    for split, rows in (("train", prepared.train), ("validation", prepared.validation)):
        file = plan.out / f"{split}.parquet"
        file.unlink(missing_ok=True)
        if rows:
            write_table(file, rows, split=split)
            outputs[file.name] = {"rows": len(rows), "sha256": sha256(file)}
    settings = {key: value for key, value in asdict(plan).items() if key not in ("source", "out")}
    record = {
        "sources": [source.provenance for source in sources],
        "columns": asdict(prepared.columns),
        "settings": settings,
        "outputs": outputs,
        "rows_read": prepared.tally.read,
        "tally": {key: dict(value) for key, value in vars(prepared.tally).items() if key != "read"},
        "warnings": prepared.warnings,
        "versions": {name: version(name) for name in ("mifo-ext", "datasets", "math-verify")},
    }
    text = json.dumps(record, indent=2, ensure_ascii=False)
    (plan.out / RECORD).write_text(text + "\n", encoding="utf-8")
