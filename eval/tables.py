"""The figures of an evaluation as tables: accuracy, lengths, groups, pass@k, differences.

Every figure says how many samples it stands on: `avg@32`, `pass@8`. Where all rows share a k it
stands in the heading, else in the cell.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mifo_ext.eval.differences import AVERAGE
from mifo_ext.eval.results import BenchmarkResult, Difference, RunResult
from mifo_ext.eval.table_cells import (
    NONE,
    Named,
    at_k,
    benchmarks_of,
    by_benchmark,
    find,
    interval,
    named_column,
    percent,
    points,
    probability,
    rate,
    row_of_named,
    run_names,
    tokens,
)
from mifo_ext.eval.table_text import visible_table
from mifo_ext.report_tables import Report

SIGNIFICANT_BELOW = 0.05
_TIMES = "\N{MULTIPLICATION SIGN}"
_FAILURES = ("unparsable_gold", "timeout", "error")
_OTHER = "Other: the grader timed out, failed, or could not read the gold."


def evaluation_tables(
    results: Sequence[RunResult], *, differences: Sequence[Difference] = ()
) -> list[Report]:
    """All tables that have something to say, the most important first.

    Args:
        results: one run or several.
        differences: of runs against a reference; none for a single run.
    """
    tables = [
        accuracy_table(results),
        differences_table(differences),
        lengths_table(results),
        groups_table(results),
        passes_table(results),
    ]
    return [table for table in tables if table.rows]


def accuracy_table(results: Sequence[RunResult]) -> Report:
    """Accuracy by benchmark, and the unweighted average where there are several.

    Args:
        results: of one run, all its figures are shown; of several, one column a run.

    Raises:
        ValueError: no run, or two of the same name and grader.
    """
    names = run_names(results)
    return _single(results[0]) if len(names) == 1 else _several(results, names)


def lengths_table(results: Sequence[RunResult]) -> Report:
    """Response lengths in tokens, and how many responses the cap cut off.

    Args:
        results: one run or several; several are rows below each other in each benchmark.

    Raises:
        ValueError: no run, or two of the same name and grader.
    """
    shown = run_names(results)
    rows = []
    for name, run in by_benchmark(results, shown):
        of_all, correct, wrong = (run.lengths[kind] for kind in ("all", "correct", "wrong"))
        figures = [of_all.mean, of_all.median, of_all.p95, correct.mean, wrong.mean]
        rows.append(
            [
                run.benchmark,
                *([name] if len(shown) > 1 else []),
                f"{of_all.count:,}",
                *(tokens(value) for value in figures),
                rate(run.rates.get("truncated")),
            ]
        )
    columns = (
        *("benchmark", *(["run"] if len(shown) > 1 else [])),
        *(">responses", ">mean", ">median", ">95th percentile"),
        *(">mean of correct", ">mean of others", ">truncated %"),
    )
    return visible_table(Report("Response lengths in tokens", columns, rows))


def groups_table(results: Sequence[RunResult]) -> Report:
    """Accuracy by subject or level, in the benchmarks that have them.

    Args:
        results: one run or several, one column each.

    Returns:
        A table without rows where no benchmark has groups.

    Raises:
        ValueError: no run, or two of the same name and grader.
    """
    names = run_names(results)
    rows = []
    for benchmark in benchmarks_of(results):
        found = [find(run, benchmark) for run in results]
        for group in dict.fromkeys(group for one in found if one for group in one.groups):
            cells = [
                Named(f"avg@{one.samples}", interval(one.groups[group]))
                if one and group in one.groups
                else None
                for one in found
            ]
            rows.append([benchmark, group, *row_of_named(cells)])
    columns = ("benchmark", "group", "figure", *(f">{name}" for name in names))
    remark = "Per cent right, in brackets the 95 % interval, problems resampled."
    return visible_table(Report("Accuracy by group", columns, rows, remark))


def passes_table(results: Sequence[RunResult]) -> Report:
    """Estimates of pass@j and maj@j for j = 1, 2, 4, … k.

    Args:
        results: one run or several, below each other in each benchmark.

    Returns:
        A table without rows where no benchmark has more than one sample a problem.

    Raises:
        ValueError: no run, or two of the same name and grader.
    """
    names = run_names(results)
    found = [pair for pair in by_benchmark(results, names) if pair.result.samples > 1]
    passes = sorted({j for _, result in found for j in result.passes})
    majorities = sorted({j for _, result in found for j in result.majorities})
    rows = [
        [
            result.benchmark,
            *([name] if len(names) > 1 else []),
            *(percent(result.passes.get(j)) for j in passes),
            *(percent(result.majorities.get(j)) for j in majorities),
        ]
        for name, result in found
    ]
    columns = (
        *("benchmark", *(["run"] if len(names) > 1 else [])),
        *(f">pass@{j}" for j in passes),
        *(f">maj@{j}" for j in majorities),
    )
    remark = (
        "Per cent. pass@j: at least one of j samples is right; maj@j: the most frequent answer of "
        "j samples is right, answers counted as one where they are equivalent."
    )
    return visible_table(
        Report("One of many samples right, and the majority", columns, rows, remark)
    )


def differences_table(differences: Sequence[Difference]) -> Report:
    """Differences in points between runs, paired by problem.

    Args:
        differences: in the order of the rows.

    Returns:
        A table without rows where there are no differences.
    """
    references = list(dict.fromkeys(one.reference for one in differences))
    against = [] if len(references) == 1 else ["against"]
    rows = [
        [
            *(one.run, *([one.reference] if against else []), one.benchmark),
            f"{one.problems:,}",
            points(one.difference),
            probability(one.p),
            "" if one.p_holm is None else _marked(one.p_holm),
        ]
        for one in differences
    ]
    columns = ("run", *against, "benchmark", ">n", ">points [95 %]", ">p", ">Holm p")
    remark = (
        "Points of accuracy, paired by problem; p: permutation test; Holm p: corrected for the "
        f"number of benchmarks; *: Holm p below {SIGNIFICANT_BELOW}."
    )
    whom = f" from {references[0]}" if len(references) == 1 else ""
    return visible_table(Report(f"Difference{whom}", columns, rows, remark))


def _marked(p_holm: float) -> str:
    # The blank keeps the figures of marked and other rows below each other.
    return f"{probability(p_holm)} {'*' if p_holm < SIGNIFICANT_BELOW else ' '}"


def _single(run: RunResult) -> Report:
    benchmarks = run.benchmarks
    many = [one.samples > 1 for one in benchmarks]
    named: list[list[Named | None]] = [
        [Named(f"avg@{one.samples}", interval(one.accuracy)) for one in benchmarks],
        [at_k("pass", one.passes, one.samples) for one in benchmarks],
        [at_k("maj", one.majorities, one.samples) for one in benchmarks],
    ]
    columns = [named_column(cells) for cells in (named if any(many) else named[:1])]
    columns[0] = (f"{columns[0][0]} [95 %]", columns[0][1])
    plain: list[tuple[str, Callable[[BenchmarkResult], str]]] = [
        ("mean tokens", lambda one: tokens(one.lengths["all"].mean)),
        ("truncated %", lambda one: rate(one.rates.get("truncated"))),
        ("no answer %", lambda one: rate(one.rates.get("no_answer"))),
        ("other %", lambda one: rate(sum(one.rates.get(name, 0) for name in _FAILURES))),
    ]
    if any(one.coverage < 1 for one in benchmarks):
        plain.insert(0, ("there %", lambda one: f"{100 * one.coverage:.1f}"))
    columns += [(heading, [cell(one) for one in benchmarks]) for heading, cell in plain]
    rows = [
        [one.benchmark, f"{one.problems:,} {_TIMES} {one.samples}", *(c[i] for _, c in columns)]
        for i, one in enumerate(benchmarks)
    ]
    if run.average is not None:
        rows.append([AVERAGE, "", interval(run.average), *("" for _ in columns[1:])])
    headings = ("benchmark", f">n {_TIMES} k", *(f">{heading}" for heading, _ in columns))
    return visible_table(
        Report(
            f"Accuracy of {run.name}, graded by {run.grader}", headings, rows, _single_remark(run)
        )
    )


def _single_remark(run: RunResult) -> str:
    remark = (
        f"Per cent; n problems {_TIMES} k samples; brackets: 95 % interval, problems resampled."
    )
    if any(one.coverage < 1 for one in run.benchmarks):
        remark += " Samples are missing: `there` is the share of the planned ones."
    return f"{remark} {_OTHER}"


def _several(results: Sequence[RunResult], names: Sequence[str]) -> Report:
    rows = []
    for benchmark in benchmarks_of(results):
        found = [find(run, benchmark) for run in results]
        cells = [
            Named(f"avg@{one.samples}", interval(one.accuracy)) if one else None for one in found
        ]
        counts = dict.fromkeys(f"{one.problems:,}" for one in found if one)
        figure, *figures = row_of_named(cells)
        rows.append([benchmark, figure, " / ".join(counts), *figures])
    if any(run.average for run in results):
        averages = [NONE if run.average is None else interval(run.average) for run in results]
        rows.append([AVERAGE, "", "", *averages])
    graders = {run.grader for run in results}
    graded = f", graded by {results[0].grader}" if len(graders) == 1 else ""
    columns = ("benchmark", "figure", ">n", *(f">{name}" for name in names))
    return visible_table(Report(f"Accuracy{graded}", columns, rows, _several_remark(results)))


def _several_remark(results: Sequence[RunResult]) -> str:
    remark = "Per cent right; n problems; brackets: 95 % interval, problems resampled."
    if len({tuple(sorted(one.benchmark for one in run.benchmarks)) for run in results}) > 1:
        remark += " Not all runs were asked the same benchmarks: their averages do not compare."
    if len({run.grader for run in results}) > 1:
        remark += " Graders differ: a difference may be the grader's."
    if any(one.coverage < 1 for run in results for one in run.benchmarks):
        remark += " Samples are missing in some of them."
    return remark
