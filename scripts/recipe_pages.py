"""Writes the tables of every recipe's page anew, from configurations and from what was measured.

    PYTHONPATH=. python scripts/recipe_pages.py

Settings and differences come from the composed configurations; results, and the last column of
recipe/README.md, from docs/results/recipes.md. Everything else is prose, and stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mifo_ext.hydra_plugin import names
from tests.support.pages import NOT_THERE, flat, shown
from tests.support.runs import ROOT, configuration, file_of, parent_of

SCALES = ("math_1p5b", "math_7b")
"""The paper's."""

SETTINGS = "Settings at 1.5B and 7B"
VERLS_DEFAULTS = "verl's defaults"
VERLS_KEYS = [
    "actor_rollout_ref.model.path",
    "data.train_files",
    "data.train_batch_size",
    "actor_rollout_ref.rollout.n",
    "actor_rollout_ref.rollout.temperature",
    "actor_rollout_ref.actor.ppo_mini_batch_size",
    "data.max_prompt_length",
    "data.max_response_length",
    "algorithm.adv_estimator",
    "algorithm.norm_adv_by_std_in_grpo",
    "actor_rollout_ref.actor.clip_ratio",
    "actor_rollout_ref.actor.loss_agg_mode",
    "actor_rollout_ref.actor.entropy_coeff",
    "actor_rollout_ref.actor.optim.lr",
    "actor_rollout_ref.actor.optim.weight_decay",
    "actor_rollout_ref.actor.optim.clip_grad",
    "trainer.total_epochs",
    "trainer.n_gpus_per_node",
]
"""verl's keys that a page shows, in its order; of the recipe's own node all that say something."""

UNREAD = {
    "rl": ["interleave.sft."],
    "intervals": [],
    "phases": ["interleave.sft.epochs"],
    "mixed": ["interleave.sft."],
}
"""A scale gives every recipe its SFT batches: what a kind does not read of them."""

RESULTS = "On the embedded world"
MEASURED = ROOT / "docs/results/recipes.md"
REFERENCE = "grpo"
NOT_MEASURED = "not measured yet"

Row = Sequence[str]


class Results(NamedTuple):
    """What docs/results/recipes.md says.

    Attributes:
        bands: names of the columns of accuracy.
        accuracy: by recipe, and "before training": seeds, demonstrations, per cent by band.
        difference: by recipe: points by band, with their interval.
    """

    bands: list[str]
    accuracy: dict[str, list[str]]
    difference: dict[str, list[str]]


def page_of(recipe: str) -> Path:
    """Where a recipe is described."""
    return ROOT / "recipe" / recipe / "README.md"


def with_tables(text: str, recipe: str) -> str:
    """A page's text with its tables as the configurations are now.

    Raises:
        ValueError: if the page has not the headings, or no table below one of them.
    """
    parent = parent_of(recipe)
    difference = f"Difference from {parent or VERLS_DEFAULTS}"
    text = with_results(text, recipe)
    text = _replaced(text, SETTINGS, ["key", *SCALES], settings(recipe))
    return _replaced(text, difference, ["key", parent or "verl", recipe], differences(recipe))


def results() -> Results:
    """Read the two tables of docs/results/recipes.md."""
    text = MEASURED.read_text(encoding="utf-8")
    accuracy, difference = (
        [line.strip("| ").split(" | ") for line in part.splitlines() if line.startswith("| ")]
        for part in re.split(r"^## ", text, flags=re.M)[1:3]
    )
    # Rows are: heading, rule, and one for each recipe.
    return Results(
        bands=accuracy[0][3:],
        accuracy={row[0]: [cell.strip() for cell in row[1:]] for row in accuracy[2:]},
        difference={row[0]: row[1:] for row in difference[2:]},
    )


def with_results(text: str, recipe: str) -> str:
    """A page's text with what was measured as it is now; what stands below the table stays."""
    heading = rf"^## {re.escape(RESULTS)}\n\n"
    measured = r"(?:Not measured yet\.\n|(?:[^|#\n].*\n)+\n(?:\|.*\n)+)"
    found = re.search(heading + measured, text, flags=re.M)
    if found is None:
        raise ValueError(f"The page must have results below `## {RESULTS}`, but has none.")
    made = f"## {RESULTS}\n\n{_section(recipe)}"
    return text[: found.start()] + made + text[found.end() :]


