"""verl's synchronous trainer plus an SFT interval at the end of a step.

Our entry in verl's trainer registry; the RL step, the loop and validation are verl's own.
"""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray
from omegaconf import DictConfig
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.reward import get_custom_reward_fn
from verl.trainer.ppo.utils import Role
from verl.trainer.ppo.v1.trainer_base import register_trainer
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync
from verl.utils.checkpoint.checkpoint_manager import find_latest_ckpt_path
from verl.utils.debug import marked_timer
from verl.utils.reward_score import default_compute_score

from mifo_ext.adapters import checkpoints, first_check, telemetry
from mifo_ext.adapters.batches import sft_batch
from mifo_ext.adapters.configuration import settings_of
from mifo_ext.adapters.demonstrations import DemonstrationCatalog
from mifo_ext.adapters.outcomes import RecordingReplayBuffer
from mifo_ext.adapters.trainer_names import STOP_FILE
from mifo_ext.adapters.worker import InterleavedWorker
from mifo_ext.core.interleave import HardExampleBuffer, WaitingQuestion
from mifo_ext.settings import InterleaveSettings, Settings


@register_trainer("interleaved")
class InterleavedTrainer(PPOTrainerSync):  # type: ignore[misc]
    """Runs verl's own RL step, then an SFT interval whenever enough hard questions wait."""

    settings: Settings
    checkpoint_callback: Any
    catalog: DemonstrationCatalog
    buffer: HardExampleBuffer
    resumed: bool = False
    saved_step: int = -1

    def __init__(self, config: DictConfig) -> None:
        self.settings = settings_of(
            config, rollouts_per_question=config.actor_rollout_ref.rollout.n
        )
        super().__init__(config)

    @property
    def root(self) -> Path:
        """The run's folder: checkpoints, metrics, pictures."""
        return Path(self.config.trainer.default_local_dir).absolute()

    @property
    def world_size(self) -> int:
        """Ranks of the actor."""
        return int(self.config.trainer.nnodes * self.config.trainer.n_gpus_per_node)

    # ---- what verl builds ----

    def _build_replay_buffer(self) -> RecordingReplayBuffer:
        # verl turns asynchronous for every mode but the literal "sync"; our name in its registry
        # only has to select this class.
        self.trainer_mode = "sync"
        interval = self.config.trainer.v1.sampler.sampler_kwargs.get("poll_interval")
        return RecordingReplayBuffer.adopt(
            super()._build_replay_buffer(),
            rollouts_per_question=self.config.actor_rollout_ref.rollout.n,
            poll_interval_s=interval,
        )

    def _init_dataloader(self) -> None:
        super()._init_dataloader()
        if not self.settings.enabled:
            return
        self.catalog = DemonstrationCatalog(
            self.train_dataset,
            self.tokenizer,
            max_response_length=self.config.data.max_response_length,
            chat_template_kwargs=self.config.data.get("apply_chat_template_kwargs"),
        )
        self.buffer = HardExampleBuffer(
            size=self.settings.buffer_size,
            hard_at_most=self.settings.hard_at_most,
            has_demonstration=self.catalog.has,
        )

    def _init_resource_pool_mgr(self) -> None:
        super()._init_resource_pool_mgr()
        for role in (Role.ActorRollout, Role.ActorRolloutRef):
            if role in self.role_worker_mapping:
                self.role_worker_mapping[role] = ray.remote(InterleavedWorker)

    # ---- the loop ----

    def fit(self, agent_loop_manager: Any) -> None:
        """Train; metrics go to `metrics.jsonl` in the run's folder if verl's file logger is on."""
        os.environ.setdefault("VERL_FILE_LOGGER_PATH", str(telemetry.fresh_metrics_file(self.root)))
        super().fit(agent_loop_manager)

    def on_train_begin(self) -> None:
        """Look at the first questions as the run will use them; stop if that is hopeless."""
        super().on_train_begin()
        if not self.settings.enabled or self.resumed:
            return
        reward = get_custom_reward_fn(self.config) or default_compute_score
        findings = first_check.check_first_batch(self.catalog, self.config, reward)
        model = Path(str(self.config.actor_rollout_ref.model.path)).expanduser()
        parameters = first_check.parameters_in(model)
        findings += first_check.check_room(parameters, self.config, folder=self.root)
        first_check.show(findings)

    def step(self, metrics: dict[str, Any], timing_raw: dict[str, float]) -> KVBatchMeta:
        """Take verl's RL step, look at every question, and run an SFT interval if one is due."""
        batch = super().step(metrics, timing_raw)
        outcomes = self.replay_buffer.take_outcomes()
        if not self.settings.enabled:
            metrics.update(telemetry.outcome_metrics(outcomes))
            return batch
        observation = self.buffer.observe(outcomes, step=self.global_steps)
        metrics.update(telemetry.observation_metrics(observation))
        if self.buffer.ready:
            with marked_timer("sft_interval", timing_raw, color="yellow"):
                metrics.update(self._sft_interval())
        metrics.update(
            telemetry.buffer_metrics(self.buffer, self.catalog.rejected, step=self.global_steps)
        )
        return batch

    def _val_metrics_update(
        self, data_sources: list[str], sample_uids: list[str], *args: Any, **kwargs: Any
    ) -> dict[str, float]:
        """Say over how many questions each mean was taken: intervals need it."""
        metrics: dict[str, float] = super()._val_metrics_update(
            data_sources, sample_uids, *args, **kwargs
        )
        questions = Counter(dict(zip(sample_uids, data_sources, strict=True)).values())
        return metrics | {f"val-aux/{source}/questions": n for source, n in questions.items()}

    def _sft_interval(self) -> dict[str, float]:
        """Learn the oldest waiting demonstrations with what RL moved held still."""
        assert isinstance(self.settings, InterleaveSettings)
        sft, questions = self.settings.sft, self.buffer.take()
        demonstrations = [self.catalog.tokens(item.question_id) for item in questions]
        output = self.actor_rollout_wg.sft_interval(
            sft_batch(
                demonstrations,
                mini_batch_size=sft.mini_batch_size,
                epochs=sft.epochs,
                ranks=self._data_parallel_size(),
                seed=self.global_steps,
            )
        )
        metrics: dict[str, Any] = dict(output["metrics"])
        unused = unlearned(questions, metrics.pop("finite"), mini_batch_size=sft.mini_batch_size)
        self.buffer.give_back(unused)
        return {
            **metrics,
            **telemetry.demonstration_metrics(demonstrations),
            "interleave/sft/flush": 1,
            "interleave/sft/given_back": len(unused),
        }

    def _data_parallel_size(self) -> int:
        sequence_parallel = self.config.actor_rollout_ref.actor.get(
            "ulysses_sequence_parallel_size", 1
        )
        return self.world_size // int(sequence_parallel)

    def on_step_end(self) -> None:
        """Sync weights as verl does; end the run here if it was asked to stop."""
        super().on_step_end()
        stop = self.root / STOP_FILE
        if stop.exists():
            if self.saved_step != self.global_steps:
                self._save_checkpoint()
            print(f"Stopped on request after step {self.global_steps}; the checkpoint is saved.")
            stop.unlink()
            self.total_training_steps = self.global_steps

    # ---- checkpoints ----

    def _save_checkpoint(self) -> None:
        staging, step = self.root / checkpoints.STAGING, self.global_steps
        staged, final = (checkpoints.step_folder(at, step) for at in (staging, self.root))
        checkpoints.clean_up(self.root)
        with self._verl_saves_into(staging) as announce:
            super()._save_checkpoint()
        state = {"recipe": self.settings.recipe, "world_size": self.world_size, "step": step}
        if self.settings.enabled:
            self.actor_rollout_wg.save_hold(str(staged / checkpoints.STATE_FOLDER))
            state["buffer"] = self.buffer.state_dict()
        checkpoints.write_state(staged, state)
        self.actor_rollout_wg.publish(str(staged), str(final))
        checkpoints.publish_folder(staged, final)
        checkpoints.write_atomically(self.root / checkpoints.TRACKER, str(step))
        checkpoints.clean_up(self.root)
        checkpoints.retire_old(self.root, keep=self.config.trainer.max_actor_ckpt_to_keep)
        self.saved_step = step
        announce(trainer=self, global_step=step, checkpoint_dir=str(final), async_save=False)

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
        checkpoints.clean_up(self.root)
        (self.root / STOP_FILE).unlink(missing_ok=True)
        folder = resume_folder(self.config)
        state = None
        if folder is not None:
            state = checkpoints.read_state(
                folder, recipe=self.settings.recipe, world_size=self.world_size
            )
        super()._load_checkpoint()
        if state is None or folder is None:
            return
        self.resumed = True
        self.saved_step = self.global_steps
        if self.settings.enabled:
            self.buffer.load_state_dict(state["buffer"])
            self.actor_rollout_wg.load_hold(str(folder / checkpoints.STATE_FOLDER))


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


def unlearned(
    questions: tuple[WaitingQuestion, ...], finite: list[bool], *, mini_batch_size: int
) -> list[WaitingQuestion]:
    """Questions whose every optimizer step was skipped, because its gradient was not finite.

    Args:
        questions: what the interval took, in order.
        finite: one flag an optimizer step: mini-batches in order, epoch after epoch.
        mini_batch_size: questions of one step.
    """
    starts = range(0, len(questions), mini_batch_size)
    batches = [questions[start : start + mini_batch_size] for start in starts]
    return [
        question
        for number, batch in enumerate(batches)
        if not any(finite[number :: len(batches)])
        for question in batch
    ]
