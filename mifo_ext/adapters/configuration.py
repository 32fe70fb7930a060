"""The recipe's node of a run's configuration."""

from __future__ import annotations

from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from mifo_ext.settings import Settings
from mifo_ext.settings_reader import parse_settings


def settings_of(config: DictConfig, **checked_against: Any) -> Settings:
    """Parse the node `interleave`.

    Args:
        config: a configuration that has the node.
        checked_against: see `parse_settings`.

    Raises:
        SettingsError: with everything that is wrong.
    """
    node = OmegaConf.to_container(config.interleave, resolve=True)
    return parse_settings(cast("dict[str, Any]", node), **checked_against)
