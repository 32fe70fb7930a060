"""What loops do to all pieces at once is what torch's operations do to each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mifo_ext.core.importance import float_bits
from mifo_ext.core.kth_largest import LARGEST, Band
from mifo_ext.core.masked_adamw import MODES
from mifo_ext.core.passes import TORCH, EndedPhase
from mifo_ext.core.pieces import Pieces, each_alone, one_piece
from mifo_ext.core.placed_keys import Aside
from mifo_ext.loops import LOOPS, blocks
from mifo_ext.loops.blocks import BLOCK
from tests.support.many_pieces import (
    Way,
    check_a_copy,
    check_a_step,
    check_an_ended_phase,
    ended_phase,
)

WAY = Way(LOOPS, BLOCK, torch.device("cpu"))


@pytest.fixture(params=[1, 2, 5])
def threads(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """So many, which take turns at fewer blocks or more."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    monkeypatch.setattr(blocks, "_WORTH_A_THREAD", 1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("carried", [False, True])
@pytest.mark.parametrize("room", [5, 4 * BLOCK])
def test_an_ended_phase_is_weighed_and_looked_at(carried: bool, room: int) -> None:
    check_an_ended_phase(WAY, carried=carried, room=room)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("shift", [0, 1])
@pytest.mark.parametrize("mode", MODES)
def test_a_step_takes_pieces_wherever_they_lie(shift: int, mode: str) -> None:
    check_a_step(WAY, shift=shift, mode=mode)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("shift", [0, 1, 16])
def test_values_are_copied(shift: int) -> None:
    check_a_copy(WAY, shift=shift)


def test_a_step_without_a_mask_takes_all() -> None:
    check_a_step(WAY, shift=0, held=False)


@settings(deadline=None)
@given(
    lengths=st.lists(
        st.integers(1, 50) | st.sampled_from([BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 7]),
        min_size=1,
        max_size=4,
    ),
    start=st.integers(0, 10**6),
    stride=st.integers(1, 300) | st.sampled_from([BLOCK - 1, BLOCK, BLOCK + 1, 5 * BLOCK]),
)
def test_a_sample_is_every_so_manyth_of_each_parameter(
    lengths: list[int], start: int, stride: int
) -> None:
    starts = [WAY.drawn(length, i) for i, length in enumerate(lengths)]
    zeros = [torch.zeros(length) for length in lengths]
    length_Q = torch.tensor(lengths)
    pieces = each_alone(Pieces(length_Q, length_Q, length_Q, length_Q))
    phase = EndedPhase(starts, zeros, None, None, pieces, 0.0)
    start_Q = start + length_Q.cumsum(0)
    expected = [
        float_bits(start_N.abs())[-int(at) % stride :: stride]
        for start_N, at in zip(starts, start_Q, strict=True)
    ]
    assert LOOPS.sample_of is not None
    assert torch.equal(LOOPS.sample_of(phase, start_Q, stride), torch.cat(expected))


def test_a_sample_has_no_improper_key() -> None:
    phase = ended_phase(WAY, carried=False)
    phase.starts[0][0], phase.starts[1][2] = float("nan"), float("-inf")
    assert LOOPS.sample_of is not None
    assert int(LOOPS.sample_of(phase, torch.zeros(4, dtype=torch.int64), 1).min()) == 0


@settings(deadline=None)
@given(lengths=st.lists(st.sampled_from([1, 64, 77, BLOCK, BLOCK + 9]), min_size=1, max_size=3))
def test_keys_of_many_pieces_are_counted_as_those_of_each(lengths: list[int]) -> None:
    importances = [WAY.drawn(length, i).abs() for i, length in enumerate(lengths)]
    importances[-1][-1] = float("inf")
    bytes_Q = -(-torch.tensor(lengths) // 8)
    place_Q = 8 * (bytes_Q.cumsum(0) - bytes_Q)
    pieces = each_alone(Pieces(place_Q, place_Q, torch.tensor(lengths), place_Q))
    found = []
    for passes in (TORCH, LOOPS):
        aside = Aside(sum(lengths), torch.device("cpu"))
        mask_P = torch.full((int(bytes_Q.sum()),), 255, dtype=torch.uint8)
        counts_Q3 = torch.zeros(len(lengths), 3, dtype=torch.int64)
        band = Band(1 << 29, LARGEST - 1)
        if passes.around_of is not None:
            counts_Q3 = passes.around_of(importances, pieces, band, aside, mask_P)
        else:
            parts = zip(
                importances, place_Q.tolist(), torch.split(mask_P, bytes_Q.tolist()), counts_Q3,
                strict=True,
            )  # fmt: skip
            for importance_N, place, part_P, counts_3 in parts:
                keys_N = float_bits(importance_N)
                passes.around(keys_N, importance_N, band, aside, place, part_P, counts_3)
        kept_K = aside.placed_K[: int(aside.used)].sort().values
        # An improper number shows in its block's count, whatever the count is.
        found.append((counts_Q3[:, :2].tolist(), (counts_Q3[:, 2] > 0).tolist(), kept_K, mask_P))
    assert found[0][:2] == found[1][:2]
    assert all(torch.equal(one, other) for one, other in zip(*(f[2:] for f in found), strict=True))


def test_each_thread_takes_blocks_of_a_large_model_and_one_takes_those_of_a_small_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before, calls = torch.get_num_threads(), []
    torch.set_num_threads(3)
    monkeypatch.setattr(blocks, "each", lambda work, items: calls.append(list(items)))
    try:
        for entries in (1, 1 << 20, 2 << 20, 9 << 20):
            assert LOOPS.squared_norms_of is not None
            LOOPS.squared_norms_of([torch.zeros(entries)], None, one_piece(entries))
    finally:
        torch.set_num_threads(before)
    assert calls == [[0], [0], [0, 1], [0, 1, 2]]
