"""Keep what `make demo-compare SEEDS="0 1 2"` measured: numbers, table and figure of the docs.

    python benchmarks/demo_compare.py [--runs runs/compare]

Writes docs/results/demo_compare/<run>/metrics.jsonl (the numbers), docs/results/demo_compare.md
(the tables) and docs/figures/demo_compare.png. Without a folder of runs, the tables and the figure
are made again from the numbers that are kept.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from mifo_ext.report_compare import comparison, comparison_picture, comparison_tables
from mifo_ext.report_read import Run, read_run
from mifo_ext.report_tables import Report

DOCS = Path(__file__).parents[1] / "docs"
NUMBERS = DOCS / "results" / "demo_compare"
PAGE = DOCS / "results" / "demo_compare.md"
FIGURE = DOCS / "figures" / "demo_compare.png"
KEPT = ("val-core/", "val-aux/", "interleave/", "timing_s/", "critic/score/mean")
QUESTIONS = "/questions"


def keep_numbers(runs: Path) -> None:
    """Copy the runs' metrics, without the many that no table or figure needs."""
    shutil.rmtree(NUMBERS, ignore_errors=True)
    for folder in sorted(path for path in runs.iterdir() if (path / "metrics.jsonl").exists()):
        kept = NUMBERS / folder.name / "metrics.jsonl"
        kept.parent.mkdir(parents=True)
        lines = []
        for line in (folder / "metrics.jsonl").read_text().splitlines():
            entry = json.loads(line)
            data = {key: value for key, value in entry["data"].items() if wanted(key)}
            lines.append(json.dumps({"step": entry["step"], "data": data}))
        kept.write_text("\n".join(lines) + "\n")


def wanted(key: str) -> bool:
    """Whether a metric is kept."""
    return key.startswith(KEPT) and (not key.startswith("val-aux/") or key.endswith(QUESTIONS))


def in_markdown(table: Report) -> str:
    """A table as GitHub shows it."""
    heads = [column.lstrip(">") for column in table.columns]
    marks = ["---:" if column.startswith(">") else "---" for column in table.columns]
    rows = [heads, marks, *table.rows]
    lines = ["| " + " | ".join(cell or " " for cell in row) + " |" for row in rows]
    return "\n".join([f"## {table.title}", "", *lines, "", table.remark.strip(), ""])


def intervals_table(runs: list[Run]) -> Report:
    """What each run used."""
    rows = []
    for run in runs:
        last = run.metrics[run.last_step]
        held = run.curve("interleave/hold/held_fraction").values
        seconds = [
            entry["timing_s/step"] for entry in run.metrics.values() if "timing_s/step" in entry
        ]
        rows.append(
            [
                f"{run.recipe}, seed {run.seed}",
                str(run.last_step),
                f"{sum(run.curve('interleave/outcomes/questions').values):.0f}",
                f"{last.get('interleave/samples/sft', 0):.0f}",
                str(len(run.flushes)),
                f"{sum(held) / len(held):.0%}" if held else "none",
                f"{sorted(seconds)[len(seconds) // 2]:.1f}",
            ]
        )
    columns = [
        "run", ">steps", ">questions to RL", ">demonstrations", ">SFT intervals", ">held",
        ">seconds a step (median)",
    ]  # fmt: skip
    remark = "Two cores without an accelerator, which other work shared: times are no benchmark."
    return Report("What the runs used", columns, rows, remark)


def main() -> None:
    """Write numbers, page and figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path, default=None)
    runs_folder = parser.parse_args().runs
    if runs_folder is not None:
        keep_numbers(runs_folder)
    order = sorted(NUMBERS.iterdir(), key=lambda path: (path.name.startswith("grpo"), path.name))
    runs = [read_run(folder) for folder in order]
    compared = comparison(runs)
    FIGURE.parent.mkdir(parents=True, exist_ok=True)
    comparison_picture(compared, FIGURE)
    tables = [*comparison_tables(compared), intervals_table(runs)]
    seeds = " ".join(
        str(seed) for seed in sorted({run.seed for run in runs if run.seed is not None})
    )
    head = (
        "# MIFO beside GRPO on the embedded world\n\n"
        f'```bash\nmake demo-compare SEEDS="{seeds}"\npython benchmarks/demo_compare.py --runs '
        "runs/compare\n```\n\n"
        "Accuracy on 800 held-out questions, none of which stands in the training data; so none\n"
        "was ever in the buffer. `code` is the skill that the schooling never showed. The numbers\n"
        "are in [demo_compare](demo_compare).\n\n"
        "![Accuracy over training](../figures/demo_compare.png)\n\n"
    )
    PAGE.write_text(head + "\n".join(map(in_markdown, tables)))


if __name__ == "__main__":
    main()
