"""Before anything expensive starts: Hydra's callback in the process the user started."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from mifo_ext import world
from mifo_ext.adapters import checkpoints, processes
from mifo_ext.adapters.checks import configuration_problems, files_of, problems_of
from mifo_ext.adapters.trainer_names import STOP_FILE
from mifo_ext.hydra_plugin import world_folder


class Preflight(Callback):  # type: ignore[misc]
    """Checks a run, makes the embedded world it asks for, and guards its processes.

    Hydra turns a callback's exceptions into warnings, so a run that must not start ends by
    `SystemExit`.
    """

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Called with the composed configuration, before Ray starts."""
        try:
            self._prepare(config)
        except Exception as error:
            raise SystemExit(f"mifo: {error}") from error

    def _prepare(self, config: DictConfig) -> None:
        root = Path(config.trainer.default_local_dir).absolute()
        _say(f"recipe {config.interleave.recipe}, scale {_scale(config)}, run folder {root}")
        if world_is_missing(config):
            # Its making takes a minute or two: not before what can be said without it.
            stop_for(configuration_problems(config))
            _say(f"building the embedded world in {world_folder()} (once, under 3 minutes)")
            world.build(world_folder())
        stop_for(problems_of(config))
        orphans = processes.adopt_run(root)
        if orphans:
            _say(f"ended {orphans} processes that an earlier start of this run had left")
        for action in checkpoints.clean_up(root):
            _say(f"after an interrupted save: {action}")
        if (step := checkpoints.mend_tracker(root)) is not None:
            _say(f"the checkpoint tracker was unusable and points to step {step} again")
        processes.stop_on_sigterm(root / STOP_FILE)


def world_is_missing(config: DictConfig) -> bool:
    """Whether the run's files lie in the embedded world, and that is not there yet."""
    wanted = [*files_of(config.data.train_files), str(config.actor_rollout_ref.model.path)]
    asked_for = any(Path(path).is_relative_to(world_folder()) for path in wanted)
    return asked_for and not world.world_is_ready(world_folder())


def stop_for(problems: list[str]) -> None:
    """End a run that cannot start, with everything that is wrong with it."""
    if problems:
        listed = "\n".join(f"  {n}. {problem}" for n, problem in enumerate(problems, 1))
        raise SystemExit(f"mifo: this run cannot start.\n{listed}")


def _scale(config: DictConfig) -> str:
    choices = config.hydra.runtime.choices
    return next((str(name) for group, name in choices.items() if group.startswith("scale")), "?")


def _say(text: str) -> None:
    print(f"mifo: {text}", file=sys.stderr, flush=True)