def _section(recipe: str) -> str:
    measured = results()
    if recipe not in measured.accuracy:
        return f"{NOT_MEASURED.capitalize()}.\n"
    seeds, used, *after = measured.accuracy[recipe]
    start, reference = (measured.accuracy[name][2:] for name in ("before training", REFERENCE))
    columns = ["questions", "before", recipe]
    cells = [measured.bands, start, after]
    if recipe != REFERENCE:
        columns += [REFERENCE, "difference"]
        cells += [reference, measured.difference[recipe]]
    rows = "".join(f"| {' | '.join(row)} |\n" for row in zip(*cells, strict=True))
    times = "1 seed" if seeds == "1" else f"{seeds} seeds"
    return (
        f"{times} of 40 steps on two cores, {used} demonstrations; per cent right of 800 held-out "
        "questions, and points with\ntheir 95 % interval. What the intervals hold, and all "
        "recipes: [docs/results/recipes.md](../../docs/results/recipes.md).\n\n"
        f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}\n{rows}"
    )


def with_row_results(text: str) -> str:
    """The text of recipe/README.md with its last column as it is now."""
    measured = results()
    start = measured.accuracy["before training"][2]
    for recipe in names("recipe"):
        said = NOT_MEASURED
        if recipe in measured.accuracy:
            seeds, _, code, *_ = measured.accuracy[recipe]
            said = f"`code` {start} → {code} % ({seeds} seed{'s' * (seeds != '1')})"
        text = re.sub(rf"(\+recipe={recipe}` \| )[^|\n]* \|$", rf"\g<1>{said} |", text, flags=re.M)
    return text


def settings(recipe: str) -> list[Row]:
    """What a recipe sets at the paper's scales: key, and value at each."""
    values = [flat(configuration(f"+recipe={recipe}", f"scale={scale}")) for scale in SCALES]
    keys = [*VERLS_KEYS, *_own_keys(values[0])]
    return [[key, *(shown(one, key) for one in values)] for key in keys]


def _own_keys(values: dict[str, Any]) -> list[str]:
    """Keys of the recipe's node that it reads; what is null or a reference says nothing."""
    unread = ("interleave.recipe", *UNREAD[values["interleave.kind"]])
    return [
        key
        for key in sorted(values, key=_place)
        if key.startswith("interleave.")
        and not key.startswith(unread)
        and values[key] is not None
        and "${" not in str(values[key])
    ]


def _place(key: str) -> int:
    """Order verl's keys first, then the recipe's node, its outer keys before the nested ones."""
    return key.count(".") if key.startswith("interleave.") else 0


def differences(recipe: str) -> list[Row]:
    """Where a recipe differs from its parent: key, the parent's value, its own."""
    parent = parent_of(recipe)
    if parent is None:
        before, after = flat(configuration()), _said(recipe)
        before = {key: value for key, value in before.items() if key in after}
    else:
        before, after = (flat(configuration(f"+recipe={name}")) for name in (parent, recipe))
    keys = sorted([*after, *(key for key in before if key not in after)], key=_place)
    rows = [[key, shown(before, key), shown(after, key)] for key in keys]
    return [row for row in rows if row[1] != row[2]]


def _said(recipe: str) -> dict[str, Any]:
    """What a recipe's file and its groups' files say, the scale's left out."""
    source = file_of("recipe", recipe)
    chosen = [one for one in source.pop("defaults") if isinstance(one, dict)]
    groups = {key.strip("/"): name for one in chosen for key, name in one.items()}
    groups.pop("scale")
    files = [*(file_of(group, name) for group, name in groups.items()), source]
    return {key: value for file in files for key, value in flat(file).items()}


def _replaced(text: str, heading: str, columns: Row, rows: Iterable[Row]) -> str:
    """Put a table in the place of the first one below a heading."""
    head = f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}\n"
    body = "".join(f"| {' | '.join(map(_cell, row))} |\n" for row in rows)
    pattern = rf"(^## {re.escape(heading)}\n(?:(?!\||## ).*\n)*)((?:\|.*\n)+)"
    found = re.search(pattern, text, flags=re.M)
    if found is None:
        raise ValueError(f"The page must have a table below `## {heading}`, but has none.")
    return text[: found.start(2)] + head + body + text[found.end(2) :]


def _cell(value: str) -> str:
    return value if value == NOT_THERE else f"`{value}`"


def main() -> None:
    """Write what has changed."""
    table = ROOT / "recipe/README.md"
    table.write_text(with_row_results(table.read_text(encoding="utf-8")), encoding="utf-8")
    for recipe in names("recipe"):
        page = page_of(recipe)
        text = page.read_text(encoding="utf-8")
        if (made := with_tables(text, recipe)) != text:
            page.write_text(made, encoding="utf-8")
            print(f"{page.relative_to(ROOT)} is written anew")


if __name__ == "__main__":
    main()
