"""`python -m verl.trainer.main_ppo +recipe=mifo` works as it stands, or ends with a sentence."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hydra._internal.config_search_path_impl import ConfigSearchPathImpl
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin

from mifo_ext import hydra_plugin
from mifo_ext.command_line import recipe_asked_for

MAIN = [sys.executable, "-m", "verl.trainer.main_ppo"]

# Found before the installed package: one of its modules that cannot be imported.
BROKEN = """
import sys
sys.modules["mifo_ext.hydra_plugin"] = None
"""


def command(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    known = {k: v for k, v in os.environ.items() if not k.startswith(("VERL_", "MIFO_"))}
    return subprocess.run(
        [*MAIN, *words],
        env={**known, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        (["+recipe=mifo"], True),
        (["trainer.x=1", "recipe=mifo"], True),
        (["++recipe@_global_=mifo"], True),
        (["data.recipe=1"], False),
        (["trainer.project_name=recipe=mifo"], False),
        ([], False),
        (["--config-dir=mine", "+recipe=own"], False),
        (["+recipe=own", "hydra.searchpath=[file://mine]"], False),
    ],
)
def test_a_recipe_is_recognised_on_the_command_line(words: list[str], asked: bool) -> None:
    assert recipe_asked_for(words) is asked


def test_registering_twice_is_harmless() -> None:
    hydra_plugin.register()
    before = list(Plugins.instance().discover(SearchPathPlugin))
    hydra_plugin.register()

    assert Plugins.instance().discover(SearchPathPlugin) == before


def test_hydra_finds_the_guard_by_itself() -> None:
    modules = {plugin.__module__ for plugin in Plugins.instance().discover(SearchPathPlugin)}

    assert "hydra_plugins.mifo_ext_guard" in modules


def test_the_bare_command_composes_the_recipe_in_any_folder(tmp_path: Path) -> None:
    done = subprocess.run(
        [*MAIN, "+recipe=mifo", "--cfg", "job"],
        cwd=tmp_path,
        env={k: v for k, v in os.environ.items() if not k.startswith(("VERL_", "MIFO_"))},
        capture_output=True,
        text=True,
        timeout=120,
    )

    assert done.returncode == 0, done.stderr
    assert "trainer_mode: interleaved" in done.stdout
    assert "entries: moved_most" in done.stdout


def test_a_plugin_that_cannot_be_loaded_ends_a_recipe_and_disturbs_nothing_else(
    tmp_path: Path,
) -> None:
    (tmp_path / "sitecustomize.py").write_text(BROKEN)

    with_recipe = command("+recipe=mifo", "--cfg", "job", PYTHONPATH=str(tmp_path))
    without = command("--cfg", "job", PYTHONPATH=str(tmp_path))

    assert with_recipe.returncode == 1
    assert "mifo: the recipe layer could not be loaded (" in with_recipe.stderr
    assert "Run `mifo doctor`" in with_recipe.stderr
    assert without.returncode == 0
    assert "trainer_mode: sync" in without.stdout


def test_with_verl_plugins_switched_off_a_recipe_ends() -> None:
    done = command("+recipe=mifo", "--cfg", "job", VERL_USE_EXTERNAL_PLUGINS="none")

    assert done.returncode == 1
    assert "verl did not load the recipe layer" in done.stderr
    assert "Unset VERL_USE_EXTERNAL_PLUGINS" in done.stderr


@pytest.mark.parametrize(
    ("modules", "words", "ends"),
    [
        ({"verl"}, ["+recipe=mifo"], True),
        ({"verl"}, ["trainer.nnodes=1"], False),
        ({"verl", "mifo_ext.plugin"}, ["+recipe=mifo"], False),
        (set(), ["+recipe=mifo"], False),
    ],
    ids=["not loaded", "no recipe", "loaded", "another Hydra app"],
)
def test_the_guard_ends_only_verl_runs_that_would_ignore_a_recipe(
    monkeypatch: pytest.MonkeyPatch, modules: set[str], words: list[str], ends: bool
) -> None:
    guard = next(
        plugin
        for plugin in Plugins.instance().discover(SearchPathPlugin)
        if plugin.__name__ == "RecipeGuard"
    )
    others = {k: v for k, v in sys.modules.items() if k not in ("verl", "mifo_ext.plugin")}
    monkeypatch.setattr(sys, "modules", {**others, **dict.fromkeys(modules)})
    monkeypatch.setattr(sys, "argv", ["main", *words])
    path = ConfigSearchPathImpl()

    if ends:
        with pytest.raises(SystemExit, match="plain PPO"):
            guard().manipulate_search_path(path)
    else:
        guard().manipulate_search_path(path)
    assert path.get_path() == []
