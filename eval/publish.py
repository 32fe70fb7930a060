"""From runs' folders to tables in the terminal, pictures, Markdown and one page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.text import Text

from mifo_ext.eval.differences import differences
from mifo_ext.eval.folder import read_run
from mifo_ext.eval.judged import Judged, judge
from mifo_ext.eval.page import write_page
from mifo_ext.eval.picture import accuracy_picture, passes_picture
from mifo_ext.eval.picture_lengths import lengths_picture, token_counts
from mifo_ext.eval.record import Problem
from mifo_ext.eval.results import Difference
from mifo_ext.eval.shown import RunSamples, samples_of
from mifo_ext.eval.store import write_json
from mifo_ext.eval.table_text import markdown, show_fitted
from mifo_ext.eval.tables import evaluation_tables

PAGE, TEXT, DIFFERENCES = "report.html", "report.md", "differences.json"


def publish(
    folders: Sequence[Path],
    *,
    grader: str,
    into: Path | None,
    console: Console | None,
    allow_missing: bool = False,
) -> None:
    """Show runs side by side, the last one as the reference.

    Args:
        folders: of one run or several.
        grader: whose verdicts count; they must be there.
        into: folder for the report; None writes none.
        console: for the tables; None shows none.
        allow_missing: count what is there when samples are missing.

    Raises:
        FileNotFoundError: when a folder is no run's or this grader has not been asked.
        ValueError: when samples are missing, or runs cannot be compared.
    """
    judged = [judge(read_run(folder), grader, missing=allow_missing) for folder in folders]
    results = [one.result for one in judged]
    gaps = differences(results) if len(results) > 1 else []
    tables = evaluation_tables(results, differences=gaps)
    notes = _notes(judged, grader)
    if console is not None:
        for table in tables:
            show_fitted(table, console)
        for note in notes:
            console.print(Text(note, style="dim"))
    if into is not None:
        into.mkdir(parents=True, exist_ok=True)
        _write(judged, gaps, into, grader=grader, notes=notes)
        if console is not None:
            console.print(Text(f"page     {into / PAGE}"), soft_wrap=True)


def _write(
    judged: Sequence[Judged],
    gaps: Sequence[Difference],
    into: Path,
    *,
    grader: str,
    notes: Sequence[str],
) -> None:
    results = [one.result for one in judged]
    tables = evaluation_tables(results, differences=gaps)
    title = f"{' and '.join(result.name for result in results)}, graded by {grader}"
    (into / TEXT).write_text(markdown(tables, title=title, notes=notes), encoding="utf-8")
    if gaps:
        write_json(
            into / DIFFERENCES,
            [{**asdict(gap), "difference": gap.difference._asdict()} for gap in gaps],
        )
    chosen = samples_of(
        [RunSamples(one.run.name, one.run.samples, one.grades) for one in judged],
        _all_problems(judged),
    )
    write_page(
        into / PAGE,
        title=title,
        tables=tables,
        pictures=_pictures(judged, into),
        samples=chosen.samples,
        samples_remark=chosen.remark,
        notes=notes,
        provenance={one.run.name: one.run.record for one in judged},
        private=frozenset[str]().union(*(one.run.private for one in judged)),
    )


def _pictures(judged: Sequence[Judged], into: Path) -> list[Path]:
    results = [one.result for one in judged]
    accuracy, lengths, passes = (into / f"{name}.png" for name in ("accuracy", "lengths", "passes"))
    accuracy_picture(results, accuracy)
    counts = [
        count for one in judged for count in token_counts(one.run.name, one.run.samples, one.grades)
    ]
    caps = {
        int(entry["sampling"]["max_tokens"])
        for one in judged
        for entry in one.run.record["plan"].values()
    }
    lengths_picture(counts, lengths, cap=caps.pop() if len(caps) == 1 else None)
    drawn = [accuracy, lengths]
    if any(benchmark.samples > 1 for result in results for benchmark in result.benchmarks):
        passes_picture(results, passes)
        drawn.append(passes)
    return drawn


def _all_problems(judged: Sequence[Judged]) -> list[Problem]:
    found = {
        (problem.benchmark, problem.id): problem for one in judged for problem in one.run.problems
    }
    return list(found.values())


def _notes(judged: Sequence[Judged], grader: str) -> list[str]:
    notes = []
    for one in judged:
        record = one.run.record
        templates = {entry["template"]["name"] for entry in record["plan"].values()}
        sampling = {
            f"temperature {entry['sampling']['temperature']:g}, top_p "
            f"{entry['sampling']['top_p']:g}, at most {entry['sampling']['max_tokens']:,} tokens"
            for entry in record["plan"].values()
        }
        notes.append(
            f"{one.run.name}: template {', '.join(sorted(templates))}; "
            f"{'; '.join(sorted(sampling))}; grader {grader}."
        )
        notes += [
            f"{one.run.name}, {name}: {note}"
            for name, entry in record["plan"].items()
            for note in entry["notes"]
        ]
    return notes
