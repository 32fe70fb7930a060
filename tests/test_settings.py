"""The recipe's node: read whole, defaults where the method has none, every problem at once."""

from typing import Any

import pytest

from mifo_ext.settings import (
    HoldSettings,
    IntervalSettings,
    RlSettings,
    SftSettings,
)
from mifo_ext.settings_base import SettingsError
from mifo_ext.settings_demonstrations import DemonstrationSettings
from mifo_ext.settings_reader import parse_settings
from tests.support.recipe_nodes import MIFO, WRONG, node, problems_of

DATASET = DemonstrationSettings(source="dataset", file=None, server=None)


def test_the_papers_recipe_is_read_and_the_rest_is_filled_in() -> None:
    assert parse_settings(MIFO) == IntervalSettings(
        recipe="mifo",
        hard_at_most=0.125,
        buffer_size=64,
        sft=SftSettings(
            tokens="high_entropy",
            fraction=0.2,
            normalise="full_length",
            loss="nll",
            entropy_coeff=0.0,
            learning_rate_ratio=1.0,
            epochs=1,
            mini_batch_size=64,
            clip_norm=None,
            betas=None,
            eps=None,
            weight_decay=None,
            moments="own",
        ),
        hold=HoldSettings(entries="moved_most", fraction=0.5, decay=0.5, mode="exact", seed=0),
        demonstrations=DATASET,
    )


def test_every_key_can_be_set() -> None:
    settings = parse_settings(
        node(
            {
                "kind": "intervals",
                "sft.loss": "nll",
                "sft.learning_rate_ratio": 2,
                "sft.epochs": 3,
                "sft.mini_batch_size": 16,
                "sft.clip_norm": 0.5,
                "sft.betas": [0.9, 0.95],
                "sft.eps": 1e-6,
                "sft.weight_decay": 0,
                "sft.moments": "shared",
                "hold.mode": "gradient_mask",
                "hold.seed": 7,
            }
        )
    )

    assert isinstance(settings, IntervalSettings)
    sft, hold = settings.sft, settings.hold
    assert (sft.learning_rate_ratio, sft.epochs, sft.mini_batch_size) == (2.0, 3, 16)
    assert (sft.clip_norm, sft.betas, sft.eps) == (0.5, (0.9, 0.95), 1e-6)
    assert (sft.weight_decay, sft.moments) == (0.0, "shared")
    assert (hold.mode, hold.seed) == ("gradient_mask", 7)


def test_a_plain_recipe_needs_its_name_and_nothing_else() -> None:
    plain = parse_settings({"recipe": "grpo", "kind": "rl"})

    assert plain == RlSettings(recipe="grpo")
    assert plain.kind == "rl"


def test_a_plain_recipe_still_reports_a_key_that_does_not_exist() -> None:
    with pytest.raises(SettingsError, match=r"`interleave\.bufer_size` is not a setting"):
        parse_settings({"recipe": "grpo", "kind": "rl", "bufer_size": 3})


def test_fractions_are_not_asked_for_where_they_mean_nothing() -> None:
    settings = parse_settings(
        node(
            {
                "sft": {"tokens": "all", "normalise": "token_mean"},
                "hold": {"entries": "none", "fraction": None},
            }
        )
    )

    assert isinstance(settings, IntervalSettings)
    assert settings.sft.fraction == 1.0
    assert (settings.hold.fraction, settings.hold.decay) == (0.0, 0.0)


def test_a_fraction_that_means_nothing_is_checked_all_the_same() -> None:
    changes = {"sft.tokens": "all", "sft.fraction": 3, "hold.entries": "none", "hold.decay": 1}

    assert problems_of(changes) == (
        "`interleave.sft.fraction` must be a number in (0, 1], or null, but is 3.",
        "`interleave.hold.decay` must be a number in [0, 1), or null, but is 1.",
    )


def test_every_problem_is_reported_at_once() -> None:
    changes = {
        "hard_at_most": 2,
        "sft.fraction": 3,
        "sft.fracton": 0.2,
        "hold.entries": "moved",
        "hold.decay": 1,
    }

    problems = problems_of(changes, rollouts_per_question=1, train_rows=10)

    assert {problem.split(" ")[0] for problem in problems} == {
        "`interleave.hard_at_most`",
        "`interleave.sft.fraction`",
        "`interleave.sft.fracton`",
        "`interleave.hold.entries`",
        "`interleave.hold.decay`",
        "`actor_rollout_ref.rollout.n`",
        "`interleave.buffer_size`",
    }
    assert len(problems) == 7


@pytest.mark.parametrize(("key", "value", "expected"), WRONG, ids=lambda part: str(part)[:20])
def test_a_value_out_of_range_or_of_another_kind_is_refused(
    key: str, value: Any, expected: str
) -> None:
    shown = "null" if value is None else repr(value)

    assert f"`interleave.{key}` must be {expected}, but is {shown}." in problems_of({key: value})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("hard_at_most", 0),
        ("hard_at_most", 1),
        ("buffer_size", 1),
        ("sft.fraction", 1),
        ("hold.fraction", 0),
        ("hold.fraction", 1),
        ("hold.decay", 0),
        ("sft.betas", (0, 0.999)),
        ("sft.mini_batch_size", None),
    ],
)
def test_the_ends_of_a_range_that_belong_to_it_are_taken(key: str, value: Any) -> None:
    assert parse_settings(node({key: value}))


REQUIRED = [
    "recipe",
    "hard_at_most",
    "buffer_size",
    *["sft.tokens", "sft.fraction", "sft.normalise"],
    *["hold.entries", "hold.fraction", "hold.decay"],
]


@pytest.mark.parametrize("key", REQUIRED)
def test_a_constant_of_the_method_has_no_default(key: str) -> None:
    changed = node()
    *above, name = key.split(".")
    del (changed[above[0]] if above else changed)[name]

    with pytest.raises(SettingsError) as caught:
        parse_settings(changed)

    (problem,) = caught.value.problems
    assert problem.startswith(f"`interleave.{key}` must be ")
    assert problem.endswith(", but is missing.")
