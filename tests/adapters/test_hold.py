"""The hold on a plain module, in one process."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mifo_ext.adapters import hold as adapter
from mifo_ext.core.passes import TORCH, Passes
from mifo_ext.loops import LOOPS
from tests.support.weights import Weights, held_entries, hold_on, phase


def test_what_rl_moved_most_is_held_and_the_rest_learns() -> None:
    module = Weights(a=[1.0, 2.0, 3.0], b=[4.0])
    hold = hold_on(module, fraction=0.5)

    report = phase(hold, module, a=[0.5, -2.0, 0.25], b=[1.0])

    assert held_entries(hold, module) == {"a 1", "b 0"}
    assert (report.held, report.entries, report.moved) == (2, 4, 4)
    assert report.held_fraction == 0.5
    assert report.threshold == 0.5  # decay 0.5 on |1.0|
    assert report.update_norm == pytest.approx(math.sqrt(0.25 + 4 + 0.0625 + 1))
    assert report.jaccard is None
    assert report.seconds > 0


def test_history_keeps_what_earlier_phases_moved() -> None:
    module = Weights(a=[0.0, 0.0, 0.0, 0.0])
    hold = hold_on(module, fraction=0.25, decay=0.5)

    phase(hold, module, a=[8.0, 6.0, 0.0, 0.0])
    assert held_entries(hold, module) == {"a 0"}
    hold.release()

    # Importance is 0.5 * 4 for the entry held before, and 0.5 * 3 for the one that moved now;
    # entry 1 was not held, so its earlier move is forgotten.
    report = phase(hold, module, a=[0.0, 1.0, 3.0, 0.0])
    assert held_entries(hold, module) == {"a 0"}
    assert report.threshold == 2.0
    assert report.jaccard == 1.0
    hold.release()

    report = phase(hold, module, a=[0.0, 0.0, 3.0, 0.0])
    assert held_entries(hold, module) == {"a 2"}
    assert report.threshold == 1.5
    assert report.jaccard == 0.0


@pytest.mark.parametrize("passes", [TORCH, LOOPS], ids=["torch", "loops"])
def test_history_is_the_same_when_a_span_takes_many_pieces(
    passes: Passes, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = torch.Generator().manual_seed(0)
    moves = [torch.rand(27, generator=draw).tolist() for _ in range(3)]

    def chosen() -> list[set[str]]:
        module = Weights(a=[0.0] * 27)
        hold = hold_on(module, fraction=0.3, decay=0.5)
        found = []
        for move in moves:
            phase(hold, module, a=move)
            found.append(held_entries(hold, module))
            hold.release()
        return found

    whole = chosen()
    monkeypatch.setattr(adapter, "passes_where", lambda device: passes._replace(piece=8))
    assert chosen() == whole


def test_without_decay_only_the_last_phase_counts() -> None:
    module = Weights(a=[0.0, 0.0])
    hold = hold_on(module, fraction=0.5, decay=0.0)
    phase(hold, module, a=[8.0, 0.0])
    hold.release()

    report = phase(hold, module, a=[0.0, 0.125])

    assert held_entries(hold, module) == {"a 1"}
    assert report.threshold == 0.125
    hold.release()
    assert hold.state_dict()["host"]["history"] is None  # It would be of no use.


def test_the_overlap_is_the_intersection_over_the_union_with_the_last_mask() -> None:
    module = Weights(a=[0.0] * 4)
    hold = hold_on(module, fraction=0.5, decay=0.0)
    phase(hold, module, a=[1.0, 1.0, 0.0, 0.0])
    hold.release()
    # Entries 0 and 1, then 1 and 2: one of three.
    assert phase(hold, module, a=[0.0, 1.0, 1.0, 0.0]).jaccard == pytest.approx(1 / 3)
    hold.release()
    # Entries 1 and 2, then 1 only.
    assert phase(hold, module, a=[0.0, 1.0, 0.0, 0.0]).jaccard == 0.5


@pytest.mark.parametrize(
    ("entries", "held"),
    [
        ("moved_most", {"a 2"}),
        ("moved_least", {"a 1"}),
        ("largest_weight", {"a 0"}),
        ("none", set()),
    ],
)
def test_one_word_says_which_entries_are_held(entries: str, held: set[str]) -> None:
    module = Weights(a=[9.0, 1.0, 1.0])
    hold = hold_on(module, fraction=0.4, entries=entries)
    report = phase(hold, module, a=[0.0, 0.5, 1.0])
    assert held_entries(hold, module) == held
    assert report.held == len(held)
    assert report.moved == 2


def test_random_entries_depend_on_the_seed_only() -> None:
    def chosen(seed: int, moves: list[float]) -> set[str]:
        module = Weights(a=[1.0] * 64)
        hold = hold_on(module, fraction=0.5, entries="random", seed=seed)
        phase(hold, module, a=moves)
        return held_entries(hold, module)

    first = chosen(1, [0.0] * 64)
    assert len(first) == 32
    assert chosen(1, [1.0] * 64) == first
    assert chosen(2, [0.0] * 64) != first


def test_a_step_is_torch_adamw_with_clipping_over_live_entries_only() -> None:
    module = Weights(a=[1.0, 2.0, 3.0])
    hold = hold_on(module, fraction=0.4, clip_norm=0.5)
    phase(hold, module, a=[0.0, 0.0, 1.0])
    reference = nn.Parameter(torch.tensor([1.0, 2.0]))
    optimizer = torch.optim.AdamW([reference], lr=0.1, betas=(0.8, 0.9), eps=1e-7, weight_decay=0.1)

    for gradient in ([0.3, 0.4, 50.0], [3.0, 4.0, 12.0]):
        module.pull(a=gradient)
        report = hold.step(lr=0.1)
        norm = math.hypot(*gradient[:2])
        assert report.gradient_norm == pytest.approx(norm)
        assert report.clip_scale == pytest.approx(min(1, 0.5 / norm), rel=1e-5)
        reference.grad = torch.tensor(gradient[:2]) * report.clip_scale
        optimizer.step()

    weights = module.get_parameter("a")
    assert torch.equal(weights[:2], reference)
    assert weights[2] == 4.0
    # 12^2 of 3^2 + 4^2 + 12^2.
    assert report.held_gradient_share == pytest.approx(144 / 169)
    assert report.update_norm > 0
    assert weights.grad is not None
    assert weights.grad.tolist() == [3.0, 4.0, 12.0]


def test_the_paper_s_gradient_mask_lets_held_entries_drift() -> None:
    module = Weights(a=[1.0, 1.0])
    hold = hold_on(module, fraction=0.5, mode="gradient_mask")
    phase(hold, module, a=[0.0, 1.0])
    module.pull(a=[1.0, 1.0])
    hold.step(lr=0.5)
    # Weight decay alone: 2 * (1 - 0.5 * 0.1).
    assert module.get_parameter("a")[1].item() == pytest.approx(1.9)


def test_rl_s_moments_and_step_counter_are_untouched_by_sft() -> None:
    module = Weights(a=[1.0, 2.0], b=[3.0])
    rl = torch.optim.AdamW(module.parameters(), lr=0.1)
    hold = hold_on(module)
    hold.begin_phase()
    module.pull(a=[1.0, -1.0], b=[1.0])
    rl.step()
    state = copy.deepcopy(rl.state_dict())

    hold.engage()
    hold.step(lr=0.1)
    hold.release()

    after = rl.state_dict()
    assert after["param_groups"] == state["param_groups"]
    for key, saved in state["state"].items():
        assert set(after["state"][key]) == set(saved) == {"step", "exp_avg", "exp_avg_sq"}
        for name, value in saved.items():
            assert torch.equal(after["state"][key][name], value)


def test_shared_moments_go_on_from_rl_s_and_count_the_update() -> None:
    module = Weights(a=[1.0, 2.0])
    options: dict[str, Any] = {"betas": (0.8, 0.9), "eps": 1e-7, "weight_decay": 0.1}
    rl = torch.optim.AdamW(module.parameters(), lr=0.1, **options)
    hold = hold_on(module, fraction=0.5, moments="shared", rl_optimizer=rl)
    hold.begin_phase()
    module.pull(a=[1.0, -1.0])
    rl.step()
    module.move(a=[0.0, 1.0])
    hold.engage()
    twin = copy.deepcopy(module)
    twin_rl = torch.optim.AdamW(twin.parameters(), lr=0.1, **options)
    twin_rl.load_state_dict(copy.deepcopy(rl.state_dict()))
    held_before = [rl.state[module.a][key][1].clone() for key in ("exp_avg", "exp_avg_sq")]

    for weights in (module, twin):
        weights.pull(a=[0.5, 0.5])
    hold.step(lr=0.1)
    twin_rl.step()

    state, twin_state = rl.state[module.a], twin_rl.state[twin.a]
    assert torch.equal(module.a[0], twin.a[0])
    assert torch.equal(state["exp_avg"][0], twin_state["exp_avg"][0])
    assert state["step"].item() == twin_state["step"].item() == 2
    assert [state[key][1] for key in ("exp_avg", "exp_avg_sq")] == held_before


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("where", [0, 1])
def test_a_gradient_that_is_not_finite_changes_nothing(bad: float, where: int) -> None:
    module = Weights(a=[1.0, 2.0])
    hold = hold_on(module, fraction=0.5, clip_norm=1.0)
    phase(hold, module, a=[1.0, 0.0])
    module.pull(a=[1.0, 1.0])
    hold.step(lr=0.1)
    weights = module.get_parameter("a").detach().clone()
    gradient = [1.0, 1.0]
    gradient[where] = bad

    module.pull(a=gradient)
    report = hold.step(lr=0.1)

    assert not report.applied
    assert report.update_norm == 0
    assert torch.equal(module.get_parameter("a"), weights)
    # Its moments and counter went untouched, too: the next step is the second.
    module.pull(a=[1.0, 1.0])
    hold.step(lr=0.1)
    hold.release()
    assert hold.state_dict()["sft"]["steps"] == {"a": 2}


def test_parameters_without_a_gradient_stay_and_count_no_step() -> None:
    module = Weights(a=[1.0], b=[1.0])
    hold = hold_on(module, entries="none")
    module.pull(a=[1.0])
    hold.step(lr=0.1)
    assert module.get_parameter("b").item() == 1.0
    assert hold.state_dict()["sft"]["steps"] == {"a": 1}


def test_parameters_that_are_not_trained_are_ignored() -> None:
    module = Weights(a=[1.0, 1.0], frozen=[1.0] * 10)
    module.get_parameter("frozen").requires_grad_(False)
    report = phase(hold_on(module, fraction=0.5), module, a=[1.0, 2.0])
    assert (report.entries, report.held) == (2, 1)


def test_weights_that_are_not_finite_are_named() -> None:
    module = Weights(a=[1.0], b=[1.0])
    with pytest.raises(ValueError, match=r"must be finite .* is not in b \(1 entries\)"):
        phase(hold_on(module), module, b=[float("nan")])


def test_parameters_longer_than_a_span_are_held_across_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mifo_ext.adapters.shards.SPAN", 8)
    module = Weights(a=[0.0] * 19)
    hold = hold_on(module, fraction=0.5)
    assert [(s.start, s.length) for s in hold.layout.spans] == [(0, 8), (8, 8), (16, 3)]
    phase(hold, module, a=[float(i) for i in range(19)])
    assert held_entries(hold, module) == {f"a {i}" for i in range(10, 19)}


def test_nothing_of_the_hold_stays_on_the_device_after_release() -> None:
    module = Weights(a=[0.0] * 64)
    hold = hold_on(module)
    phase(hold, module, a=[1.0] * 64)
    masks: list[Tensor] = hold.device_tensors()
    assert sum(mask.numel() * mask.element_size() for mask in masks) == 64 // 8
    hold.release()
    assert hold.device_tensors() == []
