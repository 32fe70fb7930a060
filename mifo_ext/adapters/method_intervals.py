"""SFT intervals on hard questions between RL steps: MIFO, its ablations, ReLIFT."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transfer_queue import KVBatchMeta
from verl.utils.debug import marked_timer

from mifo_ext.adapters import telemetry
from mifo_ext.adapters.batches import sft_batch
from mifo_ext.adapters.methods import DemonstrationMethod
from mifo_ext.core.interleave import HardExampleBuffer, WaitingQuestion
from mifo_ext.core.outcomes import is_hard
from mifo_ext.settings import IntervalSettings


class Intervals(DemonstrationMethod):
    """verl's own RL step, then an SFT interval whenever enough hard questions wait."""

    settings: IntervalSettings
    buffer: HardExampleBuffer

    def build(self) -> None:
        """Find the demonstrations, and begin with an empty buffer."""
        super().build()
        self.buffer = HardExampleBuffer(
            size=self.settings.buffer_size,
            hard_at_most=self.settings.hard_at_most,
            has_demonstration=self.catalog.has,
        )

    def step(self, metrics: dict[str, Any], timing: dict[str, float]) -> KVBatchMeta:
        """Take verl's RL step, look at every question, and run an SFT interval if one is due."""
        batch, outcomes = self.rl_step(metrics, timing)
        hard_at_most = self.settings.hard_at_most
        hard = [one.question_id for one in outcomes if is_hard(one, hard_at_most=hard_at_most)]
        self.catalog.prefetch(hard)
        step = self.trainer.global_steps
        observation = self.buffer.observe(outcomes, step=step)
        metrics.update(telemetry.observation_metrics(observation))
        if self.buffer.ready:
            with marked_timer("sft_interval", timing, color="yellow"):
                metrics.update(self._sft_interval())
        metrics.update(telemetry.buffer_metrics(self.buffer, self.catalog.rejected, step=step))
        return batch

    def _sft_interval(self) -> dict[str, float]:
        """Learn the oldest waiting demonstrations with what RL moved held still."""
        sft, questions = self.settings.sft, self.buffer.take()
        demonstrations = [self.catalog.tokens(item.question_id) for item in questions]
        output = self.trainer.actor_rollout_wg.sft_interval(
            sft_batch(
                demonstrations,
                mini_batch_size=sft.mini_batch_size,
                epochs=sft.epochs,
                ranks=self.trainer.data_parallel_size,
                seed=self.trainer.global_steps,
                with_entropy=sft.entropy_coeff > 0,
            )
        )
        metrics: dict[str, Any] = dict(output["metrics"])
        unused = unlearned(questions, metrics.pop("finite"), mini_batch_size=sft.mini_batch_size)
        self.buffer.give_back(unused)
        pairs = zip(questions, demonstrations, strict=True)
        lengths = [len(demo.response_ids) for item, demo in pairs if item not in unused]
        self.trainer.use(demonstrations=len(lengths), demonstration_tokens=sum(lengths))
        return {
            **metrics,
            **telemetry.demonstration_metrics(demonstrations),
            "interleave/sft/flush": 1,
            "interleave/sft/given_back": len(unused),
        }

    def save(self, folder: Path) -> dict[str, Any]:
        """Write each rank's hold; the buffer is the driver's."""
        self.trainer.actor_rollout_wg.save_hold(str(folder))
        return {"buffer": self.buffer.state_dict()}

    def load(self, state: Mapping[str, Any], folder: Path) -> None:
        """Take up the buffer, and each rank's hold."""
        self.buffer.load_state_dict(state["buffer"])
        waiting = [item.question_id for item in self.buffer.waiting]
        self.catalog.prefetch(waiting)
        if lost := [question for question in waiting if not self.catalog.has(question)]:
            raise ValueError(
                f"The {len(waiting)} questions that wait in `{folder.parent}` must have a "
                f"demonstration, but {len(lost)} have none any more. Resume with the data and "
                "the demos= that the run was started with, and with its server up."
            )
        self.trainer.actor_rollout_wg.load_hold(str(folder))


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
