"""What a recipe loads into every process of its run (verl's `VERL_USE_EXTERNAL_MODULES`).

Importing this module is cheap: everything else is imported right after the verl module it builds
on, in the processes that use it.
"""

from __future__ import annotations

import importlib
from typing import Any

import wrapt

ENGINE_VENDOR = "mifo"
"""The recipe sets `VERL_ENGINE_VENDOR` to it, so that verl's registry hands out our engine."""


def _import(name: str) -> Any:
    return lambda _: importlib.import_module(name)


wrapt.register_post_import_hook(
    _import("mifo_ext.adapters.trainer"), "verl.trainer.ppo.v1.trainer_sync"
)
wrapt.register_post_import_hook(
    _import("mifo_ext.adapters.engine"), "verl.workers.engine.fsdp.transformer_impl"
)
wrapt.register_post_import_hook(
    _import("mifo_ext.adapters.agent_loop"), "verl.experimental.agent_loop.single_turn_agent_loop"
)
wrapt.register_post_import_hook(
    _import("mifo_ext.adapters.weight_socket"),
    "verl.workers.rollout.vllm_rollout.bucketed_weight_transfer",
)
