"""What one launch does to all pieces is what torch's operations do to each; see `kernels.py`."""

from __future__ import annotations

import copy

import pytest
import torch

from mifo_ext.core.adamw import AdamWSettings, Moments
from mifo_ext.core.importance import float_bits
from mifo_ext.core.kth_largest import Band
from mifo_ext.core.passes import TORCH, EndedPhase
from mifo_ext.core.pieces import Pieces, each_alone
from mifo_ext.core.placed_keys import Aside
from mifo_ext.gpu import KERNELS
from mifo_ext.gpu.table import BLOCK
from tests.gpu.kernels import DEVICE, drawn, follow, mask


@pytest.mark.parametrize("carried", [False, True])
@pytest.mark.parametrize("room", [5, 4 * BLOCK])
def test_an_ended_phase_is_weighed_and_looked_at_in_one_launch(carried: bool, room: int) -> None:
    counts = [2 * BLOCK, 3, BLOCK + 5, 77]
    place = torch.tensor([0, 2 * BLOCK, 2 * BLOCK + 8, 3 * BLOCK + 16])
    pieces = each_alone(Pieces(place, place, torch.tensor(counts), place))
    starts, ends, before = ([drawn(n, 10 * i + n) for n in counts] for i in range(3))
    packed = mask(3 * BLOCK + 16 + 80, 5)
    history = ([h.abs() for h in before], packed) if carried else (None, None)
    phase = EndedPhase(starts, ends, *history, pieces, 0.3)
    expected = copy.deepcopy(starts)
    assert KERNELS.sample_of is not None
    assert KERNELS.weigh_around_of_ is not None

    start_Q = torch.tensor([BLOCK, 0, 1, 40])
    sample = KERNELS.sample_of(phase, start_Q, 7)
    assert all(torch.equal(a, b) for a, b in zip(starts, expected, strict=True))
    band, above = Band(1 << 29, 0x3F000000), torch.full_like(packed, 255)
    aside = Aside(room, DEVICE)
    found, totals = KERNELS.weigh_around_of_(phase, band, aside, above)

    there, sampled, sums = Aside(room, DEVICE), [], torch.zeros(2, device=DEVICE)
    for i, (start_N, at) in enumerate(zip(expected, place.tolist(), strict=True)):
        inside = slice(at // 8, -(-(at + counts[i]) // 8))
        carry = (history[0][i], packed[inside]) if carried else (None, None)
        sums += TORCH.weigh_(start_N, ends[i], *carry, decay=0.3)
        keys, part = float_bits(start_N), torch.full_like(packed[inside], 255)
        counts_3 = torch.zeros(3, dtype=torch.int64, device=DEVICE)
        TORCH.around(keys, start_N, band, there, at, part, counts_3)
        assert torch.equal(above[inside], part)
        assert found[i].tolist() == counts_3.tolist()
        assert torch.equal(float_bits(starts[i]), keys)
        sampled.append(keys[-int(start_Q[i]) % 7 :: 7])
    assert torch.equal(sample, torch.cat(sampled))
    assert totals.tolist() == pytest.approx(sums.tolist(), rel=1e-5)
    assert int(aside.used) == int(found[:, 1].sum()) > 5
    if room > 5:
        kept = [a.placed_K[: int(aside.used)].sort().values for a in (aside, there)]
        assert torch.equal(*kept)


def test_values_are_copied_in_one_launch() -> None:
    counts = [2 * BLOCK, 3, BLOCK + 5, 77]
    sources, lengths = [drawn(count, count) for count in counts], torch.tensor(counts)
    targets = [torch.zeros(count + 1, device=DEVICE) for count in counts]
    place = torch.zeros_like(lengths)  # In a mask, of which there is none here.
    assert KERNELS.copy_of_ is not None
    KERNELS.copy_of_(targets, sources, each_alone(Pieces(place, place, lengths, place)))
    for target_N, source_N in zip(targets, sources, strict=True):
        assert torch.equal(target_N[:-1], source_N)
        assert target_N[-1] == 0  # Nothing is written behind the last.


@pytest.mark.parametrize("shift", [0, 1])
def test_many_pieces_are_one_launch_wherever_they_lie(shift: int) -> None:
    spans = [(0, 0, 100), (1, shift, 3), (1, shift + 8, BLOCK + 5), (2, 4, 64)]
    tensor, first, length = (torch.tensor(row) for row in zip(*spans, strict=True))
    place = torch.tensor([0, 104, 112, 112 + BLOCK + 8])
    pieces = Pieces(tensor, first, length, place)
    packed = mask(112 + BLOCK + 8 + 64, 5)
    weights = [drawn(count, i) for i, count in enumerate([100, BLOCK + 50, 68])]
    gradients = [drawn(len(weight), 10 + i) for i, weight in enumerate(weights)]
    moments = [Moments(torch.zeros_like(w), torch.zeros_like(w)) for w in weights]
    expected = copy.deepcopy((weights, moments))
    assert KERNELS.squared_norms_of is not None
    assert KERNELS.masked_adamw_of_ is not None
    norms = KERNELS.squared_norms_of(gradients, packed, pieces)
    change = KERNELS.masked_adamw_of_(
        weights, gradients, moments, packed, pieces, moments_at=pieces, steps=[1, 7, 2],
        lr=0.1, settings=AdamWSettings(),
    )  # fmt: skip
    sums, changed = torch.zeros(2, device=DEVICE), 0.0
    for (t, a, n), at in zip(spans, place.tolist(), strict=True):
        inside, held = slice(a, a + n), packed[at // 8 : -(-(at + n) // 8)]
        sums += TORCH.squared_norms(gradients[t][inside], held)
        changed += TORCH.masked_adamw_(
            expected[0][t][inside], gradients[t][inside],
            Moments(*(m[inside] for m in expected[1][t])), held=held, step=[1, 7, 2][t], lr=0.1,
            settings=AdamWSettings(),
        ).item()  # fmt: skip
    assert norms.tolist() == pytest.approx(sums.tolist(), rel=1e-5)
    assert change.item() == pytest.approx(changed, rel=1e-5)
    for mine, theirs in zip((weights, moments), expected, strict=True):
        for a, b in zip(mine, theirs, strict=True):
            for x, y in zip(
                a if isinstance(a, tuple) else (a,),
                b if isinstance(b, tuple) else (b,),
                strict=True,
            ):
                follow(x, y, moved=1.0)
