"""The hold on two gloo ranks: FSDP2, HSDP and FSDP1, every entry compared before and after."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FullyShardedDataParallel

from mifo_ext.adapters.hold import ParameterHold
from mifo_ext.adapters.hold_settings import SftOptimizerSettings
from mifo_ext.core.adamw import AdamWSettings
from mifo_ext.core.packed_bits import unpack_bits
from tests.support.distributed import run_on_ranks
from tests.support.sharded import KINDS, plain, sharded, whole
from tests.support.weights import held

ADAMW = {"betas": (0.8, 0.9), "eps": 1e-7, "weight_decay": 0.1}


def hold_on(module: nn.Module, **settings: Any) -> ParameterHold:
    sft = SftOptimizerSettings(adamw=AdamWSettings(**ADAMW), clip_norm=0.05)
    return ParameterHold(module, held(**settings), sft)


def by_span(hold: ParameterHold, values: list[Tensor]) -> dict[str, Tensor]:
    """Copies, keyed "name:first index"."""
    spans = zip(hold.layout.spans, values, strict=True)
    return {f"{span.name}:{span.start}": value.clone() for span, value in spans}


def masks(hold: ParameterHold) -> list[Tensor]:
    (packed_P,) = hold.device_tensors()
    spans = zip(hold.layout.spans, hold.layout.masks(packed_P), strict=True)
    return [unpack_bits(packed, span.length) for span, packed in spans]


def learn(module: nn.Module, seed: int, *, target: float) -> None:
    """Forward and backward on data of this rank's own."""
    generator = torch.Generator().manual_seed(100 * seed + dist.get_rank())
    for parameter in module.parameters():
        parameter.grad = None
    (module(torch.randn(4, 5, generator=generator)) - target).square().mean().backward()


def train_with_the_hold(kind: str) -> dict[str, Any]:
    """Real RL steps, a real SFT phase of three steps beside torch's AdamW, all entries kept."""
    module = sharded(kind)
    rl = torch.optim.AdamW(module.parameters(), lr=0.05, **ADAMW)
    hold = hold_on(module)
    hold.begin_phase()
    for seed in range(3):
        learn(module, seed, target=1.0)
        rl.step()
    report = hold.engage()
    before = by_span(hold, hold.layout.values())
    rl_before = [value.clone() for value in _tensors_of(rl)]

    # torch's own AdamW on copies; live entries must follow it.
    copies = [nn.Parameter(value.clone()) for value in hold.layout.values()]
    reference = torch.optim.AdamW(copies, lr=0.03, **ADAMW)
    scales = []
    for seed in range(3):
        learn(module, 10 + seed, target=-1.0)
        step = hold.step(lr=0.03)
        scales.append(step.clip_scale)
        for copied, gradient in zip(copies, hold.layout.gradients(), strict=True):
            assert gradient is not None
            copied.grad = gradient * step.clip_scale
        reference.step()

    return {
        "held": report.held,
        "entries": report.entries,
        "scales": scales,
        "mask": by_span(hold, masks(hold)),
        "before": before,
        "after": by_span(hold, hold.layout.values()),
        "reference": by_span(hold, [value.detach() for value in copies]),
        "rl_untouched": all(map(_same_bits, rl_before, _tensors_of(rl))),
    }


def _tensors_of(optimizer: torch.optim.Optimizer) -> Iterator[Tensor]:
    for state in optimizer.state.values():
        for value in state.values():
            local = value.to_local() if hasattr(value, "to_local") else value
            yield local.detach()


def _same_bits(one: Tensor, other: Tensor) -> bool:
    return torch.equal(one.view(torch.int32), other.view(torch.int32))


def move(hold: ParameterHold, phase: int) -> None:
    """Change every entry by an amount that depends on its name and index only; many are tied."""
    for span, value in zip(hold.layout.spans, hold.layout.values(), strict=True):
        index = torch.arange(span.start, span.start + span.length)
        steps = (index * 7 + len(span.name) + 2 * phase * (index % 3)) % 5
        value.copy_(index / 64 + (steps - 1) / 8 * (phase + 1))


def choose_twice(make: Callable[[], nn.Module], entries: str) -> dict[str, Any]:
    """Two phases moved by hand, so that no gradient's rounding comes in."""
    hold = hold_on(make(), fraction=0.3, entries=entries)
    move(hold, -1)
    found: dict[str, Any] = {}
    for phase in range(2):
        hold.begin_phase()
        move(hold, phase)
        report = hold.engage()
        found[f"report {phase}"] = [report.held, report.threshold, report.moved, report.jaccard]
        found[f"mask {phase}"] = by_span(hold, masks(hold))
        hold.release()
    return found


def stop_and_go_on(kind: str) -> bool:
    """An SFT phase after loading what was saved in the middle of an RL phase, and without that."""
    module = sharded(kind)
    hold = hold_on(module)
    results = []
    hold.begin_phase()
    _one_interval(module, hold, seed=0)
    learn(module, 5, target=1.0)
    file = io.BytesIO()
    torch.save(hold.state_dict(), file)
    weights = [value.clone() for value in hold.layout.values()]
    for going_on in (hold, hold_on(module)):
        for value, kept in zip(hold.layout.values(), weights, strict=True):
            value.copy_(kept)
        if going_on is not hold:
            file.seek(0)
            going_on.load_state_dict(torch.load(file, weights_only=True))
        _one_interval(module, going_on, seed=1)
        results.append([value.clone() for value in hold.layout.values()])
    return all(map(_same_bits, *results))


