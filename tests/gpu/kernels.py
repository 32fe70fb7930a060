"""The kernels give what torch's operations give; `test_kernels.py` runs this, a GPU as it is."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from mifo_ext.adapters import hold as adapter
from mifo_ext.core.adamw import AdamWSettings, Moments
from mifo_ext.core.importance import float_bits
from mifo_ext.core.kth_largest import LARGEST, Band
from mifo_ext.core.masked_adamw import MODES
from mifo_ext.core.packed_bits import pack_bits, unpack_bits
from mifo_ext.core.passes import TORCH, Passes
from mifo_ext.core.placed_keys import PLACES, Aside, placed
from mifo_ext.gpu import KERNELS
from mifo_ext.gpu.table import BLOCK
from tests.support.many_pieces import Way, follow
from tests.support.weights import hold_on

DEVICE = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
BOTH = (TORCH, KERNELS)
lengths = st.integers(1, 40) | st.sampled_from([BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 13])
seeds = st.integers(0, 10**6)
WAY = Way(KERNELS, BLOCK, DEVICE)
drawn, mask = WAY.drawn, WAY.mask
few = settings(deadline=None, max_examples=30)


@few
@given(count=lengths, seed=seeds, decay=st.sampled_from([0.0, 0.3, 0.5]), carried=st.booleans())
def test_importance_has_the_same_bits(count: int, seed: int, decay: float, carried: bool) -> None:
    start, end = drawn(count, seed), drawn(count, seed + 1)
    history = (drawn(count, seed + 2).abs(), mask(count, seed + 3)) if carried else (None, None)
    found = [start.clone(), start.clone()]
    totals = [
        passes.weigh_(importance, end, *history, decay=decay).tolist()
        for passes, importance in zip(BOTH, found, strict=True)
    ]
    assert torch.equal(float_bits(found[0]), float_bits(found[1]))
    assert totals[0][0] == totals[1][0] == int((start != end).sum())
    assert totals[1][1] == pytest.approx(totals[0][1], rel=1e-5)


@few
@given(count=lengths, seed=seeds, data=st.data())
def test_keys_around_a_band_are_counted_and_picked_alike(
    count: int, seed: int, data: st.DataObject
) -> None:
    importance = drawn(count, seed).abs()
    keys = float_bits(importance)
    bounds = st.sampled_from([*keys.tolist()[:50], 1, LARGEST]) | st.integers(1, LARGEST)
    low, high = sorted((data.draw(bounds), data.draw(bounds)))
    room = data.draw(st.sampled_from([0, 1, count]))
    place = data.draw(st.sampled_from([0, 8, PLACES - 8 * BLOCK]))
    found = []
    for passes in BOTH:
        aside, counts = Aside(room, DEVICE), torch.zeros(3, dtype=torch.int64, device=DEVICE)
        above = torch.full((-(-count // 8),), 255, dtype=torch.uint8, device=DEVICE)
        passes.around(keys, importance, Band(low, high), aside, place, above, counts)
        kept = aside.placed_K if counts[1] <= room else aside.placed_K[:0]
        found.append((counts.tolist(), above.tolist(), kept[: counts[1]].sort().values.tolist()))
    assert found[0] == found[1]


@few
@given(count=lengths, seed=seeds, at=st.integers(0, 3000), size=st.sampled_from([1, 8, 4096]))
def test_ties_are_counted_by_the_block_they_lie_in(
    count: int, seed: int, at: int, size: int
) -> None:
    keys = float_bits(drawn(count, seed).abs())
    key, blocks = int(keys[seed % count]), (at + count - 1) // size + 1
    counts = [p.ties_by_block(keys, key, at=at, size=size, blocks=blocks).tolist() for p in BOTH]
    assert counts[0] == counts[1]


@few
@given(count=lengths, seed=seeds, bits=st.sampled_from([1, 7, 10]), low=st.integers(0, 21))
def test_histograms_are_the_same(count: int, seed: int, bits: int, low: int) -> None:
    keys = float_bits(drawn(count, seed).abs())
    first, bins = max(0, int(keys[seed % count]) - 5), 1 << bits
    last = min(first + (bins << low) - 1, LARGEST) - seed % 3
    counts = [torch.full((2 * bins,), 3, device=DEVICE) for _ in BOTH]
    for passes, counts_B in zip(BOTH, counts, strict=True):
        passes.histogram(keys, first, last, low, counts_B[:bins])
    assert counts[1][bins:].eq(3).all()  # Nothing is written behind the last bin.
    assert counts[0].tolist() == counts[1].tolist()


@pytest.mark.parametrize("bad", [-1.0, -0.0, float("inf"), float("nan")])
def test_importance_that_is_no_number_from_0_up_shows(bad: float) -> None:
    for position in (0, BLOCK - 1, BLOCK + 30):
        importance = torch.linspace(0, 3e38, BLOCK + 31, device=DEVICE)
        importance[position] = bad
        assert improper(importance) == 1
        importance.view(torch.int32)[position] = -1  # a NaN, too
        assert improper(importance) == 1


def improper(importance: Tensor) -> int:
    above = torch.empty(BLOCK // 8 + 4, dtype=torch.uint8, device=DEVICE)
    counts = torch.zeros(3, dtype=torch.int64, device=DEVICE)
    keys, band = float_bits(importance), Band(5, 9)
    KERNELS.around(keys, importance, band, Aside(0, DEVICE), 0, above, counts)
    return int(counts[2])


@few
@given(
    lies=st.dictionaries(st.integers(0, 159), st.integers(0, LARGEST), min_size=1),
    bounds=st.lists(st.integers(0, LARGEST * PLACES + PLACES - 1), min_size=2, max_size=2),
)
def test_bits_are_set_at_the_places_of_keys_between_two(
    lies: dict[int, int], bounds: list[int]
) -> None:
    there, (first, last) = set(range(0, 160, 9)), sorted(bounds)
    lies = {place: key for place, key in lies.items() if place not in there}
    mask_N = torch.zeros(160, dtype=torch.bool, device=DEVICE)
    mask_N[list(there)] = True
    packed = pack_bits(mask_N)
    mask_N[[place for place, key in lies.items() if first <= key * PLACES + place <= last]] = True
    key_K, place_K = torch.tensor([*lies.values()]), torch.tensor([*lies.keys()])
    KERNELS.set_bits(packed, placed(key_K.int(), place_K.long()), first, last)
    assert torch.equal(packed, pack_bits(mask_N))


@few
@given(count=lengths, seed=seeds)
def test_overlap_counts_bits_of_both_and_of_either(count: int, seed: int) -> None:
    one, other = mask(count, seed), mask(count, seed + 1)
    assert TORCH.overlap(one, other).tolist() == KERNELS.overlap(one, other).tolist()


@few
@given(
    count=lengths,
    seed=seeds,
    mode=st.sampled_from(MODES),
    masked=st.booleans(),
    scale=st.sampled_from([1.0, 0.37]),
    betas=st.sampled_from([(0.9, 0.999), (0.3, 0.5), (0.0, 0.0)]),
)
def test_a_step_follows_torch_and_held_entries_keep_every_bit(
    count: int, seed: int, mode: str, masked: bool, scale: float, betas: tuple[float, float]
) -> None:
    weight, gradient, lr = drawn(count, seed), drawn(count, seed + 1), 0.01
    held, constants = (mask(count, seed + 2) if masked else None), AdamWSettings(betas=betas)
    found = []
    for passes in BOTH:
        values = [weight.clone(), torch.zeros_like(weight), torch.zeros_like(weight)]
        norms, options = passes.squared_norms(gradient, held), {"gradient_scale": scale}
        for step in (1, 2):
            change = passes.masked_adamw_(
                values[0], gradient, Moments(*values[1:]), held=held, step=step, lr=lr,
                settings=constants, mode=mode, **options,
            )  # fmt: skip
        found.append((values, norms.tolist(), change.item()))
    (theirs, norms, change), (ours, norms_here, change_here) = found
    follow(ours[0], theirs[0], moved=2 * 10 * lr)
    follow(ours[1], theirs[1], moved=0.1)
    follow(ours[2], theirs[2], moved=0.1)
    assert norms_here == pytest.approx(norms, rel=1e-9)
    assert change_here == pytest.approx(change, rel=1e-4, abs=1e-12)
    if held is not None and mode == "exact":
        held_N = unpack_bits(held, count)
        assert torch.equal(float_bits(ours[0][held_N]), float_bits(weight[held_N]))
        assert not ours[1][held_N].any()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_is_found(bad: float) -> None:
    gradient, held = torch.ones(53, device=DEVICE), pack_bits(torch.arange(53, device=DEVICE) < 9)
    for position, expected in [(3, [True, False]), (40, [False, True])]:
        gradient[position] = bad
        assert KERNELS.squared_norms(gradient, held).isfinite().tolist() == expected
        gradient[position] = 3e38  # Its square is no float32.
    assert KERNELS.squared_norms(gradient, held).isfinite().all()


@pytest.mark.parametrize("moments", ["own", "shared"])
def test_a_hold_by_kernels_is_the_hold_by_torch(
    moments: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def after(passes: Passes) -> tuple[list[list[int]], list[Tensor]]:
        monkeypatch.setattr(adapter, "passes_where", lambda device: passes)
        module, masks = nn.Module(), []
        for name, count in {"a": 2 * BLOCK + 3, "b": 77, "unused": 5}.items():
            module.register_parameter(name, nn.Parameter(drawn(count, count)))
        rl = torch.optim.AdamW(module.parameters(), lr=1e-3)
        hold = hold_on(module, clip_norm=1.0, moments=moments, rl_optimizer=rl)
        for seed in range(2):
            hold.begin_phase()
            for parameter in module.parameters():
                parameter.grad = drawn(parameter.numel(), seed)
            rl.step()
            if seed == 1:
                module.unused.grad = None
            hold.engage()
            masks.append([*hold.device_tensors()[0].tolist()])
            assert hold.step(lr=1e-3).applied
            hold.release()
        return masks, [value.detach() for value in module.parameters()]

    (masks, weights), (masks_here, weights_here) = after(TORCH), after(KERNELS)
    assert masks[0] == masks_here[0]
    for ours, theirs in zip(weights_here, weights, strict=True):
        follow(ours, theirs, moved=2e-2)
