"""What a run did, as a person sees it: tables, curves, one picture, one page.

`mifo report RUN` shows one run, `mifo report RUN RUN …` compares several.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from mifo_ext.report_page import write_page
from mifo_ext.report_picture import run_picture
from mifo_ext.report_read import read_run
from mifo_ext.report_tables import (
    accuracy_table,
    band_sparklines,
    events_table,
    headline,
    show,
)

PICTURE = "report.png"
PAGE = "report.html"


def report(run_folder: Path, *, console: Console | None = None) -> None:
    """Show one run in the terminal; write `report.png` and `report.html` into its folder.

    Args:
        run_folder: holds verl's `metrics.jsonl`.
        console: where to print; the terminal if None.

    Raises:
        FileNotFoundError: the folder or its metrics are missing.
        ValueError: no step can be read.
    """
    console = console or Console()
    run = read_run(run_folder)
    tables = [accuracy_table(run), events_table(run)]
    console.print(Text(headline(run), style="bold"))
    for table in tables:
        show(table, console)
    for line in band_sparklines(run):
        console.print(Text(line))
    picture, page = run_folder / PICTURE, run_folder / PAGE
    run_picture(run, picture)
    write_page(page, title=headline(run), tables=tables, picture=picture, notes=run.notes)
    _print_ends(console, run.notes, picture, page)


def compare(
    run_folders: Sequence[Path], *, into: Path | None = None, console: Console | None = None
) -> None:
    """Compare runs of several recipes, paired by seed.

    Each folder is called `<recipe>-seed<n>`; the recipe named last is the one that the others are
    compared with.

    Args:
        run_folders: two or more, with their metrics.
        into: folder for `report.png` and `report.html`; `comparison` beside the first run if None.
        console: where to print; the terminal if None.

    Raises:
        FileNotFoundError: a folder or its metrics are missing.
        ValueError: fewer than two runs, the same recipe and seed twice, or nothing in common.
    """
    from mifo_ext.eval.table_text import show_fitted
    from mifo_ext.report_compare import comparison, comparison_picture, comparison_tables
    from mifo_ext.report_recipes import ROWS_FROM, recipes_picture, recipes_tables

    if len(run_folders) < 2:
        raise ValueError(f"`run_folders` must be two or more, but is {len(run_folders)}.")
    console = console or Console()
    compared = comparison([read_run(folder) for folder in run_folders])
    many = len(compared.recipes) >= ROWS_FROM
    tables = recipes_tables(compared) if many else comparison_tables(compared)
    for table in tables:
        show_fitted(table, console)
    into = into or run_folders[0].resolve().parent / "comparison"
    into.mkdir(parents=True, exist_ok=True)
    picture, page = into / PICTURE, into / PAGE
    (recipes_picture if many else comparison_picture)(compared, picture)
    title = " and ".join(compared.recipes)
    write_page(page, title=title, tables=tables, picture=picture, notes=compared.notes)
    _print_ends(console, compared.notes, picture, page)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `mifo report`.

    Args:
        arguments: run folders; the command line's if None.

    Returns:
        0, or 2 when a run cannot be read.
    """
    parser = argparse.ArgumentParser(prog="mifo report", description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="a run's folder")
    parser.add_argument("--into", type=Path, help="where a comparison's picture and page go")
    chosen = parser.parse_args(arguments)
    try:
        if len(chosen.runs) == 1:
            report(chosen.runs[0])
        else:
            compare(chosen.runs, into=chosen.into)
    except (FileNotFoundError, ValueError) as error:
        print(f"mifo report: {error}", file=sys.stderr)
        return 2
    return 0


def _print_ends(console: Console, notes: Sequence[str], picture: Path, page: Path) -> None:
    for note in notes:
        console.print(Text(f"note: {note}", style="yellow"))
    for name, path in (("picture", picture), ("page", page)):
        console.print(Text(f"{name:<8} {os.path.relpath(path)}"), soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
