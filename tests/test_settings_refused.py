"""What a refusal of settings says, and that nothing slips through."""

import dataclasses
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
from mifo_ext.settings_reader import parse_settings
from tests.support.recipe_nodes import MIFO, WRONG, node, problems_of


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
