"""The documentation says what the code does: links, names, recipes, commands, examples.

`test_docs_configuration` looks at the configuration page.
"""

import importlib.util
import re
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from mifo_ext import cli
from mifo_ext.adapters.checks_rl import GROUP_ESTIMATORS
from mifo_ext.core import importance, tokens
from mifo_ext.hydra_plugin import names
from tests.support.pages import anchors, blocks, commands, defined_in, flat, links, rows
from tests.support.runs import ROOT, configuration, file_of

PAGES = sorted([*ROOT.glob("docs/**/*.md"), *ROOT.glob("recipe/**/*.md"), ROOT / "README.md"])
RECIPES = names("recipe")
EXTENDING = (ROOT / "docs/extending.md").read_text(encoding="utf-8")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def training_commands() -> list[list[str]]:
    """Overrides of every training command, without the flags that only show the configuration."""
    found = [words for page in PAGES for words in commands(page, "python -m verl.trainer.main_ppo")]
    return [[word for word in words if re.match(r"[+\w.]+(@\w+)?=", word)] for words in found]


@cache
def loaded(path: str) -> ModuleType:
    """A script, as a module."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[Path(path).stem] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_somewhere(page: Path) -> None:
    for text, path, anchor in links(page):
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"[{text}]({path}) leads nowhere"
        if anchor:
            assert anchor in anchors(target), f"[{text}]({path}#{anchor}): no such heading"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_function_and_test_named_beside_a_file_is_in_it(page: Path) -> None:
    for text, path, _ in links(page):
        if path.endswith(".py") and text.startswith("`"):
            assert text.strip("`") in defined_in((page.parent / path).resolve()), f"{text}: {path}"


def test_the_decisions_are_numbered_without_a_gap() -> None:
    text = (ROOT / "docs/method.md").read_text(encoding="utf-8")
    numbers = [int(n) for n in re.findall(r"^(\d+)\. \*\*", text, flags=re.M)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) >= 20


def test_every_recipe_has_its_page_and_its_row_and_no_other_has() -> None:
    folders = sorted(path.parent.name for path in (ROOT / "recipe").glob("*/README.md"))
    table = (ROOT / "recipe/README.md").read_text(encoding="utf-8")
    assert folders == RECIPES
    assert sorted(re.findall(r"^\| \[(\w+)\]\(\1/README\.md\)", table, flags=re.M)) == RECIPES
    assert set(re.findall(r"\+recipe=(\w+)`", table)) == set(RECIPES)


def test_results_in_the_table_of_recipes_are_those_that_were_measured() -> None:
    script = loaded("scripts/recipe_pages.py")
    table = (ROOT / "recipe/README.md").read_text(encoding="utf-8")
    assert script.with_row_results(table) == table, "recipe/README.md is stale: run `make pages`"
    measured = set(script.results().accuracy) - {"before training"}
    assert {"grpo", "mifo", "sft_then_rl"} <= measured <= set(RECIPES)
    assert table.count("| not measured yet |") == len(RECIPES) - len(measured)


def test_the_recipes_page_says_which_algorithms_groups_with_a_demonstration_take() -> None:
    page = (ROOT / "recipe/README.md").read_text(encoding="utf-8")
    (*_, written), *_ = rows(page, header="| word |")
    estimators = {word: file_of("rl", word)["algorithm"]["adv_estimator"] for word in names("rl")}
    usable = {word for word, estimator in estimators.items() if estimator in GROUP_ESTIMATORS}
    assert set(written.split(", ")) == usable


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_pages_tables_are_those_of_its_configuration(recipe: str) -> None:
    script = loaded("scripts/recipe_pages.py")
    page = script.page_of(recipe)
    text = page.read_text(encoding="utf-8")
    assert script.with_tables(text, recipe) == text, f"{name_of(page)} is stale: run `make pages`"


def test_a_page_has_the_settings_and_where_they_differ_from_the_parents() -> None:
    script = loaded("scripts/recipe_pages.py")
    assert script.differences("mifo_no_history") == [
        ["interleave.recipe", "mifo", "mifo_no_history"],
        ["interleave.hold.decay", "0.5", "0.0"],
    ]
    # The first recipe's parent is verl; of a group's file the keys count as its own.
    first = {key: values for key, *values in script.differences("grpo")}
    assert first["actor_rollout_ref.rollout.n"] == ["1", "8"]
    assert first["algorithm.adv_estimator"] == ["gae", "grpo"]
    assert "algorithm.use_kl_in_reward" not in first
    shown_there = {key: values for key, *values in script.settings("relift")}
    assert shown_there["interleave.buffer_size"] == ["128", "128"]
    assert shown_there["actor_rollout_ref.model.path"][1] == "models/qwen2.5-math-7b-16k"
    assert "interleave.sft.clip_norm" not in shown_there


def test_making_tables_leaves_the_prose_alone_and_mends_what_is_stale() -> None:
    script = loaded("scripts/recipe_pages.py")
    text = script.page_of("mifo_no_history").read_text(encoding="utf-8")
    stale = text.replace("| `interleave.hold.decay` | `0.5` | `0.0` |\n", "")
    assert stale != text
    assert script.with_tables(stale, "mifo_no_history") == text
    with pytest.raises(ValueError, match="must have a table below `## Difference from mifo`"):
        script.with_tables(text.replace("## Difference", "## Differences"), "mifo_no_history")


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipes_script_is_the_command_and_passes_words_on(recipe: str) -> None:
    script = ROOT / f"recipe/{recipe}/run.sh"
    lines = [line for line in script.read_text(encoding="utf-8").splitlines() if line]
    command = " ".join(line.strip(" \\") for line in lines if not line.startswith("#"))
    assert command == (f'set -euo pipefail python -m verl.trainer.main_ppo +recipe={recipe} "$@"')
    assert script.stat().st_mode & 0o111


def test_every_training_command_composes() -> None:
    wanted = [words for words in training_commands() if not {"NAME", "my_recipe"} & names_in(words)]
    assert len(wanted) >= 10
    for words in wanted:
        assert configuration(*words)["trainer"]["v1"]["trainer_mode"] == "interleaved", words


def names_in(words: list[str]) -> set[str]:
    return {word.partition("=")[2] for word in words}


def test_the_recipe_of_extending_is_found_in_its_own_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my/recipe").mkdir(parents=True)
    (tmp_path / "my/recipe/my_recipe.yaml").write_text(blocks(EXTENDING, "yaml")[0])
    monkeypatch.chdir(tmp_path)
    own = [words for words in training_commands() if "my_recipe" in names_in(words)]
    assert len(own) == 2
    for words in own:
        node = configuration(*words)["interleave"]
        assert [node["recipe"], node["hold"]["fraction"]] == ["my_recipe", 0.25]
        assert node["sft"]["tokens"] == "high_entropy"


def test_an_rl_algorithm_of_ones_own_is_found_beside_the_recipes(tmp_path: Path) -> None:
    said = {
        "algorithm.adv_estimator": "rloo",
        "actor_rollout_ref.actor.policy_loss.loss_mode": "gspo",
    }
    assert all(f"`{key}`" in EXTENDING for key in said)
    (tmp_path / "rl").mkdir()
    text = OmegaConf.to_yaml(OmegaConf.from_dotlist([f"{k}={v}" for k, v in said.items()]))
    (tmp_path / "rl/my_rl.yaml").write_text(f"# @package _global_\n{text}")
    where = f"hydra.searchpath=[file://{tmp_path}]"

    for recipe in ("mifo", "luffy"):
        values = flat(configuration(f"+recipe={recipe}", "rl=my_rl", where))
        assert said.items() <= values.items()
        # verl's, not those of the algorithm that it replaces.
        assert values["actor_rollout_ref.actor.loss_agg_mode"] == "token-mean"
        assert values["actor_rollout_ref.actor.clip_ratio"] == 0.2


def test_every_mifo_command_is_understood() -> None:
    found = [words for page in PAGES for words in commands(page, "mifo")]
    complete = [words for words in found if len(words) > 2]
    assert len(complete) >= 4
    for words in complete:
        if words[0] != "report":
            cli.parser().parse_args(words)


def test_the_examples_of_extending_work() -> None:
    ranking, rule = blocks(EXTENDING, "python")
    space: dict[str, Any] = dict(vars(importance))
    exec(ranking, space)
    keys = space["_moved_relatively"](
        importance.Chunk("w", 0, torch.tensor([0.1, 0.1, 0.0]), torch.tensor([1.0, -0.1, 1.0])), 0
    )
    assert keys[1] > keys[0] > keys[2] == 0
    space = dict(vars(tokens))
    exec("\n".join(line.removeprefix("   ") for line in rule.splitlines()), space)
    response = torch.tensor([False, True, True, True, False, True])
    kept = space["first_mask_packed"](response, torch.tensor([0, 4, 6]), fraction=0.5)
    assert kept.tolist() == [False, True, True, False, False, True]


@pytest.mark.slow
def test_the_measured_gap_is_what_the_script_measures() -> None:
    script = loaded("benchmarks/gradient_mask_gap.py")
    text = (ROOT / "docs/results/gradient_mask_gap.md").read_text(encoding="utf-8")
    cases = {
        (case.mode, case.moments, f"{case.weight_decay:g}", str(case.sft_steps), f"{case.lr:g}")
        for case in script.cases()
    }
    written = {
        tuple(cell.strip("`") for cell in row[:5]): row for row in rows(text, header="| hold |")
    }
    assert written.keys() == cases
    for mode, moments in (("gradient_mask", "own"), ("gradient_mask", "shared"), ("exact", "own")):
        case = script.Case(mode, moments, 0.01, 1, 1e-6)
        moved = script.run(case, seed=0, intervals=10, rl_steps=10)
        later = [100 * one.held / one.live for one in moved[1:]]
        committed = float(written[mode, moments, "0.01", "1", "1e-06"][6].split()[0])
        assert sum(later) / len(later) == pytest.approx(committed, abs=5)
