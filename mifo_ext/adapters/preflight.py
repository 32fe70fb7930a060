"""Before anything expensive starts: Hydra's callback in the process the user started."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from mifo_ext import hydra_plugin
from mifo_ext.adapters import checkpoints, processes
from mifo_ext.adapters.checks import files_of, problems_of
from mifo_ext.adapters.trainer_names import STOP_FILE


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
        build_world_if_asked_for(config)
        problems = problems_of(config)
        if problems:
            listed = "\n".join(f"  {n}. {problem}" for n, problem in enumerate(problems, 1))
            raise SystemExit(f"mifo: this run cannot start.\n{listed}")
        orphans = processes.adopt_run(root)
        if orphans:
            _say(f"ended {orphans} processes that an earlier start of this run had left")
        for action in checkpoints.clean_up(root):
            _say(f"after an interrupted save: {action}")
        if (step := checkpoints.mend_tracker(root)) is not None:
            _say(f"the checkpoint tracker was unusable and points to step {step} again")
        processes.stop_on_sigterm(root / STOP_FILE)


def build_world_if_asked_for(config: DictConfig) -> None:
    """Make the embedded world if the run's files lie in it and it is not there yet."""
    folder = Path(hydra_plugin.world_folder())
    wanted = [*files_of(config.data.train_files), str(config.actor_rollout_ref.model.path)]
    if not any(Path(path).is_relative_to(folder) for path in wanted):
        return
    from mifo_ext import world

    if not world.world_is_ready(folder):
        _say(f"building the embedded world in {folder} (once, under 3 minutes)")
        world.build(folder)


def _scale(config: DictConfig) -> str:
    choices = config.hydra.runtime.choices
    return next((str(name) for group, name in choices.items() if group.startswith("scale")), "?")


def _say(text: str) -> None:
    print(f"mifo: {text}", file=sys.stderr, flush=True)
