"""The nodes of recipes without SFT intervals: RL alone, phases, demonstrations among rollouts."""

import copy
from typing import Any

import pytest

from mifo_ext.settings import PhaseSftSettings, PhasesSettings, RlSettings, Settings
from mifo_ext.settings_base import SettingsError
from mifo_ext.settings_demonstrations import DemonstrationSettings
from mifo_ext.settings_mixed import MixedSettings, NllSettings
from mifo_ext.settings_reader import parse_settings

DATASET = DemonstrationSettings(source="dataset", file=None, server=None)
# What a scale gives to every recipe.
BATCHES = {"epochs": 6, "mini_batch_size": 8}
PHASES: dict[str, Any] = {
    "recipe": "sft_then_rl",
    "kind": "phases",
    "order": ["sft", "rl"],
    "switch_at": 0.5,
    "sft": {"tokens": "all", "normalise": "token_mean", "learning_rate_ratio": 10, **BATCHES},
    "demonstrations": {"source": "dataset"},
}
MIXED: dict[str, Any] = {
    "recipe": "srft",
    "kind": "mixed",
    "baseline": "group",
    "rollout_loss": "signed_likelihood",
    "right_coeff": 0.1,
    "shaping": 0.1,
    "nll": {"coeff": 0.5, "weight": "certainty"},
    "sft": BATCHES,
    "demonstrations": {"source": "dataset"},
}


def read(base: dict[str, Any], changes: dict[str, Any], **checks: Any) -> Settings:
    changed = copy.deepcopy(base)
    for dotted, value in changes.items():
        *above, name = dotted.split(".")
        below = changed
        for part in above:
            below = below[part]
        below[name] = value
    return parse_settings(changed, **checks)


def problems(base: dict[str, Any], changes: dict[str, Any], **checks: Any) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        read(base, changes, **checks)
    return caught.value.problems


def test_rl_alone_ignores_the_batches_that_a_scale_gives_to_sft() -> None:
    assert parse_settings({"recipe": "grpo", "kind": "rl", "sft": BATCHES}) == RlSettings(
        recipe="grpo"
    )


def test_phases_are_read_whole() -> None:
    assert read(PHASES, {}) == PhasesSettings(
        recipe="sft_then_rl",
        order=("sft", "rl"),
        switch_at=0.5,
        rl_files=None,
        sft=PhaseSftSettings(
            tokens="all",
            fraction=1.0,
            normalise="token_mean",
            loss="nll",
            entropy_coeff=0.0,
            learning_rate_ratio=10.0,
            mini_batch_size=8,
        ),
        demonstrations=DATASET,
    )


def test_one_phase_needs_no_switch() -> None:
    settings = read(PHASES, {"order": ["sft"], "switch_at": None})

    assert isinstance(settings, PhasesSettings)
    assert (settings.order, settings.switch_at) == (("sft",), 1.0)


def test_rl_may_have_files_of_its_own_one_or_several() -> None:
    one, two = read(PHASES, {"rl_files": "a"}), read(PHASES, {"rl_files": ["a", "b"]})

    assert isinstance(one, PhasesSettings)
    assert isinstance(two, PhasesSettings)
    assert (one.rl_files, two.rl_files) == (("a",), ("a", "b"))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"order": ["rl"]}, "`interleave.order` must be [sft], [sft, rl] or [rl, sft]"),
        ({"order": ["sft", "sft"]}, "`interleave.order` must be [sft], [sft, rl] or [rl, sft]"),
        ({"switch_at": 0}, "`interleave.switch_at` must be a share of the run's steps in (0, 1)"),
        ({"switch_at": 2.5}, "`interleave.switch_at` must be a share of the run's steps"),
        ({"switch_at": None}, "`interleave.switch_at` must be a share of the run's steps"),
        ({"switch_at": 40}, "`interleave.switch_at` must be below the run's 40 steps, but is 40"),
        ({"sft.clip_norm": 1.0}, "`interleave.sft.clip_norm` must be null in a phase of SFT alone"),
        ({"rl_files": 3}, "`interleave.rl_files` must be a file or a list of files"),
        (
            {"order": ["sft"], "switch_at": None, "rl_files": "a"},
            "`interleave.rl_files` must be null without a phase of RL",
        ),
    ],
)
def test_phases_that_cannot_be_run_are_refused(changes: dict[str, Any], expected: str) -> None:
    (problem,) = problems(PHASES, changes, total_steps=40)
    assert problem.startswith(expected)


def test_mixed_groups_are_read_whole() -> None:
    assert read(MIXED, {}) == MixedSettings(
        recipe="srft",
        baseline="group",
        hard_at_most=None,
        rollout_loss="signed_likelihood",
        right_coeff=0.1,
        shaping=0.1,
        nll=NllSettings(
            coeff=0.5,
            final_coeff=None,
            decay_over=None,
            convex=False,
            weight="certainty",
            tokens="all",
        ),
        demonstrations=DATASET,
    )


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"shaping": 0}, "`interleave.shaping` must be a number above 0, or null, but is 0"),
        ({"shaping": -0.1}, "`interleave.shaping` must be a number above 0, or null"),
        ({"right_coeff": None}, "`interleave.right_coeff` must be a number above 0"),
        ({"nll.coeff": -1}, "`interleave.nll.coeff` must be a number, at least 0"),
        ({"nll.coeff": 1.5, "nll.convex": True}, "`interleave.nll.coeff` must be a number in [0"),
        ({"nll.final_coeff": 0.1}, "`interleave.nll.decay_over` must be a share of the run's"),
        (
            {"nll.final_coeff": 0.1, "nll.decay_over": 200},
            "`interleave.nll.decay_over` must be at most the run's 40 steps, but is 200",
        ),
        ({"baseline": "all"}, "`interleave.baseline` must be one of `group`, `rollouts`"),
        (
            {"shaping": None, "nll.coeff": 0},
            "`interleave.shaping` or `interleave.nll.coeff` must give demonstrations a loss",
        ),
        ({"demonstrations.source": "web"}, "`interleave.demonstrations.source` must be one of"),
    ],
)
def test_mixed_groups_that_cannot_be_run_are_refused(
    changes: dict[str, Any], expected: str
) -> None:
    (problem,) = problems(MIXED, changes, total_steps=40, rollouts_per_question=8)
    assert problem.startswith(expected)


def test_a_mixed_group_needs_two_rollouts_beside_its_demonstration() -> None:
    (problem,) = problems(MIXED, {}, rollouts_per_question=2)

    assert problem.startswith("`actor_rollout_ref.rollout.n` must be at least 3, but is 2")
    assert read(MIXED, {}, rollouts_per_question=3)
