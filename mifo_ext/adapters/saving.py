"""How a run saves and resumes: verl's own files and ours, put into place as one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync
from verl.utils.checkpoint.checkpoint_manager import find_latest_ckpt_path

from mifo_ext.adapters import checkpoints
from mifo_ext.adapters.methods import Method
from mifo_ext.adapters.trainer_names import STOP_FILE
from mifo_ext.core.usage import Usage


class SavingTrainer(PPOTrainerSync):  # type: ignore[misc]
    """verl's synchronous trainer with checkpoints that are whole or absent.

    Attributes:
        method: what the recipe adds to RL.
        usage: what the run has used so far.
        resumed: whether this start took up a checkpoint.
        saved_step: step of the last checkpoint written or taken up.
    """

    method: Method
    usage: Usage = Usage()
    resumed: bool = False
    saved_step: int = -1
    checkpoint_callback: Any

    @property
    def root(self) -> Path:
        """The run's folder: checkpoints, metrics, pictures."""
        return Path(self.config.trainer.default_local_dir).absolute()

    @property
    def world_size(self) -> int:
        """Ranks of the actor."""
        return int(self.config.trainer.nnodes * self.config.trainer.n_gpus_per_node)

    def on_step_end(self) -> None:
        """Sync weights as verl does; end the run here if it was asked to stop."""
        if self.method.wake_rollouts(self.global_steps):
            super().on_step_end()
        stop = self.root / STOP_FILE
        if stop.exists():
            if self.saved_step != self.global_steps:
                self._save_checkpoint()
            print(f"Stopped on request after step {self.global_steps}; the checkpoint is saved.")
            stop.unlink()
            self.total_training_steps = self.global_steps

    def _save_checkpoint(self) -> None:
        staging, step = self.root / checkpoints.STAGING, self.global_steps
        staged, final = (checkpoints.step_folder(at, step) for at in (staging, self.root))
        self._tidy(keep=None)
        with self._verl_saves_into(staging) as announce:
            super()._save_checkpoint()
        folder = staged / checkpoints.STATE_FOLDER
        state = {
            "recipe": self.method.settings.recipe,
            "world_size": self.world_size,
            "step": step,
            "usage": asdict(self.usage),
            **self.method.save(folder),
        }
        checkpoints.write_state(staged, state)
        self.actor_rollout_wg.publish(str(staged), str(final))
        checkpoints.publish_folder(staged, final)
        checkpoints.write_atomically(self.root / checkpoints.TRACKER, str(step))
        self._tidy(keep=self.config.trainer.max_actor_ckpt_to_keep)
        self.saved_step = step
        announce(trainer=self, global_step=step, checkpoint_dir=str(final), async_save=False)

    def _tidy(self, *, keep: int | None) -> None:
        self.actor_rollout_wg.tidy(str(self.root), keep)
        checkpoints.tidy(self.root, keep=keep)

    @contextlib.contextmanager
    def _verl_saves_into(self, staging: Path) -> Iterator[Any]:
        """Point verl's own save at the staging folder, without its deletions and callback."""
        trainer, callback = self.config.trainer, self.checkpoint_callback
        ours = {
            "default_local_dir": str(staging),
            "max_actor_ckpt_to_keep": None,
            "max_critic_ckpt_to_keep": None,
        }
        before = {name: trainer[name] for name in ours}
        self.checkpoint_callback = _Silent()
        trainer.update(ours)
        try:
            yield callback.on_save
        finally:
            trainer.update(before)
            self.checkpoint_callback = callback

    def _load_checkpoint(self) -> None:
        self._tidy(keep=None)
        (self.root / STOP_FILE).unlink(missing_ok=True)
        folder = resume_folder(self.config)
        if folder is None:
            super()._load_checkpoint()
            return
        state = checkpoints.read_state(
            folder, recipe=self.method.settings.recipe, world_size=self.world_size
        )
        self.method.expect(step=state["step"])
        super()._load_checkpoint()
        self.resumed = True
        self.saved_step = self.global_steps
        self.usage = Usage(**state.get("usage", {}))
        self.method.load(state, folder / checkpoints.STATE_FOLDER)


class _Silent:
    """A checkpoint callback that says nothing yet: the checkpoint is not in place."""

    def on_save(self, **_: Any) -> None:
        """Nothing."""


def resume_folder(config: DictConfig) -> Path | None:
    """The checkpoint that verl will resume from, by its own rules; None to start afresh."""
    trainer = config.trainer
    if trainer.resume_mode == "disable":
        return None
    if trainer.resume_mode == "resume_path":
        return Path(trainer.resume_from_path).absolute()
    found = find_latest_ckpt_path(str(Path(trainer.default_local_dir).absolute()))
    return Path(found) if found else None
