"""What single modules of verl, torch and vLLM need to run on plain CPU cores.

Each change is made when its module is imported (`wrapt`'s import hooks), in whichever process
imports it, and does nothing where verl found an accelerator. Nothing of verl is imported here:
`import verl` loads our plugin, which needs this module whole.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
import wrapt


def register() -> None:
    """Have every module changed when it is imported."""
    for name, change in (
        ("verl.utils.distributed", _plain_gloo),
        ("verl.workers.engine.fsdp.transformer_impl", _engines),
        ("verl.utils.model", _critics_attention),
        ("torch.distributed.fsdp._init_utils", _fsdp1_shares_cpu_weights),
        ("verl.utils.fsdp_utils", _fsdp1_stays),
        ("vllm.model_executor.layers.utils", _keep_weights_loadable),
    ):
        wrapt.register_post_import_hook(change, name)


def is_active() -> bool:
    """Whether verl runs on the CPU here."""
    from verl.plugin.platform import platform_manager

    return bool(platform_manager.get_platform().device_name == "cpu")


def _plain_gloo(module: Any) -> None:
    """Ask torch for "gloo": it refuses "cpu:gloo,cpu:gloo", which verl composes here."""
    wrapt.wrap_function_wrapper(module, "initialize_global_process_group_ray", _with_plain_gloo)


def _with_plain_gloo(wrapped: Any, _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    call = inspect.signature(wrapped).bind_partial(*args, **kwargs)
    if is_active() and not call.arguments.get("backend"):
        call.arguments["backend"] = "gloo"
    return wrapped(*call.args, **call.kwargs)


def _engines(module: Any) -> None:
    """Register verl's FSDP engines, which are plain torch, for the device "cpu"."""
    register_engine = module.EngineRegistry.register
    for model_type, engine in (
        ("language_model", module.FSDPEngineWithLMHead),
        ("value_model", module.FSDPEngineWithValueHead),
    ):
        register_engine(model_type=model_type, backend=["fsdp", "fsdp2"], device="cpu")(engine)


def _critics_attention(module: Any) -> None:
    """Load a critic with the attention that its configuration names, as verl loads an actor.

    verl's own way asks for flash attention whatever the configuration says, then for trl.
    """
    wrapt.wrap_function_wrapper(module, "load_valuehead_model", _load_critic)


def _load_critic(wrapped: Any, _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if not is_active():
        return wrapped(*args, **kwargs)
    from transformers import AutoModelForTokenClassification

    given = inspect.signature(wrapped).bind(*args, **kwargs).arguments
    return AutoModelForTokenClassification.from_pretrained(
        given["local_path"],
        config=given["model_config"],
        dtype=given["torch_dtype"],
        trust_remote_code=given["trust_remote_code"],
    )


def _fsdp1_shares_cpu_weights(module: Any) -> None:
    """Let FSDP1 hand rank 0's weights to all ranks, as verl asks: gloo can, torch refuses."""
    check = "_check_module_states_for_sync_module_states"
    wrapt.wrap_function_wrapper(module, check, _on_accelerators_only)


def _fsdp1_stays(module: Any) -> None:
    """Leave FSDP1's weights where they are: verl would load them to the device "cpu:cpu"."""
    wrapt.wrap_function_wrapper(module, "load_fsdp_model_to_gpu", _on_accelerators_only)


def _on_accelerators_only(
    wrapped: Any, _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    return None if is_active() else wrapped(*args, **kwargs)


def _keep_weights_loadable(module: Any) -> None:
    """Keep linear weights in place in vLLM's CPU build.

    It packs them for its own kernels and drops the originals, after which verl's weight sync
    (`load_weights`) finds nothing to write to.
    """
    if not is_active():
        return

    def dispatch(layer: torch.nn.Module, remove_weight: bool) -> None:
        layer.cpu_linear = torch.nn.functional.linear  # type: ignore[assignment]

    module.dispatch_cpu_unquantized_gemm = dispatch
