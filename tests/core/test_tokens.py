"""Token selection: exact counts, the tie rule, and padding, order and layout that never matter."""

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mifo_ext.core.tokens import (
    demonstration_of_position,
    high_entropy_mask,
    high_entropy_mask_packed,
    kept_count,
)

# Hundredths are what people write; few entropy values make ties the normal case.
FRACTIONS = st.integers(1, 100).map(lambda percent: percent / 100)
TOKEN = st.tuples(st.sampled_from([0.0, 0.25, 0.5, 1.5]), st.booleans())
DEMONSTRATION = st.lists(TOKEN, max_size=9)
DEMONSTRATIONS = st.lists(DEMONSTRATION, min_size=1, max_size=5)
Rows = list[list[tuple[float, bool]]]


def padded(rows: Rows, *, width: int = 0, filler: float = 99.0) -> tuple[Tensor, Tensor]:
    """Entropies and response marks, right-padded with an entropy that would always win."""
    width = max([width, *map(len, rows)])
    entropy = torch.full((len(rows), width), filler)
    response = torch.zeros(len(rows), width, dtype=torch.bool)
    for row, tokens in enumerate(rows):
        for place, (value, is_response) in enumerate(tokens):
            entropy[row, place] = value
            response[row, place] = is_response
    return entropy, response


def packed(rows: Rows) -> tuple[Tensor, Tensor, Tensor]:
    tokens = [token for row in rows for token in row]
    entropy = torch.tensor([value for value, _ in tokens], dtype=torch.float32)
    response = torch.tensor([is_response for _, is_response in tokens], dtype=torch.bool)
    ends = torch.tensor([0, *map(len, rows)]).cumsum(0)
    return entropy, response, ends


def kept_by_hand(row: list[tuple[float, bool]], fraction: float) -> list[bool]:
    """The rule in plain Python: highest entropy first, then the earlier token."""
    places = [place for place, (_, is_response) in enumerate(row) if is_response]
    best = sorted(places, key=lambda place: (-row[place][0], place))
    count = math.ceil(Fraction(str(fraction)) * len(places))
    return [place in best[:count] for place in range(len(row))]


def test_keeps_the_most_uncertain_tokens_of_each_response() -> None:
    entropy = torch.tensor([[0.1, 2.0, 0.3, 1.0, 0.2], [9.0, 8.0, 7.0, 6.0, 5.0]])
    response = torch.tensor([[True] * 5, [True, True, False, False, False]])

    kept = high_entropy_mask(entropy, response, fraction=0.4)

    # ceil(0.4 * 5) = 2 of the first response; ceil(0.4 * 2) = 1 of the second.
    assert kept.tolist() == [[False, True, False, True, False], [True, False, False, False, False]]


def test_keeps_the_most_uncertain_tokens_when_prompts_and_responses_are_packed() -> None:
    #                        prompt 3 tokens   prompt 2
    entropy = torch.tensor([9.0, 0.1, 2.0, 0.3, 9.0, 9.0, 0.4])
    response = torch.tensor([False, True, True, True, False, False, True])

    kept = high_entropy_mask_packed(entropy, response, torch.tensor([0, 4, 7]), fraction=0.5)

    # ceil(0.5 * 3) = 2 of the first response, the only token of the second.
    assert kept.tolist() == [False, False, True, True, False, False, True]


def test_of_tied_tokens_the_earlier_wins() -> None:
    # 40 equal values: sorts that are not stable begin to shuffle at 17.
    entropy, response = torch.ones(1, 40), torch.ones(1, 40, dtype=torch.bool)

    kept = high_entropy_mask(entropy, response, fraction=0.25)
    kept_packed = high_entropy_mask_packed(
        entropy[0], response[0], torch.tensor([0, 40]), fraction=0.25
    )

    assert kept[0].tolist() == kept_packed.tolist() == [True] * 10 + [False] * 30


@pytest.mark.parametrize(
    ("tokens", "fraction", "count"),
    [(100, 0.07, 7), (100, 0.29, 29), (10, 0.2, 2), (11, 0.2, 3), (1, 0.01, 1), (0, 0.5, 0)],
)
def test_the_kept_count_is_the_ceiling_of_the_decimal_product(
    tokens: int, fraction: float, count: int
) -> None:
    # In floats 100 * 0.07 and 100 * 0.29 lie off 7 and 29.
    assert kept_count(tokens, fraction) == count


