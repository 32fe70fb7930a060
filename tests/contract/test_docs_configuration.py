"""The configuration page has every setting, word and metric of the code, and no other."""

import ast
import fnmatch
import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import pytest

from mifo_ext.hydra_plugin import names
from mifo_ext.settings import IntervalSettings, PhasesSettings
from mifo_ext.settings_base import RecipeSettings
from mifo_ext.settings_demonstrations import DemonstrationSettings
from mifo_ext.settings_mixed import MixedSettings
from tests.support.pages import flat, rows, shown
from tests.support.runs import ROOT, configuration, file_of

RECIPES = names("recipe")
CONFIGURATION = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")


class Table(NamedTuple):
    """A table of the configuration page: the settings of one dataclass.

    Attributes:
        what: first cell of its header.
        kind: the dataclass.
        words: what stands over the columns of values, and the command line that it means.
        path: where the settings lie.
    """

    what: str
    kind: type
    words: dict[str, tuple[str, ...]]
    path: str = "interleave."

    @property
    def rows(self) -> list[list[str]]:
        return rows(CONFIGURATION, header=f"| {' | '.join([self.what, *self.words])} | values |")


def of(*recipes: str) -> dict[str, tuple[str, ...]]:
    return {recipe: (f"+recipe={recipe}",) for recipe in recipes}


TABLES = [
    Table("every recipe", RecipeSettings, of("mifo")),
    Table("intervals", IntervalSettings, of("mifo")),
    Table("phases", PhasesSettings, of("sft_then_rl")),
    Table("mixed", MixedSettings, of("luffy", "srft", "hpt", "chord")),
    Table(
        "demonstrations",
        DemonstrationSettings,
        {"demos=server": ("+recipe=mifo", "demos=server")},
        "interleave.demonstrations.",
    ),
]


def settings_in(table: Table) -> dict[str, Any]:
    """Types of the settings that a table has to have, by key."""
    others = {field.name for field in fields(RecipeSettings)} | {"demonstrations"}
    found = dict(leaves_of(table.kind))
    apart = set() if table.kind is RecipeSettings else others
    return {
        f"{table.path}{key}": kind
        for key, kind in found.items()
        if key.partition(".")[0] not in apart
    }


def leaves_of(kind: type, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Settings of a dataclass and of those in it, with their types."""
    for name, hint in get_type_hints(kind).items():
        inner = next((one for one in (hint, *get_args(hint)) if is_dataclass(one)), None)
        if isinstance(inner, type):
            yield from leaves_of(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", hint


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.what)
def test_the_configuration_page_has_every_setting_and_no_other(table: Table) -> None:
    assert sorted(row[0] for row in table.rows) == sorted(settings_in(table))


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.what)
def test_the_configuration_page_names_every_choice(table: Table) -> None:
    written = {row[0]: row[1 + len(table.words)] for row in table.rows}
    for key, kind in settings_in(table).items():
        if get_origin(kind) is Literal:
            assert tuple(written[key].split(", ")) == get_args(kind), key


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.what)
def test_the_configuration_page_shows_the_values_of_its_recipes(table: Table) -> None:
    for column, words in enumerate(table.words.values(), start=1):
        values = flat(configuration(*words, "scale=math_7b"))
        for row in table.rows:
            assert shown(values, row[0]) == row[column], row[0]


def test_the_configuration_page_says_which_kind_every_recipe_is() -> None:
    kinds = {recipe: configuration(f"+recipe={recipe}")["interleave"]["kind"] for recipe in RECIPES}
    written = {
        recipe: kind
        for kind, recipes, _ in rows(CONFIGURATION, header="| kind | recipes |")
        for recipe in recipes.split(", ")
    }
    assert written == kinds


@pytest.mark.parametrize("group", ["rl", "sft_loss", "demos"])
def test_the_configuration_page_has_every_word_of_a_group_and_no_other(group: str) -> None:
    words = re.findall(rf"^\| \[`(\w+)`\]\(\.\./configs/{group}/\1\.yaml\)", CONFIGURATION, re.M)
    assert sorted(words) == names(group)


def test_the_configuration_page_shows_what_an_rl_algorithm_sets() -> None:
    keys = [
        "algorithm.adv_estimator",
        "algorithm.norm_adv_by_std_in_grpo",
        "actor_rollout_ref.actor.clip_ratio",
        "actor_rollout_ref.actor.loss_agg_mode",
    ]
    columns = " | ".join(f"`{key.rpartition('.')[2]}`" for key in keys)
    written = rows(CONFIGURATION, header=f"| `rl=` | algorithm | {columns} |")
    assert len(written) == len(names("rl"))
    for link, _, *cells in written:
        values = flat(file_of("rl", link.split("`")[1]))
        assert cells == [shown(values, key) for key in keys], link


def logged_names() -> set[str]:
    """Metric names in the code, with * where a part is filled in."""
    found = set()
    for file in sorted((ROOT / "mifo_ext/adapters").glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            parts: list[Any] = node.values if isinstance(node, ast.JoinedStr) else [node]
            text = "".join(
                str(part.value) if isinstance(part, ast.Constant) else "*" for part in parts
            )
            if text.startswith(("interleave/", "val-aux/")) and not text.endswith(("/", "_")):
                found.add(text)
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "marked_timer":
                found.add(f"timing_s/{ast.literal_eval(node.args[0])}")
            # The losses that `mixed_loss` adds to verl's are logged under their names.
            if isinstance(node, ast.Subscript) and getattr(node.value, "id", "") == "terms":
                found.add(f"actor/{ast.literal_eval(node.slice)}")
    return found


def test_the_configuration_page_has_every_metric_and_no_other() -> None:
    written = [row[0] for row in rows(CONFIGURATION, header="| metric |")]
    code = logged_names()
    assert {name.partition("/")[0] for name in code} == {
        "interleave",
        "actor",
        "timing_s",
        "val-aux",
    }
    assert len(written) == len(set(written))
    assert [name for name in sorted(code) if not fnmatch.filter(written, name)] == []
    stray = {name for name in written if not any(fnmatch.fnmatch(name, known) for known in code)}
    assert stray == set()
