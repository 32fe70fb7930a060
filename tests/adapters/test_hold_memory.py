"""What the hold allocates inside a call, by torch's and Python's own records of allocations."""

import tracemalloc
from collections.abc import Callable

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from mifo_ext.adapters import hold as hold_module
from mifo_ext.adapters.hold import ParameterHold
from mifo_ext.adapters.hold_settings import SftOptimizerSettings
from mifo_ext.adapters.shards import SPAN
from mifo_ext.core.passes import TORCH
from tests.support.weights import held

MIB = 1 << 20
# Here importance, history and both moments are used where they are; on an accelerator each is
# brought over, one span at a time.
BROUGHT_OVER = 4 * SPAN * 4


def peak_of(call: Callable[[], object]) -> int:
    """The most bytes that were allocated inside the call at once."""
    tracemalloc.start()  # sees numpy's, which torch's record does not
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        call()
    beside = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    events = [e for e in recorded.profiler.kineto_results.events() if e.name() == "[memory]"]
    now = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak + beside


@pytest.fixture
def module() -> torch.nn.Module:
    """Three and a half spans in one parameter, and a small one."""
    module = torch.nn.Module()
    module.large = torch.nn.Parameter(torch.ones(3 * SPAN + SPAN // 2))
    module.small = torch.nn.Parameter(torch.ones(3))
    for parameter in module.parameters():
        parameter.grad = torch.ones_like(parameter)
    return module


def peaks(module: torch.nn.Module, entries: str) -> tuple[int, int]:
    """What a phase change takes at most, and what a step does."""
    hold = ParameterHold(module, held(entries=entries), SftOptimizerSettings(clip_norm=1.0))
    for _ in range(2):  # The first interval makes the host buffers; the second is measured.
        hold.begin_phase()
        with torch.no_grad():
            module.large[: 2 * SPAN] += 1.0  # type: ignore[index]
        engage = peak_of(hold.engage)
        step = peak_of(lambda: hold.step(lr=0.1))
        hold.release()
    return engage, step


@pytest.mark.parametrize("entries", ["moved_most", "random"])
def test_no_call_takes_more_than_64_mib_for_a_moment(
    module: torch.nn.Module, entries: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hold_module, "passes_where", lambda device: TORCH)
    for peak in peaks(module, entries):
        assert 8 * MIB < peak + BROUGHT_OVER < 64 * MIB


@pytest.mark.parametrize("entries", ["moved_most", "random"])
def test_a_step_in_loops_takes_no_memory_and_a_phase_change_little(
    module: torch.nn.Module, entries: str
) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # What other threads allocate, torch's record does not show.
    try:
        engage, step = peaks(module, entries)
    finally:
        torch.set_num_threads(threads)
    assert MIB < engage < 64 * MIB
    assert step < MIB
