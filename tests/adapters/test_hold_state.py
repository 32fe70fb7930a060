"""Saving the hold and going on from there; what it refuses."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch

from mifo_ext.adapters.hold import ParameterHold
from tests.support.weights import Weights, hold_on, phase


def saved_and_read(state: dict[str, Any]) -> dict[str, Any]:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    read: dict[str, Any] = torch.load(file, weights_only=True)
    return read


def interval(hold: ParameterHold, module: Weights, seed: int) -> list[Any]:
    """The rest of an RL phase, an SFT phase and the beginning of the next; what came of it."""
    generator = torch.Generator().manual_seed(seed)

    def numbers() -> list[float]:
        drawn: list[float] = torch.randn(100, generator=generator).tolist()
        return drawn

    module.move(a=numbers())
    report = hold.engage()
    module.pull(a=numbers())
    step = hold.step(lr=0.1)
    hold.release()
    hold.begin_phase()
    module.move(a=numbers())
    return [report.threshold, report.jaccard, step.update_norm, *module.a.tolist()]


@pytest.mark.parametrize("decay", [0.0, 0.5])
@pytest.mark.parametrize("intervals_before", [0, 1, 2])
def test_saved_and_loaded_goes_on_as_if_never_stopped(intervals_before: int, decay: float) -> None:
    module = Weights(a=[0.0] * 100)
    hold = hold_on(module, decay=decay, clip_norm=1.0)
    hold.begin_phase()
    for seed in range(intervals_before):
        interval(hold, module, seed)
    state, weights = saved_and_read(hold.state_dict()), module.a.detach().clone()
    never_stopped = [interval(hold, module, seed) for seed in (10, 11)]

    resumed = Weights(a=weights.tolist())
    hold = hold_on(resumed, decay=decay, clip_norm=1.0)
    hold.load_state_dict(state)
    assert [interval(hold, resumed, seed) for seed in (10, 11)] == never_stopped


def test_the_history_is_saved_as_its_held_entries_only() -> None:
    module = Weights(a=[0.0] * 1000)
    hold = hold_on(module, fraction=0.25)
    phase(hold, module, a=[float(i) for i in range(1000)])
    hold.release()
    host = hold.state_dict()["host"]
    assert [values.numel() for values in host["history"]] == [250]
    assert [packed.numel() for packed in host["mask"]] == [125]
    assert host["snapshot"] is None


def test_right_after_an_interval_the_snapshot_takes_nothing() -> None:
    module = Weights(a=[0.5] * 1000)
    hold = hold_on(module)
    hold.begin_phase()
    (parts,) = hold.state_dict()["host"]["snapshot"]
    assert sum(part.numel() for part in parts.values()) == 0

    module.move(a=[2.0**-20] * 1000)
    (parts,) = hold.state_dict()["host"]["snapshot"]
    assert sum(part.numel() * part.element_size() for part in parts.values()) == 1000


def test_other_weights_than_those_of_the_checkpoint_are_refused() -> None:
    module = Weights(a=[1.0, 2.0])
    hold = hold_on(module)
    hold.begin_phase()
    state = saved_and_read(hold.state_dict())

    with pytest.raises(ValueError, match="must be taken up with the weights it was saved with"):
        hold_on(Weights(a=[1.0, 2.0000002])).load_state_dict(state)


def test_a_saved_state_of_another_run_is_refused_with_every_difference() -> None:
    module = Weights(a=[1.0, 2.0])
    state = saved_and_read(hold_on(module).state_dict())
    state["identity"]["number of ranks"] = 2

    other = hold_on(Weights(b=[1.0, 2.0]), fraction=0.25)

    with pytest.raises(ValueError, match="must be of the same run") as error:
        other.load_state_dict(state)
    for difference in (
        "number of ranks (2 then, 1 now)",
        "fraction (0.5 then, 0.25 now)",
        "parameters and their sharding",
    ):
        assert difference in str(error.value)


def test_calls_out_of_order_are_refused() -> None:
    module = Weights(a=[1.0])
    hold = hold_on(module)
    with pytest.raises(RuntimeError, match="call begin_phase"):
        hold.engage()
    with pytest.raises(RuntimeError, match="call engage"):
        hold.step(lr=0.1)
    hold.begin_phase()
    assert hold.in_phase
    hold.engage()
    assert hold.engaged
    with pytest.raises(RuntimeError, match="must be released before a phase"):
        hold.begin_phase()
    with pytest.raises(RuntimeError, match="must be released before it is saved"):
        hold.state_dict()
    with pytest.raises(RuntimeError, match="call begin_phase"):
        hold.engage()


def test_modules_that_cannot_be_held_are_refused() -> None:
    frozen = Weights(a=[1.0]).requires_grad_(False)
    with pytest.raises(ValueError, match="must have trainable parameters, but has none"):
        hold_on(frozen)
    with pytest.raises(ValueError, match=r"float32, but `a` is torch.bfloat16.*model_dtype=fp32"):
        hold_on(Weights(a=[1.0]).bfloat16())
    with pytest.raises(ValueError, match=r"LoRA must be off, but `lora_A` is trained"):
        hold_on(Weights(lora_A=[1.0]))
    with pytest.raises(ValueError, match="`rl_optimizer` must be given"):
        hold_on(Weights(a=[1.0]), moments="shared")


def test_shared_moments_need_an_rl_step() -> None:
    module = Weights(a=[1.0])
    rl = torch.optim.AdamW(module.parameters())
    hold = hold_on(module, entries="none", moments="shared", rl_optimizer=rl)
    module.pull(a=[1.0])
    with pytest.raises(RuntimeError, match="RL's moments must exist to be shared, but `a` has"):
        hold.step(lr=0.1)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"clip_norm": 0.0}, "`clip_norm` must be above 0"),
        ({"moments": "both"}, "`moments` must be one of own"),
    ],
)
def test_an_optimizer_outside_its_range_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        hold_on(Weights(a=[1.0]), **wrong)
