"""On a GPU kernels are compiled at first, and not again for another band of keys."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mifo_ext.core.importance import float_bits
from mifo_ext.core.kth_largest import Band
from mifo_ext.core.passes import EndedPhase
from mifo_ext.core.pieces import one_piece
from mifo_ext.core.placed_keys import PLACES, Aside

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs a GPU; Triton's interpreter compiles nothing"
)
COUNT = 5000


def test_no_band_of_keys_makes_a_kernel_be_compiled_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    triton = pytest.importorskip("triton")
    from mifo_ext.gpu import KERNELS  # There may be no Triton.

    compiled: list[str] = []
    monkeypatch.setattr(
        triton.knobs.runtime, "jit_post_compile_hook", lambda **what: compiled.append(what["repr"])
    )
    device = torch.device("cuda")
    values = torch.randn(COUNT, device=device)
    packed = torch.zeros(COUNT // 8 + 3, dtype=torch.uint8, device=device)
    counts, bins = torch.zeros(3, device=device).long(), torch.zeros(16, device=device).long()
    phase = EndedPhase([values.clone()], [values], None, None, one_piece(COUNT), 0.5)
    passes: Any = KERNELS

    def launch(number: int) -> None:
        keys, aside = float_bits(values.abs()), Aside(number, device)
        band = Band(number, number + 7)
        passes.around(keys, values, band, aside, 8 * number, packed, counts)
        passes.weigh_around_of_(phase, band, aside, packed)
        passes.sample_of(phase, torch.tensor([number]), number)
        passes.ties_by_block(keys, number, at=number, size=number, blocks=2 * COUNT)
        passes.histogram(keys, number, number + 15, number % 5, bins)
        bounds = (number * PLACES, (number + 1) * PLACES)
        passes.set_bits(packed, torch.arange(number, device=device), *bounds)

    launch(5)
    assert len(set(compiled)) == 6
    compiled.clear()
    for number in (1, 9, 16, 48):
        launch(number)
    torch.cuda.synchronize()
    assert compiled == []
