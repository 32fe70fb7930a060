"""Keep what a comparison on the embedded world measured: numbers, tables and figure of the docs.

    make demo-compare SEEDS="0 1 2"
    python benchmarks/demo_compare.py [--runs runs/compare] [--name demo_compare]

Writes docs/results/NAME/<run>/metrics.jsonl (the numbers), docs/results/NAME.md (the tables) and
docs/figures/NAME.png. Without a folder of runs, the tables and the figure are made again from the
numbers that are kept.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

from mifo_ext.report_compare import comparison, comparison_picture, comparison_tables
from mifo_ext.report_read import Run, read_run
from mifo_ext.report_recipes import ROWS_FROM, recipes_picture, recipes_tables
from mifo_ext.report_tables import Report

DOCS = Path(__file__).parents[1] / "docs"
KEPT = ("val-core/", "val-aux/", "interleave/", "timing_s/", "critic/score/mean")
QUESTIONS = "/questions"


def keep_numbers(runs: Path, numbers: Path) -> None:
    """Copy the runs' metrics, without the many that no table or figure needs."""
    shutil.rmtree(numbers, ignore_errors=True)
    for folder in sorted(path for path in runs.iterdir() if (path / "metrics.jsonl").exists()):
        kept = numbers / folder.name / "metrics.jsonl"
        kept.parent.mkdir(parents=True)
        # A run that was interrupted has earlier files; of a step done twice the later entry counts.
        steps: dict[int, dict[str, float]] = {}
        for file in [*sorted(folder.glob("metrics-*.jsonl")), folder / "metrics.jsonl"]:
            for line in file.read_text().splitlines():
                entry = json.loads(line)
                data = {key: value for key, value in entry["data"].items() if wanted(key)}
                steps.setdefault(entry["step"], {}).update(data)
        lines = [json.dumps({"step": step, "data": steps[step]}) for step in sorted(steps)]
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
    parser.add_argument("--name", default="demo_compare")
    arguments = parser.parse_args()
    name, numbers = arguments.name, DOCS / "results" / arguments.name
    if arguments.runs is not None:
        keep_numbers(arguments.runs, numbers)
    # GRPO last: it is what the others are compared with.
    order = sorted(numbers.iterdir(), key=lambda path: (path.name.startswith("grpo"), path.name))
    runs = [read_run(folder) for folder in order]
    compared = comparison(runs)
    figure = DOCS / "figures" / f"{name}.png"
    figure.parent.mkdir(parents=True, exist_ok=True)
    many = len(compared.recipes) >= ROWS_FROM
    (recipes_picture if many else comparison_picture)(compared, figure)
    tables = recipes_tables(compared) if many else comparison_tables(compared)
    tables = [*tables, intervals_table(runs)]
    seeds = sorted({run.seed for run in runs if run.seed is not None})
    head = heading(name, recipes=compared.recipes, seeds=" ".join(map(str, seeds)))
    (DOCS / "results" / f"{name}.md").write_text(head + "\n".join(map(in_markdown, tables)))


def heading(name: str, *, recipes: list[str], seeds: str) -> str:
    """What stands above the tables: the commands, what was measured, the figure."""
    *others, reference = recipes
    words = "" if recipes == ["mifo", "grpo"] else f'RECIPES="{" ".join(recipes)}" '
    uneven = " Not every recipe was run with every seed." if len(recipes) >= ROWS_FROM else ""
    option = "" if name == "demo_compare" else f" --name {name}"
    title = f"{', '.join(others)} beside {reference}" if len(others) < ROWS_FROM else "All recipes"
    return (
        f"# {title} on the embedded world\n\n"
        f'```bash\nmake demo-compare {words}SEEDS="{seeds}"\n'
        f"python benchmarks/demo_compare.py --runs runs/compare{option}\n```\n\n"
        "Accuracy on 800 held-out questions, none of which stands in the training data; so none\n"
        "was ever a demonstration. `code` is the skill that the schooling never showed. The\n"
        f"numbers are in [{name}]({name}).{uneven}\n\n"
        f"![Accuracy over training](../figures/{name}.png)\n\n"
    )


if __name__ == "__main__":
    main()
