"""What Hydra learns from us: where recipes and scales lie, and a few resolvers."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path

from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.plugins import Plugins
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import OmegaConf

CONFIG_PACKAGE = "mifo_ext.configs"


class RecipeSearchPath(SearchPathPlugin):  # type: ignore[misc]
    """Puts `recipe=` and `scale=` beside verl's own config groups."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Append our YAML, after verl's."""
        search_path.append(provider="mifo_ext", path=f"pkg://{CONFIG_PACKAGE}")


def names(group: str) -> list[str]:
    """The names that `group=` takes, from the YAML files installed.

    Args:
        group: a config group of ours, "recipe" or "scale".
    """
    folder = resources.files(CONFIG_PACKAGE) / group
    files = (Path(entry.name) for entry in folder.iterdir())
    return sorted(
        file.stem for file in files if file.suffix == ".yaml" and file.stem.strip("_") == file.stem
    )


def default_scale() -> str:
    """The scale of a run that names none; see `platforms.default_scale`."""
    from mifo_ext.platforms import default_scale as chosen

    return chosen()


def world_folder() -> str:
    """Where the embedded world lies: `MIFO_WORLD`, or `world` in the working folder."""
    return os.path.abspath(os.environ.get("MIFO_WORLD", "world"))


def register() -> None:
    """Tell Hydra and OmegaConf; may be called more than once."""
    Plugins.instance().register(RecipeSearchPath)
    OmegaConf.register_new_resolver("mifo.default_scale", default_scale, replace=True)
    OmegaConf.register_new_resolver("mifo.world", world_folder, replace=True)
