"""What `mifo doctor` can only know through verl: plugin, recipes, trainer, platform, one run."""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Iterator, Sequence
from importlib.metadata import entry_points
from pathlib import Path

from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from mifo_ext import hydra_plugin
from mifo_ext.doctor import Check

PLUGIN = "mifo_ext.plugin"
TRAINER = "interleaved"


def examine(*, recipe: str, overrides: Sequence[str]) -> list[Check]:
    """Look at everything that needs verl; later checks build on earlier ones.

    Args:
        recipe: the run's recipe.
        overrides: further words of its command line.
    """
    plugin = plugin_check()
    if plugin.state == "fail":
        return [plugin]
    with warnings.catch_warnings():
        # verl says which of its other engines are not installed.
        warnings.simplefilter("ignore")
        checks = [plugin, *recipe_checks(), trainer_check(), *platform_checks()]
        return [*checks, *run_checks(recipe=recipe, overrides=overrides)]


def plugin_check() -> Check:
    """Whether verl finds our plugin, and loading it worked; verl itself hides such errors."""
    if not any(entry.module == PLUGIN for entry in entry_points(group="verl.plugins")):
        return Check("plugin", "fail", "verl finds no entry point", "pip install -e .")
    try:
        importlib.import_module("verl")
    except Exception as error:
        return Check("plugin", "fail", f"import verl: {error}", "Mend this error first.")
    if is_active():
        return Check("plugin", "ok", "mifo_ext, loaded by verl")
    try:
        importlib.import_module(PLUGIN)
    except Exception as error:
        found = f"{type(error).__name__}: {error}"
        return Check("plugin", "fail", found, "Mend this error first.")
    chosen = os.environ.get("VERL_USE_EXTERNAL_PLUGINS")
    found = f"installed, but not loaded (VERL_USE_EXTERNAL_PLUGINS={chosen})"
    return Check("plugin", "fail", found, "Unset the variable, or name mifo_ext in it.")


def is_active() -> bool:
    """Whether Hydra knows where our recipes lie."""
    return hydra_plugin.RecipeSearchPath in Plugins.instance().discover(SearchPathPlugin)


def recipe_checks() -> Iterator[Check]:
    """Whether the YAML files were installed with the package."""
    for group in ("recipe", "scale"):
        names = hydra_plugin.names(group)
        if names:
            yield Check(f"{group}s", "ok", ", ".join(names))
        else:
            yield Check(f"{group}s", "fail", "none installed", "pip install -e . (again)")


def trainer_check() -> Check:
    """Whether verl can be given our trainer."""
    try:
        importlib.import_module("mifo_ext.adapters.trainer")
        from verl.trainer.ppo.v1.trainer_base import get_trainer_cls

        trainer = get_trainer_cls(TRAINER)
    except Exception as error:
        return Check("trainer", "fail", f"{type(error).__name__}: {error}", "pip install -e .")
    return Check("trainer", "ok", f"{TRAINER}: {trainer.__name__}")


def platform_checks() -> Iterator[Check]:
    """Which device verl runs on."""
    from verl.plugin.platform import get_platform

    platform = get_platform()
    name = str(platform.device_name)
    if name != "cpu":
        yield Check("platform", "ok", f"{platform.device_count()} x {name}")
        return
    cores = os.cpu_count()
    if Path("/dev/nvidiactl").exists():
        mend = "Install torch's CUDA build and vllm (pip install 'verl[vllm]==0.9.1')."
        yield Check("platform", "warn", f"{cores} CPU cores; a GPU that torch cannot see", mend)
    else:
        yield Check("platform", "ok", f"{cores} CPU cores, no accelerator")


def run_checks(*, recipe: str, overrides: Sequence[str]) -> Iterator[Check]:
    """Whether the run `main_ppo +recipe=RECIPE OVERRIDES` could start.

    Args:
        recipe: the run's recipe.
        overrides: further words of its command line.
    """
    try:
        config = compose_run(recipe=recipe, overrides=overrides)
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        mend = f"Recipes: {', '.join(hydra_plugin.names('recipe'))}. Check the overrides."
        yield Check("run", "fail", _first_lines(error), mend)
        return
    from mifo_ext.adapters.checks import problems_of

    scale = scale_of(config)
    world = world_check(config)
    problems = problems_of(config)
    if world is not None:
        yield world
        if world.state == "warn":
            problems = [
                problem for problem in problems if hydra_plugin.world_folder() not in problem
            ]
    yield from (Check("run", "fail", problem) for problem in problems)
    if not problems:
        yield Check("run", "ok", f"+recipe={recipe} with scale {scale} can start")
    yield from room_checks(config)


def compose_run(*, recipe: str, overrides: Sequence[str]) -> DictConfig:
    """Compose the configuration that verl's main would.

    Args:
        recipe: the run's recipe.
        overrides: further words of its command line.

    Raises:
        HydraException: for an unknown recipe, scale or key.
    """
    from hydra import compose, initialize_config_module

    with initialize_config_module("verl.trainer.config", version_base=None):
        words = [f"+recipe={recipe}", *overrides]
        config: DictConfig = compose("ppo_trainer", overrides=words, return_hydra_config=True)
    return config


def scale_of(config: DictConfig) -> str:
    """The scale that a run takes, by itself or from the command line."""
    choices = config.hydra.runtime.choices
    return next((str(choices[key]) for key in choices if key.startswith("scale")), "?")


def world_check(config: DictConfig) -> Check | None:
    """Whether the embedded world is there, if the run uses it."""
    from mifo_ext import world
    from mifo_ext.adapters.checks import files_of

    folder = Path(hydra_plugin.world_folder())
    wanted = [*files_of(config.data.train_files), str(config.actor_rollout_ref.model.path)]
    if not any(Path(path).is_relative_to(folder) for path in wanted):
        return None
    if world.world_is_ready(folder):
        return Check("world", "ok", str(folder))
    return Check(
        "world", "warn", f"{folder} is not built", "The first run does it, or: mifo world build"
    )


def room_checks(config: DictConfig) -> Iterator[Check]:
    """Whether disk and host memory suffice for the model, where its size can be seen."""
    from mifo_ext.adapters.first_check import check_room, parameters_in

    parameters = parameters_in(Path(str(config.actor_rollout_ref.model.path)).expanduser())
    folder = Path(config.trainer.default_local_dir).absolute()
    while not folder.exists():
        folder = folder.parent
    for finding in check_room(parameters, config, folder=folder):
        state = {"ok": "ok", "warn": "warn"}.get(finding.verdict, "fail")
        yield Check(finding.what, state, finding.seen, finding.mend)  # type: ignore[arg-type]


def _first_lines(error: Exception, *, lines: int = 6) -> str:
    return "\n".join(str(error).strip().splitlines()[:lines])
