"""How each question's rollouts went, read before verl drops or clears them."""

from __future__ import annotations

import dataclasses
import inspect
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import transfer_queue as tq
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer
from verl.utils.debug import marked_timer

from mifo_ext.adapters.trainer_names import DEMONSTRATION
from mifo_ext.core.outcomes import Outcome
from mifo_ext.data.questions import question_id

CORRECT = 1.0
"""Accuracy of a right rollout; anything less is not right."""


class Group(NamedTuple):
    """What came back for one question.

    Attributes:
        question: the question's id.
        accuracies: by session that sampled a response.
        demonstrations: sessions that gave a demonstration instead.
    """

    question: str
    accuracies: Mapping[int, float]
    demonstrations: int = 0


def group_outcomes(groups: Iterable[Group], *, expected: int) -> list[Outcome]:
    """Count the right rollouts of each group; a demonstration is none.

    Args:
        groups: what came back.
        expected: sessions asked for.
    """
    return [
        Outcome(
            question_id=group.question,
            correct=sum(value >= CORRECT for value in group.accuracies.values()),
            received=len(group.accuracies),
            expected=expected - group.demonstrations,
        )
        for group in groups
    ]


def grouped(rows: Iterable[tuple[str, str, Mapping[str, Any]]]) -> list[Group]:
    """Put trajectories together by group.

    Args:
        rows: verl's key ("uid_session_index"), question id and `extra_fields` of each trajectory.
            A session of several trajectories is judged by its last.
    """
    questions: dict[str, str] = {}
    last: dict[str, dict[int, tuple[int, Mapping[str, Any]]]] = defaultdict(dict)
    for key, question, extra in rows:
        uid, session, index = key.rsplit("_", 2)
        questions.setdefault(uid, question)
        if int(index) >= last[uid].get(int(session), (-1, {}))[0]:
            last[uid][int(session)] = (int(index), extra)
    return [
        Group(
            question,
            {n: _accuracy(x) for n, (_, x) in last[uid].items() if not is_demonstration(x)},
            sum(is_demonstration(extra) for _, extra in last[uid].values()),
        )
        for uid, question in questions.items()
    ]


def is_demonstration(extra_fields: Mapping[str, Any]) -> bool:
    """Whether a trajectory is a demonstration that our agent loop handed out."""
    return bool(extra_fields.get(DEMONSTRATION, False))


class RecordingReplayBuffer(ReplayBuffer):  # type: ignore[misc]
    """verl's replay buffer, which also writes down the outcome of every group it ever held.

    A group filter (DAPO) deletes the groups with uniform rewards, hence all hard questions, before
    the trainer sees them; they are read here first.
    """

    rollouts_per_question: int
    outcomes: list[Outcome]
    tokens: int
    timing: dict[str, float]
    demonstration_keys: set[str]

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
        recording.outcomes, recording.tokens, recording.timing = [], 0, {}
        recording.demonstration_keys = set()
        if poll_interval_s is not None:
            recording.poll_interval = poll_interval_s
        return recording

    def take_outcomes(self) -> tuple[list[Outcome], int, dict[str, float]]:
        """What came since the last call.

        Returns:
            Outcomes, ordered by question because rollouts arrive in no fixed order; the response
            tokens that were sampled for them; the seconds that writing them down took, for verl's
            timings.
        """
        taken = sorted(self.outcomes, key=lambda outcome: outcome.question_id)
        tokens, timing = self.tokens, self.timing
        self.outcomes, self.tokens, self.timing = [], 0, {}
        return taken, tokens, timing

    def sample(
        self, global_steps: int, partition_id: str, batch_size: int
    ) -> tuple[KVBatchMeta, dict[str, Any]]:
        """Sample as verl does, and record what was selected."""
        batch, metrics = super().sample(
            global_steps=global_steps, partition_id=partition_id, batch_size=batch_size
        )
        if partition_id != "val":
            with marked_timer("outcomes", self.timing, color="yellow"):
                tags = dict(zip(batch.keys, batch.tags, strict=True))
                questions = self._record(partition_id, tags)
                batch = in_fixed_order(batch, questions)
        return batch, metrics

    def _clear_groups(self, partition_id: str, uids: set[str]) -> None:
        if partition_id != "val":
            held = self.partitions[partition_id].items()
            self._record(partition_id, {k: tag for k, tag in held if k.split("_")[0] in uids})
        super()._clear_groups(partition_id, uids)

    def _record(self, partition_id: str, tags: Mapping[str, Mapping[str, Any]]) -> list[str]:
        """Write down the outcomes of these trajectories' groups; name each one's question."""
        if not tags:
            return []
        data = tq.kv_batch_get(
            keys=list(tags), partition_id=partition_id, select_fields=["raw_prompt", "extra_fields"]
        )
        questions = [question_id(_plain(prompt)) for prompt in list(data["raw_prompt"])]
        extras = [_plain(extra) for extra in list(data["extra_fields"])]
        groups = grouped(zip(tags, questions, extras, strict=True))
        self.outcomes += group_outcomes(groups, expected=self.rollouts_per_question)
        given = {key for key, extra in zip(tags, extras, strict=True) if is_demonstration(extra)}
        self.demonstration_keys |= given
        self.tokens += sum(tag["response_len"] for key, tag in tags.items() if key not in given)
        return questions


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
