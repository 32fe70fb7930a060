"""Demonstrations among the rollouts: LUFFY, SRFT, HPT, CHORD."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import transfer_queue as tq
from tensordict import NonTensorData, NonTensorStack, TensorDict
from transfer_queue import KVBatchMeta
from verl.protocol import DataProto
from verl.utils import tensordict_utils as tu
from verl.utils.debug.metrics import calculate_debug_metrics

from mifo_ext.adapters import mixed_loss, telemetry
from mifo_ext.adapters.methods import DemonstrationMethod
from mifo_ext.adapters.trainer_names import DEMONSTRATION_AGENT, DEMONSTRATION_IDS
from mifo_ext.core.mixed_policy import scheduled
from mifo_ext.core.mixed_rows import Row, Weights, row_weights
from mifo_ext.core.phases import steps_of
from mifo_ext.data.questions import question_id
from mifo_ext.settings_mixed import MixedSettings

RIGHT = 1.0
_LOG_PROBS = ("rollout_log_probs", "old_log_probs", "response_mask", "responses")


class Mixed(DemonstrationMethod):
    """verl's RL step on groups whose first row is the question's demonstration.

    A question without a verified demonstration has rollouts only.
    """

    settings: MixedSettings

    def step(self, metrics: dict[str, Any], timing: dict[str, float]) -> KVBatchMeta:
        """Take verl's RL step."""
        self.trainer.replay_buffer.demonstration_keys.clear()
        batch, outcomes = self.rl_step(metrics, timing)
        metrics.update(telemetry.outcome_metrics(outcomes))
        metrics.update(telemetry.rejected_metrics(self.catalog.rejected))
        return batch

    def before_rollouts(self, batch: TensorDict) -> None:
        """Give each question its demonstration, and ask for our agent loop."""
        asked = [question_id(getattr(one, "data", one)) for one in list(batch["raw_prompt"])]
        self.catalog.prefetch(asked)
        ids = [self.catalog.tokens(q).response_ids if self.catalog.has(q) else [] for q in asked]
        batch[DEMONSTRATION_IDS] = NonTensorStack(*[NonTensorData(one) for one in ids])
        batch["agent_name"] = NonTensorData(DEMONSTRATION_AGENT)

    def after_log_probs(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> None:
        """Take demonstrations out of what verl makes of rollout probabilities and groups."""
        given = self._demonstrations(batch)
        if not given:
            return
        where = batch.partition_id
        if self.trainer.config.actor_rollout_ref.rollout.calculate_log_probs:
            own = [
                key
                for key, tag in zip(batch.keys, batch.tags, strict=True)
                if _own(key, tag, given)
            ]
            rows = tq.kv_batch_get(keys=own, partition_id=where, select_fields=list(_LOG_PROBS))
            metrics.update(calculate_debug_metrics(DataProto(batch=rows.to_padded_tensor())))
            # No policy sampled a demonstration: the actor itself stands in, with a ratio of one.
            actor = tq.kv_batch_get(keys=given, partition_id=where, select_fields=["old_log_probs"])
            actor["rollout_log_probs"] = actor.pop("old_log_probs")
            tq.kv_batch_put(keys=given, partition_id=where, fields=actor)
        if self.settings.baseline == "rollouts":
            # A group of its own, so that verl's estimator leaves it out of the rollouts' baseline.
            names = [f"{key.rsplit('_', 2)[0]}-demonstration" for key in given]
            fields = tu.get_tensordict({"uid": np.array(names, dtype=object)})
            tq.kv_batch_put(keys=given, partition_id=where, fields=fields)

    def after_advantages(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> KVBatchMeta:
        """Say for every row which loss it carries, and with which weight."""
        data = tq.kv_batch_get(
            keys=batch.keys,
            partition_id=batch.partition_id,
            select_fields=["advantages", "response_mask", "extra_fields"],
        )
        advantages, masks = data["advantages"].unbind(), data["response_mask"].unbind()
        extras = [getattr(extra, "data", extra) for extra in list(data["extra_fields"])]
        given = set(self._demonstrations(batch))
        real = [n for n, tag in enumerate(batch.tags) if not tag.get("is_padding", False)]
        rows = [
            Row(
                group=batch.keys[n].rsplit("_", 2)[0],
                is_demonstration=batch.keys[n] in given,
                right=float(extras[n]["reward_extra_info"]["acc"]) >= RIGHT,
                advantage=float(advantages[n][0]),
            )
            for n in real
        ]
        coeff = self._coeff()
        weights = row_weights(
            rows,
            hard_at_most=self.settings.hard_at_most,
            coeff=coeff,
            convex=self.settings.nll.convex,
            signed=self.settings.rollout_loss == "signed_likelihood",
        )
        by_row = dict(zip(real, weights, strict=True))
        carried = [by_row.get(n, Weights(False, 0.0, 0.0, 0.0, 0)) for n in range(len(batch.keys))]
        self._count(rows, weights, [int(masks[n].sum()) for n in real], coeff, metrics)
        # The answer names the new fields, without which no worker is sent them.
        weighed: KVBatchMeta = tq.kv_batch_put(
            keys=batch.keys,
            partition_id=batch.partition_id,
            fields=_fields(advantages, masks, carried, [key in given for key in batch.keys]),
        )
        return weighed

    def _demonstrations(self, batch: KVBatchMeta) -> list[str]:
        return [key for key in batch.keys if key in self.trainer.replay_buffer.demonstration_keys]

    def _coeff(self) -> float:
        """Coefficient of the likelihood in this step."""
        nll = self.settings.nll
        if nll.final_coeff is None or nll.decay_over is None:
            return nll.coeff
        steps = steps_of(nll.decay_over, total_steps=self.trainer.total_training_steps)
        step = self.trainer.global_steps
        return scheduled(step, first=nll.coeff, final=nll.final_coeff, steps=steps)

    def _count(
        self,
        rows: Sequence[Row],
        weights: Sequence[Weights],
        lengths: Sequence[int],
        coeff: float,
        metrics: dict[str, Any],
    ) -> None:
        used = [
            length
            for row, weight, length in zip(rows, weights, lengths, strict=True)
            if row.is_demonstration and weight.trained
        ]
        self.trainer.use(demonstrations=len(used), demonstration_tokens=sum(used))
        groups = len({row.group for row in rows})
        metrics["interleave/mixed/demonstrations"] = len(used)
        metrics["interleave/mixed/taught_share"] = len(used) / groups if groups else 0.0
        metrics["interleave/mixed/coeff"] = coeff
        right = [row.right for row in rows if row.is_demonstration]
        if right:
            metrics["interleave/mixed/demonstrations_right"] = sum(right) / len(right)


def _own(key: str, tag: dict[str, Any], given: Sequence[str]) -> bool:
    return key not in given and not tag.get("is_padding", False)


def _fields(
    advantages: Sequence[torch.Tensor],
    masks: Sequence[torch.Tensor],
    weights: Sequence[Weights],
    given: Sequence[bool],
) -> TensorDict:
    """The rows' fields for the actor's worker; a row that is left out has an empty mask."""
    kept = [mask * int(w.trained) for mask, w in zip(masks, weights, strict=True)]
    scaled = [one * w.advantage_factor for one, w in zip(advantages, weights, strict=True)]
    columns = {
        mixed_loss.IS_DEMONSTRATION: [float(one) for one in given],
        mixed_loss.DEMONSTRATION_ADVANTAGE: [w.demonstration_advantage for w in weights],
        mixed_loss.LIKELIHOOD_WEIGHT: [w.likelihood_weight for w in weights],
        mixed_loss.RIGHT_OR_WRONG: [float(w.right_or_wrong) for w in weights],
    }
    return TensorDict(
        {
            "advantages": _jagged(scaled),
            "response_mask": _jagged(kept),
            **{name: torch.tensor(values) for name, values in columns.items()},
        },
        batch_size=len(weights),
    )


def _jagged(rows: list[torch.Tensor]) -> torch.Tensor:
    return torch.nested.as_nested_tensor(rows, layout=torch.jagged)
