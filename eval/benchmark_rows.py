"""From rows of any layout to questions with their golds, still uncleaned."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from mifo_ext.data.columns import (
    ANSWER_NAMES,
    QUESTION_NAMES,
    SOLUTION_NAMES,
    Columns,
    Row,
    find_columns,
    read_example,
)
from mifo_ext.eval.catalogue import Benchmark, benchmarks
from mifo_ext.eval.choices import has_choices, read_choice

LABEL_COLUMNS = ("data_source", "benchmark")
SHOWN_AT_MOST = 10


class Entry(NamedTuple):
    """What one row asks.

    Attributes:
        row: its number in the file, from 1.
        question: what the user asks, options included.
        gold: the answer as the file has it.
        group: subject or level; empty if there is none.
    """

    row: int
    question: str
    gold: str
    group: str


class Reading(NamedTuple):
    """What a file holds of a benchmark.

    Attributes:
        entries: one for each row of it.
        notes: for the user.
    """

    entries: list[Entry]
    notes: list[str]


def read_entries(benchmark: Benchmark, rows: Sequence[Row], *, where: str) -> Reading:
    """Read a benchmark's questions from the rows of a file.

    Args:
        benchmark: which one; rows that say they are of another are left out.
        rows: at least one.
        where: name of the file, for errors.

    Raises:
        ValueError: when the file is of other benchmarks or of an unknown layout, or with every
            row that has no question or no answer.
    """
    numbered = [(number, _lower(row)) for number, row in enumerate(rows, start=1)]
    ours = _of_benchmark(benchmark, numbered, where=where)
    by_choice = benchmark.kind == "letter" and has_choices(ours[0][1])
    columns = None if by_choice else _columns(ours[0][1], where=where)
    entries: list[Entry] = []
    problems: list[str] = []
    for number, row in ours:
        try:
            entry = _entry(benchmark, row, columns, number=number)
        except ValueError as error:
            problems.append(f"row {number}: {error}")
            continue
        empty = [what for what in ("question", "gold") if not getattr(entry, what)]
        problems += [f"row {number} has no {'answer' if x == 'gold' else x}" for x in empty]
        entries.append(entry)
    if problems:
        raise ValueError(
            f"Every row of {where} must have a question and an answer, but {listed(problems)}."
        )
    notes = (
        []
        if len(ours) == len(rows)
        else [f"Took {len(ours)} of the {len(rows):,} rows of {where}."]
    )
    if benchmark.kind == "letter" and not by_choice:
        notes.append(f"{where} has no column of options: its questions are asked as they stand.")
    return Reading(entries, notes + _tolerance_notes(ours))


def listed(problems: Sequence[str]) -> str:
    """The first few problems, and how many there are besides."""
    shown = "; ".join(problems[:SHOWN_AT_MOST])
    more = len(problems) - SHOWN_AT_MOST
    return shown if more <= 0 else f"{shown}; and {more} more"


def _lower(row: Row) -> dict[str, object]:
    """The row with column names in lower case; of two that then are one, the first stays."""
    lower: dict[str, object] = {}
    for name, value in row.items():
        lower.setdefault(str(name).strip().casefold(), value)
    return lower


def _of_benchmark(
    benchmark: Benchmark, rows: list[tuple[int, dict[str, object]]], *, where: str
) -> list[tuple[int, dict[str, object]]]:
    """The rows of a file that are of the benchmark, by what they say they are."""
    labels = Counter(_label(row) for _, row in rows)
    if any(benchmark.is_called(label) for label in labels):
        return [(number, row) for number, row in rows if benchmark.is_called(_label(row))]
    of_another = any(other.is_called(label) for label in labels for other in benchmarks().values())
    if not of_another and len(labels) == 1:
        # One label that nobody knows, or none: the file is what the user says it is.
        return rows
    named = ", ".join(sorted(label or "(no label)" for label in labels))
    raise ValueError(
        f"{where} must hold {benchmark.name}, but its rows are of {named}. "
        f"Known names: {', '.join([benchmark.name, *benchmark.labels])}."
    )


def _label(row: Row) -> str:
    found = (row[name] for name in LABEL_COLUMNS if isinstance(row.get(name), str))
    return str(next(found, ""))


def _columns(row: Row, *, where: str) -> Columns:
    try:
        columns = find_columns(_plain(row))
    except ValueError as error:
        raise ValueError(
            f"{where} must have a column for the question ({', '.join(QUESTION_NAMES)}) and one "
            f"for the answer ({', '.join((*ANSWER_NAMES, *SOLUTION_NAMES))}), but has "
            f"{', '.join(row)}. Rename its columns."
        ) from error
    if columns.family == "gsm8k" or columns.answer is None:
        return columns
    # With an answer of its own a row's worked solution is not needed, whatever form it has.
    return dataclasses.replace(columns, solution=None)


def _entry(benchmark: Benchmark, row: Row, columns: Columns | None, *, number: int) -> Entry:
    group = _group(benchmark, row)
    if columns is None:
        choice = read_choice(row)
        return Entry(number, choice.text if choice.question else "", choice.gold, group)
    example = read_example(_plain(row), columns)
    return Entry(number, example.question.strip(), example.answer or "", group)


def _plain(row: Row) -> dict[str, object]:
    """The row with an answer that is a list, as OlympiadBench and rllm have it, as one text."""
    return {name: _joined(value) if name in ANSWER_NAMES else value for name, value in row.items()}


def _joined(value: object) -> object:
    if isinstance(value, str | Mapping) or not isinstance(value, Sequence):
        return value
    parts = [str(part).strip() for part in value]
    if len(parts) == 1:
        return parts[0]
    # `$1$, $2$` would be read as a text with mathematics in it.
    return ", ".join(part[1:-1] if _is_one_formula(part) else part for part in parts)


def _is_one_formula(text: str) -> bool:
    return len(text) > 2 and text[0] == text[-1] == "$" and "$" not in text[1:-1]


def _group(benchmark: Benchmark, row: Row) -> str:
    for column in benchmark.groups:
        if (value := row.get(column)) not in (None, ""):
            return str(value).strip()
    # `world/sum/3`: what stands behind the benchmark's name.
    head, _, rest = _label(row).partition("/")
    return rest if head == benchmark.name else ""


def _tolerance_notes(rows: list[tuple[int, dict[str, object]]]) -> list[str]:
    """OlympiadBench's `error` says how far off an answer may be; no grader here applies it."""
    count = sum(row.get("error") not in (None, "", "0") for _, row in rows)
    return [f"{count} rows state a tolerance (`error`) that no grader applies."] if count else []
