"""The recipe's node: read whole, defaults where the method has none, every problem at once."""

import copy
import dataclasses
import math
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mifo_ext.settings import (
    HoldSettings,
    IntervalSettings,
    RlSettings,
    SftSettings,
)
from mifo_ext.settings_base import SettingsError
from mifo_ext.settings_demonstrations import DemonstrationSettings
from mifo_ext.settings_reader import parse_settings

MIFO: dict[str, Any] = {
    "recipe": "mifo",
    "hard_at_most": 0.125,
    "buffer_size": 64,
    "sft": {"tokens": "high_entropy", "fraction": 0.2, "normalise": "full_length"},
    "hold": {"entries": "moved_most", "fraction": 0.5, "decay": 0.5},
    "demonstrations": {"source": "dataset"},
}
DATASET = DemonstrationSettings(source="dataset", file=None, server=None)


def node(changes: dict[str, Any] | None = None) -> dict[str, Any]:
    """MIFO's node with some keys changed, given by dotted name."""
    changed = copy.deepcopy(MIFO)
    for dotted, value in (changes or {}).items():
        *above, name = dotted.split(".")
        below = changed
        for part in above:
            below = below[part]
        below[name] = value
    return changed


def problems_of(changes: dict[str, Any], **checks: Any) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        parse_settings(node(changes), **checks)
    return caught.value.problems


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


WRONG = [
    ("recipe", " ", "a name"),
    ("recipe", 3, "a name"),
    ("kind", "interval", "one of `rl`, `intervals`, `phases`, `mixed`"),
    ("hard_at_most", -0.1, "a number in [0, 1]"),
    ("hard_at_most", 1.1, "a number in [0, 1]"),
    ("hard_at_most", True, "a number in [0, 1]"),
    ("hard_at_most", "0.1", "a number in [0, 1]"),
    ("hard_at_most", math.nan, "a number in [0, 1]"),
    ("hard_at_most", None, "a number in [0, 1]"),
    ("buffer_size", 0, "a whole number, at least 1"),
    ("buffer_size", 64.0, "a whole number, at least 1"),
    ("buffer_size", True, "a whole number, at least 1"),
    ("sft.tokens", "most", "one of `high_entropy`, `all`"),
    ("sft.tokens", ["all"], "one of `high_entropy`, `all`"),
    ("sft.fraction", 0, "a number in (0, 1]"),
    ("sft.fraction", 3, "a number in (0, 1]"),
    ("sft.normalise", "mean", "one of `full_length`, `token_mean`"),
    ("sft.loss", "mse", "one of `nll`, `dft`"),
    ("sft.entropy_coeff", -0.1, "a number, at least 0"),
    ("sft.learning_rate_ratio", 0, "a number above 0"),
    ("sft.learning_rate_ratio", math.inf, "a number above 0"),
    ("sft.learning_rate_ratio", 10**400, "a number above 0"),
    ("sft.epochs", 0, "a whole number, at least 1"),
    ("sft.mini_batch_size", 0, "a whole number, at least 1, or null"),
    ("sft.clip_norm", 0, "a number above 0, or null"),
    ("sft.betas", [0.9, 1], "two numbers in [0, 1), or null"),
    ("sft.betas", [0.9], "two numbers in [0, 1), or null"),
    ("sft.betas", 0.9, "two numbers in [0, 1), or null"),
    ("sft.betas", "ab", "two numbers in [0, 1), or null"),
    ("sft.eps", 0, "a number above 0, or null"),
    ("sft.weight_decay", -1e-9, "a number, at least 0, or null"),
    ("sft.moments", "none", "one of `own`, `shared`"),
    (
        "hold.entries",
        "all",
        "one of `moved_most`, `moved_least`, `random`, `largest_weight`, `none`",
    ),
    ("hold.fraction", 1.5, "a number in [0, 1]"),
    ("hold.decay", 1, "a number in [0, 1)"),
    ("hold.decay", -0.5, "a number in [0, 1)"),
    ("hold.mode", "freeze", "one of `exact`, `gradient_mask`"),
    ("hold.seed", -1, "a whole number, at least 0"),
]


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


def test_an_unknown_key_is_answered_with_the_closest_and_all_known_ones() -> None:
    assert problems_of({"hold.fracton": 0.5}) == (
        "`interleave.hold.fracton` is not a setting. Did you mean `fraction`? "
        "Settings here: entries, fraction, decay, mode, seed.",
    )
    assert problems_of({"zzz": 1}) == (
        "`interleave.zzz` is not a setting. "
        "Settings here: recipe, kind, hard_at_most, buffer_size, sft, hold, demonstrations.",
    )


@pytest.mark.parametrize("value", [None, 3, "moved_most", ["entries"]])
def test_a_part_that_is_no_mapping_is_one_problem(value: Any) -> None:
    shown = "null" if value is None else repr(value)

    assert problems_of({"hold": value}) == (
        f"`interleave.hold` must be a mapping, but is {shown}.",
    )


@pytest.mark.parametrize("value", [None, "mifo", 3])
def test_a_missing_node_names_the_way_to_choose_a_recipe(value: Any) -> None:
    with pytest.raises(SettingsError, match=r"`interleave` must be a mapping.*\+recipe=mifo"):
        parse_settings(value)


def test_mini_batches_must_divide_the_buffer() -> None:
    assert problems_of({"sft.mini_batch_size": 48}) == (
        "`interleave.sft.mini_batch_size` must divide `interleave.buffer_size` (64), but is 48.",
    )
    assert len(problems_of({"sft.mini_batch_size": 128})) == 1
    # Of a buffer size that is wrong itself, only that is said.
    assert len(problems_of({"buffer_size": "64", "sft.mini_batch_size": 48})) == 1


def test_the_method_needs_two_rollouts_and_as_many_questions_as_the_buffer_holds() -> None:
    assert len(problems_of({}, rollouts_per_question=1, train_rows=63)) == 2
    assert parse_settings(MIFO, rollouts_per_question=2, train_rows=64)


def test_the_message_lists_the_problems_and_survives_the_trip_between_processes() -> None:
    error = SettingsError(["`a` is wrong.", "`b` is wrong."])

    again = pickle.loads(pickle.dumps(error))

    assert again.problems == ("`a` is wrong.", "`b` is wrong.")
    assert str(again) == str(error)
    assert str(error).startswith("2 problems in the settings (")
    assert str(error).endswith("\n  - `a` is wrong.\n  - `b` is wrong.")
    assert str(SettingsError(["`a` is wrong."])).startswith("1 problem in")


@pytest.mark.parametrize("settings", [IntervalSettings, SftSettings, HoldSettings, RlSettings])
def test_settings_are_frozen_and_keyword_only(settings: Any) -> None:
    assert settings.__dataclass_params__.frozen
    assert all(field.kw_only for field in dataclasses.fields(settings))


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
KEYS = st.sampled_from([key for key, _, _ in WRONG] + ["sft", "hold", "sft.other", "hold.3"])


@given(KEYS, ANYTHING)
def test_whatever_a_value_is_it_is_taken_or_refused_by_name(key: str, value: Any) -> None:
    changed = node({key: value})
    before = repr(changed)
    problems: tuple[str, ...] = ()
    try:
        assert parse_settings(changed, rollouts_per_question=8, train_rows=1000).recipe
    except SettingsError as error:
        problems = error.problems

    assert all(f"`interleave.{key.split('.')[0]}" in problem for problem in problems)
    assert repr(changed) == before
