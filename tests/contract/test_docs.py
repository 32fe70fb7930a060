"""The documentation says what the code does: links, names, settings, metrics, recipes, commands."""

import ast
import fnmatch
import importlib.util
import re
import sys
from dataclasses import fields
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import pytest
import torch
import yaml
from omegaconf import OmegaConf

from mifo_ext import cli, settings
from mifo_ext.core import importance, tokens
from tests.support.pages import anchors, blocks, commands, defined_in, flat, links, rows, shown
from tests.support.runs import composed

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("docs/**/*.md"), *ROOT.glob("recipe/**/*.md"), ROOT / "README.md"])
RECIPES = sorted(path.stem for path in (ROOT / "configs/recipe").glob("*.yaml"))
PAPER_SCALES = ("math_1p5b", "math_7b")
CONFIGURATION = (ROOT / "docs/configuration.md").read_text(encoding="utf-8")
EXTENDING = (ROOT / "docs/extending.md").read_text(encoding="utf-8")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def training_commands() -> list[list[str]]:
    """Overrides of every training command, without the flags that only show the configuration."""
    found = [words for page in PAGES for words in commands(page, "python -m verl.trainer.main_ppo")]
    return [[word for word in words if re.match(r"[+\w.]+(@\w+)?=", word)] for words in found]


@cache
def configuration(*words: str) -> dict[str, Any]:
    """What verl is given, references unresolved, without Hydra's own part."""
    config = OmegaConf.to_container(composed(*words), resolve=False)
    assert isinstance(config, dict)
    return {str(key): value for key, value in config.items() if key != "hydra"}


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


def test_the_configuration_page_has_every_setting_and_no_other() -> None:
    groups = {
        "": settings.InterleaveSettings,
        "sft.": settings.SftSettings,
        "hold.": settings.HoldSettings,
    }
    known = {f"interleave.{p}{field.name}" for p, kind in groups.items() for field in fields(kind)}
    known -= {"interleave.sft", "interleave.hold"}
    written = [row[0] for row in rows(CONFIGURATION, header="| key | mifo")]
    assert sorted(written) == sorted(known)


def test_the_configuration_page_names_every_choice() -> None:
    choices = {row[0]: row[2] for row in rows(CONFIGURATION, header="| key | mifo")}
    for key, kind in {
        "sft.tokens": settings.Tokens,
        "sft.normalise": settings.Normalise,
        "sft.loss": settings.Loss,
        "sft.moments": settings.Moments,
        "hold.entries": settings.Entries,
        "hold.mode": settings.Mode,
    }.items():
        assert tuple(choices[f"interleave.{key}"].split(", ")) == get_args(kind)


def test_the_configuration_page_shows_mifos_values() -> None:
    values = flat(configuration("+recipe=mifo", "scale=math_7b"))
    for key, value, *_ in rows(CONFIGURATION, header="| key | mifo"):
        assert shown(values, key) == value, key


def logged_names() -> set[str]:
    """Metric names in the code, with * where a part is filled in."""
    names = set()
    for file in ("telemetry", "worker", "trainer"):
        source = (ROOT / f"mifo_ext/adapters/{file}.py").read_text(encoding="utf-8")
        for node in ast.walk(ast.parse(source)):
            parts: list[Any] = node.values if isinstance(node, ast.JoinedStr) else [node]
            text = "".join(
                str(part.value) if isinstance(part, ast.Constant) else "*" for part in parts
            )
            if text.startswith("interleave/") and not text.endswith(("/", "_")):
                names.add(text)
    return names


def test_the_configuration_page_has_every_metric_and_no_other() -> None:
    written = [row[0] for row in rows(CONFIGURATION, header="| metric |")]
    ours = {name for name in written if name.startswith("interleave/")}
    code = logged_names()
    assert len(written) == len(set(written))
    assert [name for name in sorted(code) if not fnmatch.filter(ours, name)] == []
    stray = {name for name in ours if not any(fnmatch.fnmatch(name, known) for known in code)}
    assert stray == set()


def test_every_recipe_has_its_page_and_its_row_and_no_other_has() -> None:
    folders = sorted(path.parent.name for path in (ROOT / "recipe").glob("*/README.md"))
    table = (ROOT / "recipe/README.md").read_text(encoding="utf-8")
    assert folders == RECIPES
    assert sorted(re.findall(r"^\| \[(\w+)\]\(\1/README\.md\)", table, flags=re.M)) == RECIPES
    assert set(re.findall(r"\+recipe=(\w+)`", table)) == set(RECIPES)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_page_lists_exactly_what_differs_from_the_parent(
    recipe: str,
) -> None:
    source = yaml.safe_load((ROOT / f"configs/recipe/{recipe}.yaml").read_text(encoding="utf-8"))
    defaults = source.pop("defaults")
    parent = defaults[0] if isinstance(defaults[0], str) else "verl"
    if parent == "verl":  # a scale lies between; what counts is what the file itself says
        before, after = flat(configuration()), flat(source)
    else:
        before, after = (
            flat(configuration(f"+recipe={parent}")),
            flat(configuration(f"+recipe={recipe}")),
        )
    keys = before.keys() & after.keys() if parent == "verl" else before.keys()
    differences = {
        key: [shown(before, key), shown(after, key)]
        for key in keys | after.keys()
        if shown(before, key) != shown(after, key)
    }
    page = (ROOT / f"recipe/{recipe}/README.md").read_text(encoding="utf-8")
    written = {row[0]: row[1:] for row in rows(page, header=f"| key | {parent} | {recipe} |")}
    assert written == differences


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_page_shows_the_settings_at_the_papers_scales(
    recipe: str,
) -> None:
    page = (ROOT / f"recipe/{recipe}/README.md").read_text(encoding="utf-8")
    values = [flat(configuration(f"+recipe={recipe}", f"scale={scale}")) for scale in PAPER_SCALES]
    written = rows(page, header=f"| key | {' | '.join(PAPER_SCALES)} |")
    assert len(written) > 10
    for key, *cells in written:
        assert cells == [shown(one, key) for one in values], key


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


def benchmark() -> ModuleType:
    file = ROOT / "benchmarks/gradient_mask_gap.py"
    spec = importlib.util.spec_from_file_location("gradient_mask_gap", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["gradient_mask_gap"] = module
    spec.loader.exec_module(module)
    return module


def test_the_measured_gap_is_what_the_script_measures() -> None:
    script = benchmark()
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
