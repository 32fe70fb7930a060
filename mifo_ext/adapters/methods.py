"""What a recipe adds to verl's RL. verl keeps the loop; a method is called at its seams."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tensordict import TensorDict
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.reward import get_custom_reward_fn
from verl.utils.reward_score import default_compute_score

from mifo_ext.adapters import first_check, telemetry
from mifo_ext.adapters.demonstrations import DemonstrationCatalog, demonstration_source
from mifo_ext.core.outcomes import Outcome
from mifo_ext.settings import IntervalSettings, PhasesSettings
from mifo_ext.settings_base import RecipeSettings
from mifo_ext.settings_mixed import MixedSettings

if TYPE_CHECKING:
    from mifo_ext.adapters.trainer import InterleavedTrainer


class Method:
    """RL alone, and the seams that other methods override.

    Args:
        trainer: the trainer that this method serves.
        settings: the recipe's node.
    """

    def __init__(self, trainer: InterleavedTrainer, settings: RecipeSettings) -> None:
        self.trainer = trainer
        self.settings = settings

    def build(self) -> None:
        """Called when verl's data loaders are there, before any worker is."""

    def expect(self, *, step: int) -> None:
        """Called before a checkpoint of this step is loaded."""

    def step(self, metrics: dict[str, Any], timing: dict[str, float]) -> KVBatchMeta:
        """Take one step of training; here verl's RL step."""
        batch, outcomes = self.rl_step(metrics, timing)
        metrics.update(telemetry.outcome_metrics(outcomes))
        return batch

    def rl_step(
        self, metrics: dict[str, Any], timing: dict[str, float]
    ) -> tuple[KVBatchMeta, list[Outcome]]:
        """Verl's RL step, and how the rollouts of every question went."""
        batch = self.trainer.rl_step(metrics, timing)
        outcomes, tokens, timed = self.trainer.replay_buffer.take_outcomes()
        timing.update(timed)
        self.trainer.use(questions=len(outcomes), rollout_tokens=tokens)
        return batch, outcomes

    def before_rollouts(self, batch: TensorDict) -> None:
        """Called with the questions of an RL step before they are sent to be answered."""

    def after_log_probs(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> None:
        """Called when the rollouts' log-probabilities under the actor are known."""

    def after_advantages(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> KVBatchMeta:
        """Called when verl's advantages are known, before the update; the batch it is made on."""
        return batch

    def wake_rollouts(self, step: int) -> bool:
        """Called at a step's end: whether anything is sampled before the next update."""
        return True

    def check(self) -> list[first_check.Finding]:
        """Look at what the run will use, before step 1."""
        return []

    def save(self, folder: Path) -> dict[str, Any]:
        """Write the workers' part of a checkpoint into a folder, and describe the driver's."""
        return {}

    def load(self, state: Mapping[str, Any], folder: Path) -> None:
        """Take up what `save` described and wrote."""


class DemonstrationMethod(Method):
    """A method that uses demonstrations of the training questions."""

    settings: IntervalSettings | PhasesSettings | MixedSettings
    catalog: DemonstrationCatalog

    def build(self) -> None:
        """Find the demonstrations of the training questions."""
        config, trainer = self.trainer.config, self.trainer
        limit = int(config.data.max_response_length)
        source = demonstration_source(
            self.settings.demonstrations, folder=trainer.root, max_response_length=limit
        )
        self.catalog = DemonstrationCatalog(
            trainer.train_dataset,
            trainer.tokenizer,
            source=source,
            max_response_length=limit,
            chat_template_kwargs=config.data.get("apply_chat_template_kwargs"),
        )

    def check(self) -> list[first_check.Finding]:
        """Look at the first questions as the run will use them."""
        config = self.trainer.config
        reward = get_custom_reward_fn(config) or default_compute_score
        findings = first_check.check_first_batch(self.catalog, config, reward)
        model = Path(str(config.actor_rollout_ref.model.path)).expanduser()
        parameters = first_check.parameters_in(model)
        return [
            *findings,
            *first_check.check_room(parameters, config, folder=self.trainer.root),
        ]
