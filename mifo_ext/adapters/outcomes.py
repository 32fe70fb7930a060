"""How each question's rollouts went, read before verl drops or clears them."""

from __future__ import annotations

import dataclasses
import inspect
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import transfer_queue as tq
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer

from mifo_ext.core.outcomes import Outcome
from mifo_ext.data.questions import question_id

CORRECT = 1.0
"""Accuracy of a right rollout; anything less is not right."""


def group_outcomes(
    accuracies: Mapping[str, tuple[str, Mapping[int, float]]], *, expected: int
) -> list[Outcome]:
    """Count the right rollouts of each group.

    Args:
        accuracies: by group: the question's id, and the accuracy of each session that came back.
        expected: sessions asked for.
    """
    return [
        Outcome(
            question_id=question,
            correct=sum(value >= CORRECT for value in sessions.values()),
            received=len(sessions),
            expected=expected,
        )
        for question, sessions in accuracies.values()
    ]


class RecordingReplayBuffer(ReplayBuffer):  # type: ignore[misc]
    """verl's replay buffer, which also writes down the outcome of every group it ever held.

    A group filter (DAPO) deletes the groups with uniform rewards, hence all hard questions, before
    the trainer sees them; they are read here first.
    """

    rollouts_per_question: int
    outcomes: list[Outcome]

    @classmethod
    def adopt(
        cls, buffer: ReplayBuffer, *, rollouts_per_question: int, poll_interval_s: float | None
    ) -> RecordingReplayBuffer:
        """Make one with the same settings as a buffer that verl built.

        Args:
            buffer: as `PPOTrainer._build_replay_buffer` returns it.
            rollouts_per_question: rollouts asked for.
            poll_interval_s: seconds between looks at the queue; None keeps verl's two, which is
                longer than a whole step of a tiny model.
        """
        names = list(inspect.signature(ReplayBuffer.__init__).parameters)[1:]
        recording = cls(**{name: getattr(buffer, name) for name in names})
        recording.rollouts_per_question = rollouts_per_question
        recording.outcomes = []
        if poll_interval_s is not None:
            recording.poll_interval = poll_interval_s
        return recording

    def take_outcomes(self) -> list[Outcome]:
        """Outcomes since the last call, ordered by question: rollouts arrive in no fixed order."""
        outcomes, self.outcomes = self.outcomes, []
        return sorted(outcomes, key=lambda outcome: outcome.question_id)

    def sample(
        self, global_steps: int, partition_id: str, batch_size: int
    ) -> tuple[KVBatchMeta, dict[str, Any]]:
        """Sample as verl does, and record what was selected."""
        batch, metrics = super().sample(
            global_steps=global_steps, partition_id=partition_id, batch_size=batch_size
        )
        if partition_id != "val":
            questions = self._record(partition_id, batch.keys)
            batch = in_fixed_order(batch, questions)
        return batch, metrics

    def _clear_groups(self, partition_id: str, uids: set[str]) -> None:
        if partition_id != "val":
            held = self.partitions[partition_id]
            self._record(partition_id, [key for key in held if key.split("_")[0] in uids])
        super()._clear_groups(partition_id, uids)

    def _record(self, partition_id: str, keys: Sequence[str]) -> list[str]:
        """Write down the outcomes of these trajectories' groups; name each one's question."""
        if not keys:
            return []
        data = tq.kv_batch_get(
            keys=list(keys), partition_id=partition_id, select_fields=["raw_prompt", "extra_fields"]
        )
        groups: dict[str, tuple[str, dict[int, float]]] = {}
        trajectories: dict[str, dict[int, int]] = defaultdict(dict)
        rows = zip(keys, list(data["raw_prompt"]), list(data["extra_fields"]), strict=True)
        for key, prompt, extra in rows:
            uid, session, index = key.rsplit("_", 2)
            _, sessions = groups.setdefault(uid, (question_id(_plain(prompt)), {}))
            # A session of several trajectories is judged by its last.
            if int(index) >= trajectories[uid].get(int(session), -1):
                trajectories[uid][int(session)] = int(index)
                sessions[int(session)] = _accuracy(_plain(extra))
        self.outcomes += group_outcomes(groups, expected=self.rollouts_per_question)
        return [groups[key.rsplit("_", 2)[0]][0] for key in keys]


def in_fixed_order(batch: KVBatchMeta, questions: Sequence[str]) -> KVBatchMeta:
    """Order a batch by question and session, where verl has the order in which rollouts came back.

    That order differs between two runs with the same rollouts, hence so would their mini-batches,
    and no resumed run could be checked against an uninterrupted one. It also puts short responses
    into the first mini-batch.

    Args:
        batch: as verl's buffer returns it.
        questions: the question of each of its trajectories.
    """

    def place(row: int) -> tuple[str, int, int]:
        _, session, index = batch.keys[row].rsplit("_", 2)
        return questions[row], int(session), int(index)

    order = sorted(range(len(batch.keys)), key=place)
    keys, tags = [batch.keys[row] for row in order], [batch.tags[row] for row in order]
    return dataclasses.replace(batch, keys=keys, tags=tags)


def _plain(value: Any) -> Any:
    """Unwrap tensordict's box around a non-tensor."""
    return getattr(value, "data", value)


def _accuracy(extra_fields: Mapping[str, Any]) -> float:
    info = extra_fields.get("reward_extra_info") or {}
    if "acc" not in info:
        raise RuntimeError(
            "The reward must report `acc`, but a rollout has only "
            f"{sorted(info) or 'no extra information'}. Return a dict with `score` and `acc` from "
            "reward.custom_reward_function."
        )
    return float(info["acc"])
