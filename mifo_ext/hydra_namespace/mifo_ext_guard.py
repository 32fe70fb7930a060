"""Installed as `hydra_plugins.mifo_ext_guard`: Hydra finds it by itself, without verl's plugins.

verl loads our plugin, and `VERL_USE_EXTERNAL_PLUGINS=none` (or a list without us) keeps it from
doing so. Hydra then takes `+recipe=mifo` for a plain string, and verl trains plain PPO. This file
has no other task than to end such a run.
"""

from __future__ import annotations

import sys

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin


class RecipeGuard(SearchPathPlugin):  # type: ignore[misc]
    """Ends a verl run that asks for a recipe while verl has not loaded the recipe layer."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        """Change nothing; Hydra calls this before it composes, in every app.

        Raises:
            SystemExit: if the recipe would be ignored.
        """
        if "verl" not in sys.modules or "mifo_ext.plugin" in sys.modules:
            return
        from mifo_ext.command_line import recipe_asked_for

        if recipe_asked_for():
            raise SystemExit(
                "mifo: verl did not load the recipe layer, so the recipe would be ignored and "
                "plain PPO trained. Unset VERL_USE_EXTERNAL_PLUGINS, or add mifo_ext to it."
            )
