"""How rollouts went, question by question."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer

from mifo_ext.adapters.outcomes import (
    Group,
    RecordingReplayBuffer,
    _accuracy,
    group_outcomes,
    grouped,
    in_fixed_order,
    question_id,
)
from mifo_ext.core.outcomes import Outcome

QUESTION = [{"role": "system", "content": "Think."}, {"role": "user", "content": "2+2="}]


def test_a_question_keeps_its_name() -> None:
    # Written down: checkpoints hold these names, so they may not change between versions.
    assert question_id(QUESTION) == "3b8bf871b4a4298b4f2415fa488f462d"


def test_a_question_has_one_name_in_every_container_and_key_order() -> None:
    turned = [{"content": turn["content"], "role": turn["role"]} for turn in QUESTION]

    assert question_id(np.array(QUESTION, dtype=object)) == question_id(QUESTION)
    assert question_id(turned) == question_id(QUESTION)


TURNS = st.lists(st.fixed_dictionaries({"role": st.text(), "content": st.text()}), max_size=3)


@given(one=TURNS, other=TURNS)
def test_questions_share_a_name_only_if_they_are_the_same(
    one: list[dict[str, str]], other: list[dict[str, str]]
) -> None:
    assert (question_id(one) == question_id(other)) == (one == other)


def extra(accuracy: float, **more: object) -> dict[str, object]:
    return {"reward_extra_info": {"acc": accuracy}, **more}


def test_right_rollouts_are_counted_by_group() -> None:
    outcomes = group_outcomes(
        [
            Group("easy", {0: 1.0, 1: 1.0, 2: 0.0}),
            Group("incomplete", {1: 0.0}),
            # Partly right is not right.
            Group("hard", {0: 0.0, 1: 0.5, 2: 0.999}),
            Group("taught", {1: 1.0, 2: 0.0}, demonstrations=1),
        ],
        expected=3,
    )

    assert outcomes == [
        Outcome("easy", correct=2, received=3, expected=3),
        Outcome("incomplete", correct=0, received=1, expected=3),
        Outcome("hard", correct=0, received=3, expected=3),
        Outcome("taught", correct=1, received=2, expected=2),
    ]


def test_trajectories_are_put_together_by_group_and_session() -> None:
    rows = [
        ("a_1_0", "q", extra(0.0)),
        ("b_0_0", "r", extra(1.0)),
        # A session of two trajectories: the last one counts, whatever order they come in.
        ("a_0_1", "q", extra(1.0)),
        ("a_0_0", "q", extra(0.0)),
    ]

    assert grouped(rows) == [Group("q", {1: 0.0, 0: 1.0}), Group("r", {0: 1.0})]


def test_a_demonstration_is_no_rollout_however_right_it_is() -> None:
    rows = [("a_0_0", "q", extra(1.0, demonstration=True)), ("a_1_0", "q", extra(0.0))]

    assert grouped(rows) == [Group("q", {1: 0.0}, demonstrations=1)]


def test_the_same_question_twice_in_a_batch_is_two_groups() -> None:
    groups = grouped([("a_0_0", "q", extra(1.0)), ("b_0_0", "q", extra(0.0))])
    outcomes = group_outcomes(groups, expected=1)

    assert [(o.question_id, o.correct) for o in outcomes] == [("q", 1), ("q", 0)]


def test_accuracy_comes_from_the_reward() -> None:
    assert _accuracy({"reward_extra_info": {"acc": True, "score": 0.3}}) == 1.0


@pytest.mark.parametrize("info", [None, {}, {"score": 1.0}])
def test_a_reward_that_reports_no_accuracy_is_an_error(info: dict[str, float] | None) -> None:
    with pytest.raises(RuntimeError, match="The reward must report `acc`"):
        _accuracy({"reward_extra_info": info})


def verl_buffer() -> ReplayBuffer:
    return ReplayBuffer(
        trainer_mode="sync",
        trainer_config=OmegaConf.create({}),
        max_off_policy_threshold=1,
        max_off_policy_strategy="drop",
        sampler_kwargs={},
        refill_fn=print,
        filter_groups_metric="acc",
        train_batch_size=4,
        gen_batch_size=4,
    )


def test_a_recording_buffer_takes_over_all_of_verls_settings() -> None:
    verl, names = verl_buffer(), list(inspect.signature(ReplayBuffer.__init__).parameters)[1:]

    recording = RecordingReplayBuffer.adopt(verl, rollouts_per_question=8, poll_interval_s=0.1)

    assert {n: getattr(recording, n) for n in names if n != "poll_interval"} == {
        n: getattr(verl, n) for n in names if n != "poll_interval"
    }
    assert recording.poll_interval == 0.1
    kept = RecordingReplayBuffer.adopt(verl, rollouts_per_question=8, poll_interval_s=None)
    assert kept.poll_interval == verl.poll_interval


def test_outcomes_are_taken_once_in_the_order_of_the_questions() -> None:
    recording = RecordingReplayBuffer.adopt(
        verl_buffer(), rollouts_per_question=2, poll_interval_s=None
    )
    recording.outcomes = [Outcome(name, 0, 2, 2) for name in ("c", "a", "b")]

    recording.tokens, recording.timing = 7, {"outcomes": 0.5}

    outcomes, tokens, timing = recording.take_outcomes()

    assert ([outcome.question_id for outcome in outcomes], tokens) == (["a", "b", "c"], 7)
    assert timing == {"outcomes": 0.5}
    assert recording.take_outcomes() == ([], 0, {})


def test_a_batch_is_ordered_by_question_and_session_whatever_order_it_came_in() -> None:
    def arrived(keys: list[str]) -> KVBatchMeta:
        tags = [{"of": key} for key in keys]
        return KVBatchMeta(partition_id="train", keys=keys, tags=tags, extra_info={"t": 1.0})

    first = in_fixed_order(arrived(["u_10_0", "v_0_0", "u_2_0", "u_2_1"]), ["b", "a", "b", "b"])
    second = in_fixed_order(arrived(["u_2_1", "u_10_0", "u_2_0", "v_0_0"]), ["b", "b", "b", "a"])

    assert first.keys == ["v_0_0", "u_2_0", "u_2_1", "u_10_0"]
    assert second.keys == first.keys
    assert [tag["of"] for tag in first.tags] == first.keys
    assert first.extra_info == {"t": 1.0}
