"""What is done to all pieces of a model at once is what torch's operations do to each."""

from __future__ import annotations

import copy
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from mifo_ext.core.adamw import AdamWSettings, Moments
from mifo_ext.core.importance import float_bits
from mifo_ext.core.kth_largest import Band
from mifo_ext.core.packed_bits import pack_bits
from mifo_ext.core.passes import TORCH, EndedPhase, Passes
from mifo_ext.core.pieces import Pieces, each_alone
from mifo_ext.core.placed_keys import Aside


class Way(NamedTuple):
    """What is compared with torch: passes, how many entries they take at once, and where."""

    passes: Passes
    block: int
    device: torch.device

    def drawn(self, count: int, seed: int) -> Tensor:
        """Numbers of which some are equal, and some are zero."""
        generator = torch.Generator().manual_seed(seed)
        number = torch.randn(count, generator=generator)
        equal = torch.rand(count, generator=generator) < 0.3
        return torch.where(equal, number.round(), number).to(self.device)

    def mask(self, count: int, seed: int) -> Tensor:
        """Bits, packed."""
        return pack_bits(self.drawn(count, seed) > 0)


def follow(ours: Tensor, theirs: Tensor, *, moved: float) -> None:
    """But for roundings of the update, of this size at most, and of the last bit."""
    torch.testing.assert_close(ours, theirs, rtol=2**-22, atol=2e-6 * moved)


def _lengths_and_places(block: int) -> tuple[list[int], Tensor]:
    lengths = [2 * block, 3, block + 5, 77]
    return lengths, torch.tensor([0, 2 * block, 2 * block + 8, 3 * block + 16])


def ended_phase(way: Way, *, carried: bool) -> EndedPhase:
    """A phase whose pieces are shorter than a block, as long as some, and a little longer."""
    lengths, place = _lengths_and_places(way.block)
    starts, ends, before = ([way.drawn(n, 10 * i + n) for n in lengths] for i in range(3))
    history = ([h.abs() for h in before], way.mask(3 * way.block + 96, 5))
    pieces = each_alone(Pieces(place, place, torch.tensor(lengths), place))
    return EndedPhase(starts, ends, *(history if carried else (None, None)), pieces, 0.3)


def check_an_ended_phase(way: Way, *, carried: bool, room: int) -> None:
    """It is sampled, weighed and looked at."""
    phase = ended_phase(way, carried=carried)
    expected, place = copy.deepcopy(phase.starts), phase.pieces.place.tolist()
    assert way.passes.sample_of is not None
    assert way.passes.weigh_around_of_ is not None

    start_Q = torch.tensor([way.block, 0, 1, 40])
    sample = way.passes.sample_of(phase, start_Q, 7)
    assert all(torch.equal(a, b) for a, b in zip(phase.starts, expected, strict=True))
    band = Band(1 << 29, 0x3F000000)
    above = torch.full((place[-1] // 8 + 10,), 255, dtype=torch.uint8, device=way.device)
    aside = Aside(room, way.device)
    found, totals = way.passes.weigh_around_of_(phase, band, aside, above)

    there, sampled, sums = Aside(room, way.device), [], torch.zeros(2, device=way.device)
    for i, (start_N, at) in enumerate(zip(expected, place, strict=True)):
        inside = slice(at // 8, -(-(at + start_N.numel()) // 8))
        before = (None, None)
        if phase.histories is not None and phase.carried is not None:
            before = (phase.histories[i], phase.carried[inside])
        sums += TORCH.weigh_(start_N, phase.ends[i], *before, decay=0.3)
        keys, part = float_bits(start_N), torch.full_like(above[inside], 255)
        counts_3 = torch.zeros(3, dtype=torch.int64, device=way.device)
        TORCH.around(keys, start_N, band, there, at, part, counts_3)
        assert torch.equal(above[inside], part)
        assert found[i].tolist() == counts_3.tolist()
        assert torch.equal(float_bits(phase.starts[i]), keys)
        sampled.append(keys[-int(start_Q[i]) % 7 :: 7])
    assert torch.equal(sample, torch.cat(sampled))
    assert totals.tolist() == pytest.approx(sums.tolist(), rel=1e-5)
    inside = int(found[:, 1].sum())
    # Where no more have room, those that are looked at later need not be counted.
    assert room < int(aside.used) <= inside if room < inside else int(aside.used) == inside
    if room >= inside:
        kept = [a.placed_K[: int(aside.used)].sort().values for a in (aside, there)]
        assert torch.equal(*kept)


def check_a_copy(way: Way, *, shift: int) -> None:
    """Values are copied, and nothing is written before or behind them."""
    lengths, place = _lengths_and_places(way.block)
    sources = [way.drawn(length, length) for length in lengths]
    places = [torch.zeros(length + shift + 1, device=way.device) for length in lengths]
    targets = [place_N[shift:-1] for place_N in places]
    assert way.passes.copy_of_ is not None
    pieces = each_alone(Pieces(place, place, torch.tensor(lengths), place))
    way.passes.copy_of_(targets, sources, pieces)
    for place_N, source_N in zip(places, sources, strict=True):
        assert torch.equal(place_N[shift:-1], source_N)
        assert [*place_N[:shift].tolist(), place_N[-1].item()] == [0] * (shift + 1)


def check_a_step(way: Way, *, shift: int, held: bool = True, mode: str = "exact") -> None:
    """Norms and an AdamW step, of pieces that lie anywhere in tensors that took other steps."""
    block = way.block
    spans = [(0, 0, 100), (1, shift, 3), (1, shift + 8, block + 5), (2, 4, 64)]
    tensor, first, length = (torch.tensor(row) for row in zip(*spans, strict=True))
    place = torch.tensor([0, 104, 112, 112 + block + 8])
    pieces = Pieces(tensor, first, length, place)
    packed = way.mask(112 + block + 8 + 64, 5) if held else None
    weights = [way.drawn(count, i) for i, count in enumerate([100, block + 50, 68])]
    gradients = [way.drawn(len(weight), 10 + i) for i, weight in enumerate(weights)]
    moments = [Moments(torch.zeros_like(w), torch.zeros_like(w)) for w in weights]
    expected = copy.deepcopy((weights, moments))
    assert way.passes.squared_norms_of is not None
    assert way.passes.masked_adamw_of_ is not None
    options = {"lr": 0.1, "settings": AdamWSettings(), "gradient_scale": 0.5, "mode": mode}
    norms = way.passes.squared_norms_of(gradients, packed, pieces)
    change = way.passes.masked_adamw_of_(
        weights, gradients, moments, packed, pieces, moments_at=pieces, steps=[1, 7, 2], **options
    )
    sums, changed = torch.zeros(2, device=way.device), 0.0
    for (t, a, n), at in zip(spans, place.tolist(), strict=True):
        inside, part = slice(a, a + n), None
        if packed is not None:
            part = packed[at // 8 : -(-(at + n) // 8)]
        sums += TORCH.squared_norms(gradients[t][inside], part)
        changed += TORCH.masked_adamw_(
            expected[0][t][inside], gradients[t][inside],
            Moments(*(m[inside] for m in expected[1][t])), held=part, step=[1, 7, 2][t], **options,
        ).item()  # fmt: skip
    assert norms.tolist() == pytest.approx(sums.tolist(), rel=1e-5)
    assert change.item() == pytest.approx(changed, rel=1e-5)
    ours = [*weights, *(moment for both in moments for moment in both)]
    theirs = [*expected[0], *(moment for both in expected[1] for moment in both)]
    for mine, other in zip(ours, theirs, strict=True):
        follow(mine, other, moved=1.0)