def test_the_kept_count_does_not_overflow() -> None:
    # The numerator has 16 digits: times the length it leaves 64 bits.
    assert kept_count(100_000, 0.1234567890123456) == 12346


def test_everything_is_kept_at_fraction_one_and_nothing_of_an_empty_response() -> None:
    entropy = torch.tensor([[1.0, 2.0], [1.0, 2.0]])
    response = torch.tensor([[True, True], [False, False]])

    assert torch.equal(high_entropy_mask(entropy, response, fraction=1.0), response)


@pytest.mark.parametrize("fraction", [0.0, -0.2, 1.01, float("nan")])
def test_a_fraction_outside_its_range_is_refused(fraction: float) -> None:
    entropy, response = torch.ones(2, 3), torch.ones(2, 3, dtype=torch.bool)
    none, offsets = torch.zeros(0), torch.tensor([0])

    with pytest.raises(ValueError, match=r"`fraction` must be in \(0, 1\], but is"):
        high_entropy_mask(entropy, response, fraction=fraction)
    with pytest.raises(ValueError, match=r"`fraction` must be in \(0, 1\], but is"):
        high_entropy_mask_packed(none, none.bool(), offsets, fraction=fraction)
    with pytest.raises(ValueError, match=r"`fraction` must be in \(0, 1\], but is"):
        kept_count(0, fraction)


@pytest.mark.parametrize("offsets", [[0, 2], [1, 3], [0, 4], [0, 2, 1, 3], []])
def test_offsets_that_do_not_cover_the_positions_are_refused(offsets: list[int]) -> None:
    entropy, response = torch.ones(3), torch.ones(3, dtype=torch.bool)

    with pytest.raises(ValueError, match="`offsets_B1` must run from 0 to 3 without falling"):
        high_entropy_mask_packed(
            entropy, response, torch.tensor(offsets, dtype=torch.long), fraction=0.5
        )


def test_each_position_knows_its_demonstration_also_next_to_an_empty_one() -> None:
    assert demonstration_of_position(torch.tensor([0, 2, 2, 3]), positions=3).tolist() == [0, 0, 2]


@given(DEMONSTRATIONS, FRACTIONS)
def test_both_layouts_keep_what_the_rule_says(rows: Rows, fraction: float) -> None:
    expected = [kept_by_hand(row, fraction) for row in rows]

    kept = high_entropy_mask(*padded(rows), fraction=fraction)
    entropy, response, offsets = packed(rows)
    kept_packed = high_entropy_mask_packed(entropy, response, offsets, fraction=fraction)

    for row, wanted in zip(kept.tolist(), expected, strict=True):
        assert row[: len(wanted)] == wanted
        assert not any(row[len(wanted) :])
    assert kept_packed.tolist() == [keep for row in expected for keep in row]


@given(DEMONSTRATIONS, FRACTIONS, st.integers(0, 20), st.sampled_from([-1.0, 0.25, math.nan]))
def test_padding_never_matters(rows: Rows, fraction: float, width: int, filler: float) -> None:
    plain = high_entropy_mask(*padded(rows), fraction=fraction)
    wide = high_entropy_mask(*padded(rows, width=width, filler=filler), fraction=fraction)

    assert torch.equal(wide[:, : plain.shape[1]], plain)
    assert not wide[:, plain.shape[1] :].any()


@given(DEMONSTRATIONS, FRACTIONS, st.randoms(use_true_random=False))
def test_batch_order_never_matters(rows: Rows, fraction: float, random: object) -> None:
    order = list(range(len(rows)))
    random.shuffle(order)  # type: ignore[attr-defined]
    entropy, response = padded(rows)

    kept = high_entropy_mask(entropy, response, fraction=fraction)
    shuffled = high_entropy_mask(entropy[order], response[order], fraction=fraction)

    assert torch.equal(shuffled, kept[order])


@given(DEMONSTRATIONS, FRACTIONS, st.integers(0, 5))
def test_micro_batches_of_whole_demonstrations_never_matter(
    rows: Rows, fraction: float, cut: int
) -> None:
    def kept(part: Rows) -> list[bool]:
        entropy, response, offsets = packed(part)
        return high_entropy_mask_packed(entropy, response, offsets, fraction=fraction).tolist()

    assert kept(rows[:cut]) + kept(rows[cut:]) == kept(rows)