def _one_interval(module: nn.Module, hold: ParameterHold, *, seed: int) -> None:
    move(hold, seed)
    hold.engage()
    for more in range(2):
        learn(module, 10 * seed + more, target=-1.0)
        hold.step(lr=0.03)
    hold.release()
    hold.begin_phase()


def on_two_ranks() -> dict[str, Any]:
    """Everything in one start of the ranks, because starting them is what takes time."""
    return {**{kind: of_kind(kind) for kind in KINDS}, "wrong": not_finite_on_one_rank()}


def of_kind(kind: str) -> dict[str, Any]:
    """Everything about one way of sharding."""
    with torch.no_grad():
        chosen = {
            entries: choose_twice(functools.partial(sharded, kind), entries)
            for entries in ("moved_most", "moved_least", "random")
        }
    return {
        "trained": train_with_the_hold(kind),
        "chosen": chosen,
        "went_on": stop_and_go_on(kind),
    }


@pytest.fixture(scope="module")
def both_ranks(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """What both ranks found."""
    return run_on_ranks(on_two_ranks, 2, tmp_path_factory.mktemp("ranks"), timeout_s=300)


@pytest.fixture(params=KINDS)
def ranks(request: pytest.FixtureRequest, both_ranks: list[Any]) -> list[Any]:
    """What they found with one way of sharding; HSDP's hold the same, so one is enough."""
    found = [rank[request.param] for rank in both_ranks]
    if request.param == "hsdp":
        assert (
            found[0]["chosen"]["moved_most"]["report 1"]
            == (found[1]["chosen"]["moved_most"]["report 1"])
        )
        return found[:1]
    return found


def test_held_entries_keep_every_bit_and_live_ones_follow_torch_adamw(ranks: Any) -> None:
    trained = [rank["trained"] for rank in ranks]
    mask, before, after, reference = (
        whole([part[key] for part in trained]) for key in ("mask", "before", "after", "reference")
    )
    entries = sum(value.numel() for value in plain().parameters())

    held = sum(int(value.sum()) for value in mask.values())
    assert {part["held"] for part in trained} == {held} == {entries // 2}
    assert {part["entries"] for part in trained} == {entries}
    # Clipping was at work in every step.
    assert all(scale < 0.9 for part in trained for scale in part["scales"])
    for name, is_held in mask.items():
        assert _same_bits(after[name][is_held], before[name][is_held])
        # But for the rounding of a square root; a step is about the learning rate, 0.03.
        torch.testing.assert_close(
            after[name][~is_held], reference[name][~is_held], rtol=5e-7, atol=1e-7
        )
        assert (after[name] != before[name])[~is_held].all()
        # Without the hold, every one of them would have moved.
        assert (reference[name] != before[name]).all()


def test_rl_s_optimizer_is_untouched(ranks: Any) -> None:
    assert all(rank["trained"]["rl_untouched"] for rank in ranks)


@pytest.mark.parametrize("entries", ["moved_most", "moved_least", "random"])
def test_two_ranks_hold_what_one_rank_holds(ranks: Any, entries: str) -> None:
    with torch.no_grad():
        alone = choose_twice(plain, entries)

    for phase in range(2):
        together = whole([rank["chosen"][entries][f"mask {phase}"] for rank in ranks])
        expected = whole([alone[f"mask {phase}"]])
        assert together.keys() == expected.keys()
        assert all(torch.equal(together[name], expected[name]) for name in expected)
        for rank in ranks:
            assert rank["chosen"][entries][f"report {phase}"] == alone[f"report {phase}"]
    if entries == "moved_most":
        # 12 entries moved by 3/8, and 9 of the 16 that moved by 2/8 are held with them.
        assert alone["report 0"][:2] == [21, 0.125]
        assert 0 < alone["report 1"][3] < 1


def test_saved_and_loaded_goes_on_as_if_never_stopped(ranks: Any) -> None:
    assert all(rank["went_on"] for rank in ranks)


def not_finite_on_one_rank() -> dict[str, Any]:
    """A gradient, then a weight, that is not finite on rank 1 only; FSDP1 with originals."""
    module = sharded("fsdp2")
    hold = hold_on(module)
    hold.begin_phase()
    learn(module, 0, target=1.0)
    with torch.no_grad():
        move(hold, 0)
    hold.engage()
    before = [value.clone() for value in hold.layout.values()]
    if dist.get_rank() == 1:
        gradient = hold.layout.gradients()[0]
        assert gradient is not None
        gradient[0] = float("inf")
    step = hold.step(lr=0.1)
    unchanged = all(map(_same_bits, before, hold.layout.values()))
    hold.release()
    hold.begin_phase()
    if dist.get_rank() == 1:
        hold.layout.values()[0][0] = float("nan")
    return {
        "applied": step.applied,
        "unchanged": unchanged,
        "weights": refusal(hold.engage),
        "original": refusal(lambda: hold_on(_with_original_parameters())),
    }


def refusal(call: Callable[[], object]) -> str:
    try:
        call()
    except ValueError as error:
        return str(error)
    return "not refused"


def _with_original_parameters() -> nn.Module:
    return FullyShardedDataParallel(plain(), device_id=torch.device("cpu"), use_orig_params=True)


def test_all_ranks_notice_what_goes_wrong_on_one(both_ranks: list[Any]) -> None:
    for rank in (found["wrong"] for found in both_ranks):
        assert not rank["applied"]
        assert rank["unchanged"]
        assert "must be finite and 0 or more, but is not in 0.bias (1 entries)" in rank["weights"]
        assert "`use_orig_params` must be False under FSDP1" in rank["original"]
