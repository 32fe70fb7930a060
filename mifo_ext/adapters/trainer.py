"""verl's synchronous trainer, with a recipe's method at its seams.

Our entry in verl's trainer registry; the RL step, the loop and validation are verl's own.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

import ray
from omegaconf import DictConfig
from tensordict import TensorDict
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.utils import Role
from verl.trainer.ppo.v1.trainer_base import register_trainer

from mifo_ext.adapters import first_check, telemetry
from mifo_ext.adapters.configuration import settings_of
from mifo_ext.adapters.method_intervals import Intervals
from mifo_ext.adapters.method_mixed import Mixed
from mifo_ext.adapters.method_phases import WITHOUT_ROLLOUTS, Phases
from mifo_ext.adapters.methods import Method
from mifo_ext.adapters.outcomes import RecordingReplayBuffer
from mifo_ext.adapters.saving import SavingTrainer
from mifo_ext.adapters.worker import InterleavedWorker

METHODS: dict[str, type[Method]] = {
    "rl": Method,
    "intervals": Intervals,
    "phases": Phases,
    "mixed": Mixed,
}
"""By the recipe's `interleave.kind`."""


@register_trainer("interleaved")
class InterleavedTrainer(SavingTrainer):
    """Runs verl's own RL step, and what the recipe's method adds to it."""

    def __init__(self, config: DictConfig) -> None:
        settings = settings_of(config, rollouts_per_question=config.actor_rollout_ref.rollout.n)
        self.method = METHODS[settings.kind](self, settings)
        super().__init__(config)

    @property
    def data_parallel_size(self) -> int:
        """Ranks among which a batch is divided."""
        actor = self.config.actor_rollout_ref.actor
        return self.world_size // int(actor.get("ulysses_sequence_parallel_size", 1))

    def use(self, **counts: int) -> None:
        """Count what was used; see `Usage`."""
        self.usage = self.usage.plus(**counts)

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
        self.method.build()

    def verl_dataloaders(self) -> None:
        """Build verl's data sets and loaders from the configuration as it is now."""
        super()._init_dataloader()

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
        if not self.resumed and (findings := self.method.check()):
            first_check.show(findings)

    def step(self, metrics: dict[str, Any], timing_raw: dict[str, float]) -> KVBatchMeta:
        """Take one step of the recipe's method."""
        batch = self.method.step(metrics, timing_raw)
        metrics.update(telemetry.usage_metrics(self.usage))
        return batch

    def rl_step(self, metrics: dict[str, Any], timing: dict[str, float]) -> KVBatchMeta:
        """Verl's own RL step."""
        return super().step(metrics, timing)

    def next_questions(self) -> TensorDict:
        """The next questions of the training data, as an RL step would ask them."""
        return self._next_train_batch()

    def _submit_batch_to_rollout(self, batch: TensorDict) -> int:
        # Each rollout would carry its question's columns to the workers, the demonstration too.
        batch.pop("target", None)
        self.method.before_rollouts(batch)
        return int(super()._submit_batch_to_rollout(batch))

    def _compute_old_log_prob(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> KVBatchMeta:
        batch = super()._compute_old_log_prob(batch, metrics)
        self.method.after_log_probs(batch, metrics)
        return batch

    def _compute_advantage(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> KVBatchMeta:
        batch = super()._compute_advantage(batch, metrics)
        return self.method.after_advantages(batch, metrics)

    def _compute_metrics(
        self, batch: KVBatchMeta, metrics: dict[str, Any], timing_raw: dict[str, float], **when: int
    ) -> None:
        if batch.partition_id != WITHOUT_ROLLOUTS:
            super()._compute_metrics(batch, metrics, timing_raw, **when)
            return
        # A step without rollouts; verl's metrics are all of them.
        metrics["training/global_step"] = when["global_steps"]
        metrics["training/epoch"] = when["epoch"]
        metrics |= {f"timing_s/{name}": seconds for name, seconds in timing_raw.items()}

    def _log_rollout_data(self, batch: KVBatchMeta, *args: Any) -> None:
        if batch.partition_id != WITHOUT_ROLLOUTS:
            super()._log_rollout_data(batch, *args)

    def _val_metrics_update(
        self, data_sources: list[str], sample_uids: list[str], *args: Any, **kwargs: Any
    ) -> dict[str, float]:
        """Say over how many questions each mean was taken: intervals need it."""
        metrics: dict[str, float] = super()._val_metrics_update(
            data_sources, sample_uids, *args, **kwargs
        )
        questions = Counter(dict(zip(sample_uids, data_sources, strict=True)).values())
        return metrics | {f"val-aux/{source}/questions": n for source, n in questions.items()}
