"""What can be wrong with the place that demonstrations come from, before a run costs anything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from mifo_ext.data.demonstration_server import key_problem
from mifo_ext.data.demonstration_sources import solved_examples
from mifo_ext.data.recorded_answers import FILE_NAME, read_answers
from mifo_ext.node_reader import NodeReader
from mifo_ext.settings_demonstrations import DemonstrationSettings, read_demonstrations

PATH = "interleave.demonstrations"


def demonstration_settings(config: DictConfig) -> DemonstrationSettings | None:
    """Where a run's demonstrations come from; None for RL alone, and for unsound settings.

    What is wrong with these is not repeated here: it is said with the other settings' problems.
    """
    if OmegaConf.select(config, "interleave.kind") == "rl":
        return None
    node = OmegaConf.select(config, PATH)
    values = {} if node is None else OmegaConf.to_container(node, resolve=True)
    problems: list[str] = []
    if not isinstance(values, Mapping):
        return None
    settings = read_demonstrations(NodeReader(PATH, values, DemonstrationSettings, problems))
    return None if problems else settings


def needs_column(config: DictConfig) -> bool:
    """Whether demonstrations are the training file's column `target`."""
    settings = demonstration_settings(config)
    return settings is not None and settings.source == "dataset"


def demonstration_problems(config: DictConfig) -> Iterator[str]:
    """Find what is wrong with the file or the server; the column is checked with its table."""
    settings = demonstration_settings(config)
    if settings is None:
        return
    if settings.file is not None:
        yield from _file(Path(settings.file).expanduser())
    if settings.server is not None:
        if problem := key_problem(settings.server):
            yield problem
        yield from _kept(Path(config.trainer.default_local_dir).absolute() / FILE_NAME)


def _file(path: Path) -> Iterator[str]:
    try:
        for _ in solved_examples(path):
            pass
    except (OSError, ValueError) as error:
        yield f"`{PATH}.file`: {error}"


def _kept(path: Path) -> Iterator[str]:
    try:
        read_answers(path)
    except (OSError, ValueError) as error:
        yield str(error)
