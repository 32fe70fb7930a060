"""The hold on an accelerator: the same choice as on a processor, and torch's own steps.

Run where there is one: `python -m pytest tests/device`. Everything here is about memory that is not
the processor's, so without an accelerator there is nothing to run.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

from mifo_ext.adapters.hold import ParameterHold
from mifo_ext.adapters.hold_settings import HoldReport, SftOptimizerSettings, StepReport
from mifo_ext.adapters.shards import SPAN
from mifo_ext.core.importance import RANKINGS
from tests.support.weights import ADAMW, held, hold_on

pytestmark = pytest.mark.skipif(
    not torch.accelerator.is_available(), reason="needs an accelerator; CPUs have their own tests"
)
MIB = 1 << 20


def model() -> nn.Module:
    """Two and a half spans in one parameter, a row that ends inside a byte, and a small one."""
    draw = torch.Generator().manual_seed(0)
    module = nn.Module()
    for name, length in {"large": 2 * SPAN + SPAN // 2, "odd": 1003, "small": 3}.items():
        value = torch.empty(length).normal_(0, 0.02, generator=draw)
        module.register_parameter(name, nn.Parameter(value))
    return module


def moves(module: nn.Module, seed: int) -> list[Tensor]:
    """Changes of which many are equal and some are zero, drawn on the processor."""
    draw = torch.Generator().manual_seed(seed)
    return [
        torch.empty(p.shape).normal_(0, 64, generator=draw).round().mul_(1e-4)
        for p in module.parameters()
    ]


def interval(
    hold: ParameterHold, module: nn.Module, seed: int
) -> tuple[HoldReport, list[Tensor], StepReport]:
    """An RL phase that moves the weights as `seed` has it, and one SFT step."""
    hold.begin_phase()
    with torch.no_grad():
        for parameter, move in zip(module.parameters(), moves(module, seed), strict=True):
            parameter.add_(move.to(parameter.device))
            parameter.grad = (move * 0.5).to(parameter.device)
    found = hold.engage()
    masks = [packed.cpu().clone() for packed in hold.device_tensors()]
    stepped = hold.step(lr=1e-3)
    hold.release()
    return found, masks, stepped


def without_seconds(report: HoldReport) -> dict[str, Any]:
    return {k: v for k, v in vars(report).items() if k not in ("seconds", "update_norm")}


@pytest.mark.parametrize("entries", RANKINGS)
def test_the_same_entries_are_held_as_on_a_processor(entries: str) -> None:
    on_cpu, device = model(), torch.accelerator.current_accelerator()
    on_device = copy.deepcopy(on_cpu).to(device)
    holds = [hold_on(module, entries=entries) for module in (on_cpu, on_device)]
    for seed in range(3):
        # SFT's step rounds otherwise on another device, so both begin each interval alike.
        on_device.load_state_dict(on_cpu.state_dict())
        (one, masks, step), (other, others, step_there) = (
            interval(hold, module, seed)
            for hold, module in zip(holds, (on_cpu, on_device), strict=True)
        )
        assert without_seconds(one) == without_seconds(other)
        assert other.update_norm == pytest.approx(one.update_norm, rel=1e-5)
        assert all(torch.equal(a, b) for a, b in zip(masks, others, strict=True))
        assert step_there.gradient_norm == pytest.approx(step.gradient_norm, rel=1e-5)
        assert step_there.update_norm == pytest.approx(step.update_norm, rel=1e-4)
    state, there = (hold.state_dict()["host"]["history"] for hold in holds)
    assert all(torch.equal(a, b) for a, b in zip(state, there, strict=True))


@pytest.mark.parametrize("moments", ["own", "shared"])
@pytest.mark.parametrize("mode", ["exact", "gradient_mask"])
def test_live_entries_follow_torch_and_held_ones_keep_every_bit(moments: str, mode: str) -> None:
    module = model().to(torch.accelerator.current_accelerator())
    torchs = copy.deepcopy(module)
    settings = {"lr": 1e-3, "betas": ADAMW.betas, "eps": ADAMW.eps}
    optimizer = torch.optim.AdamW(module.parameters(), weight_decay=ADAMW.weight_decay, **settings)
    theirs = torch.optim.AdamW(torchs.parameters(), weight_decay=ADAMW.weight_decay, **settings)
    hold = hold_on(module, moments=moments, rl_optimizer=optimizer, mode=mode)
    hold.begin_phase()
    for of in (module, torchs):
        for parameter, move in zip(of.parameters(), moves(module, 1), strict=True):
            parameter.grad = move.to(parameter.device)
    if moments == "shared":
        optimizer.step()
        theirs.step()
    else:
        with torch.no_grad():
            for of in (module, torchs):
                for parameter in of.parameters():
                    parameter.add_(parameter.grad)
    hold.engage()
    before = [p.detach().clone() for p in module.parameters()]
    masks = {span.name: [] for span in hold.layout.spans}
    (packed_P,) = hold.device_tensors()
    for span, packed in zip(hold.layout.spans, hold.layout.masks(packed_P), strict=True):
        bits = (packed[:, None] >> torch.arange(8, device=packed.device)) & 1
        masks[span.name].append(bits.flatten()[: span.length].bool())

    for _ in range(2):
        hold.step(lr=1e-3)
        if mode == "gradient_mask":
            for name, parameter in torchs.named_parameters():
                parameter.grad.masked_fill_(torch.cat(masks[name]), 0)
        theirs.step()

    for (name, value), old, reference in zip(
        module.named_parameters(), before, torchs.parameters(), strict=True
    ):
        held_N = torch.cat(masks[name])
        assert held_N.any()
        if mode == "exact":
            assert torch.equal(value[held_N], old[held_N])
            assert not torch.equal(value[~held_N], old[~held_N])
        else:
            held_N = torch.zeros_like(held_N)
        torch.testing.assert_close(value[~held_N], reference[~held_N], rtol=2e-6, atol=1e-9)


def test_a_weight_that_is_not_finite_is_named() -> None:
    module = model().to(torch.accelerator.current_accelerator())
    hold = hold_on(module)
    hold.begin_phase()
    with torch.no_grad():
        module.large[SPAN + 7] = float("nan")
        module.small[2] = float("inf")
    with pytest.raises(ValueError, match=r"not in large \(1 entries\), small \(1 entries\)\."):
        hold.engage()


@pytest.mark.parametrize("entries", ["moved_most", "random"])
def test_a_call_takes_64_mib_at_most_and_only_the_mask_stays(entries: str) -> None:
    device = torch.accelerator.current_accelerator()
    assert device is not None
    module = nn.Module()
    module.large = nn.Parameter(torch.randn(20 * SPAN, device=device))
    module.large.grad = torch.randn_like(module.large)
    hold = ParameterHold(module, held(entries=entries), SftOptimizerSettings(clip_norm=1.0))
    memory = torch.get_device_module(device)

    def rise(call: Any) -> tuple[int, int]:
        before = memory.memory_allocated()
        memory.reset_peak_memory_stats()
        call()
        return memory.max_memory_allocated() - before, memory.memory_allocated() - before

    for _ in range(2):
        assert rise(hold.begin_phase)[1] == 0
        with torch.no_grad():
            module.large += torch.randn_like(module.large)
        most, stays = rise(hold.engage)
        assert 0 < most < 64 * MIB + stays
        assert stays == module.large.numel() // 8
        most, stays = rise(lambda: hold.step(lr=1e-3))
        assert most < 64 * MIB
        assert stays == 0
        hold.release()


@pytest.fixture
def one_rank(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process group of one rank on the accelerator."""
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    monkeypatch.setenv("MASTER_PORT", "29577")
    dist.init_process_group(rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_fsdp2_with_bfloat16_and_float32_masters_is_held(one_rank: None) -> None:
    device = torch.accelerator.current_accelerator()
    assert device is not None
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(64, 512), nn.GELU(), nn.Linear(512, 64)).to(device)
    mesh = init_device_mesh(device.type, (1,))
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    for layer in module:
        fully_shard(layer, mesh=mesh, mp_policy=policy)
    fully_shard(module, mesh=mesh, mp_policy=policy)
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-4)
    hold = hold_on(module, clip_norm=1.0)
    inputs = torch.randn(32, 64, device=device)

    def backward(target: float) -> float:
        loss = (module(inputs).float() - target).square().mean()
        loss.backward()
        return loss.item()

    def local() -> Tensor:
        return torch.cat([value.clone() for value in hold.layout.values()])

    hold.begin_phase()
    for _ in range(3):
        backward(1.0)
        optimizer.step()
        optimizer.zero_grad()
    found = hold.engage()
    assert found.held == found.entries // 2
    before, losses = local(), []
    for _ in range(5):
        losses.append(backward(-1.0))
        assert hold.step(lr=1e-3).applied
        optimizer.zero_grad()
    still = local() == before
    assert int(still.sum()) >= found.held
    assert int(still.sum()) < found.held + found.entries // 100
    assert losses[-1] < losses[0]
