"""What each row of a mixed batch carries."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mifo_ext.core.mixed_rows import Row, Weights, row_weights, taught_groups

LEFT_OUT = Weights(False, 0.0, 0.0, 0.0, 0)


def group(name: str, *right: bool, demonstration: bool = True) -> list[Row]:
    """A question's demonstration, which is right, and its rollouts."""
    rollouts = [Row(name, False, one, 1.0 if one else -1.0) for one in right]
    return [Row(name, True, True, 0.5), *rollouts] if demonstration else rollouts


SOLVED = group("solved", True, False)
FAILED = group("failed", False, False)
ALONE = group("alone", False, False, demonstration=False)
ROWS = [*SOLVED, *FAILED, *ALONE]

ROW = st.builds(
    Row,
    group=st.sampled_from("abc"),
    is_demonstration=st.booleans(),
    right=st.booleans(),
    advantage=st.floats(-2, 2),
)
RULES = st.fixed_dictionaries(
    {
        "hard_at_most": st.none() | st.sampled_from([0.0, 0.25, 0.5, 1.0]),
        "coeff": st.sampled_from([0.0, 0.25, 1.0]),
        "convex": st.booleans(),
        "signed": st.booleans(),
    }
)


def carried(rows: list[Row], **changes: object) -> list[Weights]:
    rules = {"hard_at_most": None, "coeff": 0.25, "convex": False, "signed": False} | changes
    return row_weights(rows, **rules)  # type: ignore[arg-type]


def test_without_a_gate_every_group_with_a_demonstration_is_taught() -> None:
    assert taught_groups(ROWS, hard_at_most=None) == {"solved", "failed"}


@pytest.mark.parametrize(
    ("hard_at_most", "taught"), [(0.0, {"failed"}), (0.25, {"failed"}), (0.5, {"failed", "solved"})]
)
def test_the_gate_teaches_groups_whose_own_rollouts_fail(
    hard_at_most: float, taught: set[str]
) -> None:
    # A right demonstration is no rollout: `solved` has 1 of 2, `failed` 0 of 2.
    assert taught_groups(ROWS, hard_at_most=hard_at_most) == taught


def test_a_demonstration_without_rollouts_is_not_known_to_be_hard() -> None:
    assert taught_groups(group("new"), hard_at_most=1.0) == set()
    assert taught_groups(group("new"), hard_at_most=None) == {"new"}


def test_luffy_leaves_rollouts_alone_and_gives_demonstrations_their_advantage() -> None:
    weights = carried(ROWS, coeff=0.0)

    demonstration, rollout = Weights(True, 0.0, 0.5, 0.0, 0), Weights(True, 1.0, 0.0, 0.0, 0)
    assert weights == [demonstration, rollout, rollout] * 2 + [rollout] * 2


def test_srft_says_right_or_wrong_in_place_of_an_advantage() -> None:
    weights = carried(SOLVED, signed=True)

    assert weights == [
        Weights(True, 0.0, 0.5, 0.25, 0),
        Weights(True, 0.0, 0.0, 0.0, 1),
        Weights(True, 0.0, 0.0, 0.0, -1),
    ]


def test_hpt_trains_on_either_the_demonstration_or_the_rollouts() -> None:
    weights = carried(ROWS, hard_at_most=0.0)

    rollout = Weights(True, 1.0, 0.0, 0.0, 0)
    assert weights[:3] == [LEFT_OUT, rollout, rollout]
    assert weights[3:6] == [Weights(True, 0.0, 0.5, 0.25, 0), LEFT_OUT, LEFT_OUT]
    # Failed as well, but there is nothing to learn it from.
    assert weights[6:] == [rollout, rollout]


def test_chord_weighs_rollouts_with_what_the_coefficient_leaves() -> None:
    weights = carried([*SOLVED, *ALONE], convex=True)

    assert [one.likelihood_weight for one in weights] == [0.25, 0.0, 0.0, 0.0, 0.0]
    assert [one.advantage_factor for one in weights] == [0.0, 0.75, 0.75, 0.75, 0.75]


def test_a_gate_leaves_signed_rollouts_out_as_well() -> None:
    assert carried(FAILED, hard_at_most=0.0, signed=True)[1:] == [LEFT_OUT, LEFT_OUT]


@given(st.lists(ROW, max_size=12), RULES, st.randoms())
def test_the_order_of_rows_never_matters(
    rows: list[Row], rules: dict[str, object], random: object
) -> None:
    order = list(range(len(rows)))
    random.shuffle(order)  # type: ignore[attr-defined]

    shuffled = carried([rows[n] for n in order], **rules)

    assert shuffled == [carried(rows, **rules)[n] for n in order]


@given(st.lists(ROW, max_size=12), RULES)
def test_a_row_that_is_left_out_carries_nothing_and_others_carry_their_own_kind(
    rows: list[Row], rules: dict[str, object]
) -> None:
    for row, one in zip(rows, carried(rows, **rules), strict=True):
        if not one.trained:
            assert one == LEFT_OUT
        elif row.is_demonstration:
            assert (one.advantage_factor, one.right_or_wrong) == (0.0, 0)
        else:
            assert (one.demonstration_advantage, one.likelihood_weight) == (0.0, 0.0)


@given(st.lists(ROW, max_size=12), RULES)
def test_without_a_gate_every_row_is_trained_on(rows: list[Row], rules: dict[str, object]) -> None:
    weights = carried(rows, **(rules | {"hard_at_most": None}))
    assert all(one.trained for one in weights)


def test_no_rows_carry_nothing() -> None:
    assert carried([]) == []
    assert taught_groups([], hard_at_most=0.0) == set()
