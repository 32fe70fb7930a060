"""Whole phases of SFT and RL: sft, sft_then_rl, rl_then_sft."""

from __future__ import annotations

from typing import Any

import transfer_queue as tq
from omegaconf import open_dict
from transfer_queue import KVBatchMeta
from verl.utils.debug import marked_timer

from mifo_ext.adapters import telemetry
from mifo_ext.adapters.batches import sft_batch
from mifo_ext.adapters.methods import DemonstrationMethod
from mifo_ext.core.phases import last_step_of_first_phase, phase_of
from mifo_ext.data.questions import question_id
from mifo_ext.settings import PhasesSettings

WITHOUT_ROLLOUTS = "sft"
"""Partition of a step without rollouts; its one key is there to be cleared, as verl does with every
step's."""


_OF_THE_RUN = (
    "train_dataset",
    "train_dataloader",
    "val_dataset",
    "val_dataloader",
    "steps_per_epoch",
    "total_training_steps",
)
"""What verl makes of the data files besides a loader; SFT's files decide for the run."""


class Phases(DemonstrationMethod):
    """One phase after the other, each with the same number of questions a step.

    An SFT step trains on the demonstrations of the questions that an RL step would have asked, by
    the actor's own optimizer. The optimizer's moments do not cross the switch, as they would not
    between two runs; its learning-rate schedule goes on.
    """

    settings: PhasesSettings

    def build(self) -> None:
        """Find the demonstrations, and RL's own questions if it has them."""
        super().build()
        trainer = self.trainer
        self._loaders: dict[str, Any] = {"sft": trainer.train_dataloader}
        self._loaders["rl"] = self._rl_loader() or trainer.train_dataloader
        self._awake = True
        self._last_of_first = 0
        if len(self.settings.order) == 2:
            self._last_of_first = last_step_of_first_phase(
                self.settings.switch_at, total_steps=trainer.total_training_steps
            )
        self._use_loader_of(1)

    def _rl_loader(self) -> Any:
        """A loader over RL's own questions, as verl builds it; None if it shares SFT's."""
        if self.settings.rl_files is None:
            return None
        trainer, config = self.trainer, self.trainer.config
        kept = {name: getattr(trainer, name) for name in _OF_THE_RUN}
        before = config.copy()
        with open_dict(config):
            config.data.train_files = list(self.settings.rl_files)
            trainer.verl_dataloaders()
            loader = trainer.train_dataloader
            # verl also writes the length of the data's schedule into the configuration.
            config.merge_with(before)
        for name, value in kept.items():
            setattr(trainer, name, value)
        return loader

    def phase(self, step: int) -> str:
        """The phase of a step."""
        return phase_of(step, order=self.settings.order, last_of_first=self._last_of_first)

    def expect(self, *, step: int) -> None:
        """A checkpoint holds the place in the data of its own phase."""
        self._use_loader_of(step)

    def _use_loader_of(self, step: int) -> None:
        loader = self._loaders[self.phase(step)]
        if self.trainer.train_dataloader is not loader:
            self.trainer.train_dataloader = loader
            self.trainer.train_dataloader_it = None

    def step(self, metrics: dict[str, Any], timing: dict[str, float]) -> KVBatchMeta:
        """Take a step of the phase that is on."""
        step = self.trainer.global_steps
        first_of_second = len(self.settings.order) == 2 and step == self._last_of_first + 1
        if first_of_second:
            self._use_loader_of(step)
            self.trainer.actor_rollout_wg.forget_moments()
        metrics["interleave/phase/switch"] = float(first_of_second)
        metrics["interleave/phase/sft"] = float(self.phase(step) == "sft")
        if self.phase(step) == "rl":
            return super().step(metrics, timing)
        with marked_timer("sft_step", timing, color="yellow"):
            metrics.update(self._sft_step())
        tq.kv_put(key="step", partition_id=WITHOUT_ROLLOUTS, tag={})
        return KVBatchMeta(partition_id=WITHOUT_ROLLOUTS, keys=["step"], tags=[{}])

    def _sft_step(self) -> dict[str, float]:
        """Learn the demonstrations of the next questions."""
        trainer, sft = self.trainer, self.settings.sft
        if self._awake:
            # Rollout and actor share the device: the rollout's memory is freed first.
            trainer.checkpoint_manager.sleep_replicas()
            self._awake = False
        prompts = list(trainer.next_questions()["raw_prompt"])
        asked = [question_id(getattr(prompt, "data", prompt)) for prompt in prompts]
        self.catalog.prefetch(asked)
        learned = [question for question in asked if self.catalog.has(question)]
        counts: dict[str, float] = {
            "interleave/sft/without_demonstration": len(asked) - len(learned),
            **telemetry.rejected_metrics(self.catalog.rejected),
        }
        if not learned:
            return counts
        demonstrations = [self.catalog.tokens(question) for question in learned]
        output = trainer.actor_rollout_wg.sft_step(
            sft_batch(
                demonstrations,
                mini_batch_size=sft.mini_batch_size or len(demonstrations),
                epochs=1,
                ranks=trainer.data_parallel_size,
                seed=trainer.global_steps,
                with_entropy=sft.entropy_coeff > 0,
            )
        )
        tokens = sum(len(demo.response_ids) for demo in demonstrations)
        trainer.use(demonstrations=len(demonstrations), demonstration_tokens=tokens)
        return {
            **counts,
            **dict(output["metrics"]),
            **telemetry.demonstration_metrics(demonstrations),
        }

    def wake_rollouts(self, step: int) -> bool:
        """Whether the rollout needs the new weights: before RL, and where verl validates."""
        config, total = self.trainer.config.trainer, self.trainer.total_training_steps
        validates = config.test_freq > 0 and (step >= total or step % config.test_freq == 0)
        self._awake = bool(validates or (step < total and self.phase(step + 1) == "rl"))
        return self._awake
