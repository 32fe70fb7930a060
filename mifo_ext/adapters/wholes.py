"""A module's trainable parameters and the part of each that lies on this rank.

Relies on: FSDP2 shards dimension 0 in torch.chunk's order and keeps the sharded Parameter objects
for good; FSDP1 keeps a flat parameter's shard in `_local_shard` (`data` before its first forward
pass), its gradient shard in `grad`, and says in `_shard_param_infos` where each original
parameter lies in it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, FullyShardedDataParallel
from torch.distributed.tensor import DTensor, Shard

# Parts that FSDP1, activation checkpointing and torch.compile insert in parameter names.
_WRAPPERS = ("_fsdp_wrapped_module.", "_checkpoint_wrapped_module.", "_orig_mod.")


class Whole(NamedTuple):
    """A trainable parameter of the unsharded model and its part on this rank."""

    name: str
    entries: int
    start: int
    length: int
    offset: int
    parameter: nn.Parameter


def wholes_of(
    module: nn.Module,
) -> tuple[list[Whole], dist.ProcessGroup | None, torch.device]:
    """Its trainable parameters by name, the ranks that share them, and where these exchange.

    Raises:
        ValueError: if the module cannot be held, naming why and how to mend it.
    """
    if isinstance(module, FullyShardedDataParallel):
        wholes, group, device = _fsdp1(module)
    else:
        wholes, group, device = _fsdp2_or_plain(module)
    _check(wholes)
    return sorted(wholes, key=lambda whole: whole.name), group, device


def flat(value: Tensor) -> Tensor:
    """This rank's entries of a parameter, its gradient or its optimizer's state, as one view."""
    if isinstance(value, DTensor):
        value = value.to_local()
    # After an evaluation FSDP1's `data` may still be the gathered parameter.
    shard = getattr(value, "_local_shard", None)
    return (value if shard is None else shard).detach().view(-1)


def _fsdp2_or_plain(
    module: nn.Module,
) -> tuple[list[Whole], dist.ProcessGroup | None, torch.device]:
    for part in module.modules():
        if isinstance(part, FSDPModule):
            part.reshard()  # Gathered, a module shows plain tensors in place of its DTensors.
    wholes, groups = [], set()
    device = torch.device("cpu")
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        name = _logical(name)
        local, start, group = parameter.data, 0, None
        if isinstance(parameter.data, DTensor):
            group, start = _sharding(name, parameter.data)
            local = parameter.data.to_local()
            device = torch.device(parameter.data.device_mesh.device_type)
        groups.add(group)
        wholes.append(Whole(name, parameter.numel(), start, local.numel(), 0, parameter))
    if len(groups) > 1:
        raise ValueError(
            "All trainable parameters must be sharded over the same ranks, but are not. "
            "The hold supports FSDP2 and HSDP without tensor or expert parallelism."
        )
    return wholes, groups.pop() if groups else None, device


def _sharding(name: str, value: DTensor) -> tuple[dist.ProcessGroup, int]:
    """The ranks that share a DTensor, and the index of this rank's first entry."""
    dims = [i for i, placement in enumerate(value.placements) if not placement.is_replicate()]
    if len(dims) != 1 or value.placements[dims[0]] != Shard(0):
        raise ValueError(
            f"`{name}` must be sharded along dimension 0 of one mesh dimension, but its placements "
            f"are {value.placements}. The hold supports FSDP2 and HSDP without tensor parallelism."
        )
    group = value.device_mesh.get_group(dims[0])
    rows, row = value.shape[0], value.shape[1:].numel()
    start = min(-(-rows // group.size()) * group.rank(), rows)
    return group, start * row


def _fsdp1(
    module: FullyShardedDataParallel,
) -> tuple[list[Whole], dist.ProcessGroup | None, torch.device]:
    wholes, group = [], None
    for prefix, part in module.named_modules():
        handle: Any = getattr(part, "_handle", None)
        if not isinstance(part, FullyShardedDataParallel) or handle is None:
            continue
        if handle._use_orig_params:
            raise ValueError(
                "`use_orig_params` must be False under FSDP1, but is True. Leave it at verl's "
                "default, or use strategy=fsdp2."
            )
        flat = handle.flat_param
        if not flat.requires_grad:
            continue
        if handle.uses_sharded_strategy:
            group = handle.process_group
        for fqn, entries, info in zip(
            flat._fqns, flat._numels, flat._shard_param_infos, strict=True
        ):
            name = _logical(f"{prefix}.{fqn}" if prefix else fqn)
            start, length, offset = 0, 0, 0
            if info.in_shard:
                start, length = info.intra_param_start_idx, info.numel_in_shard
                offset = info.offset_in_shard
            wholes.append(Whole(name, entries, start, length, offset, flat))
    return wholes, group, module.compute_device or torch.device("cpu")


def _logical(name: str) -> str:
    for wrapper in _WRAPPERS:
        name = name.replace(wrapper, "")
    return name


def _check(wholes: list[Whole]) -> None:
    if not wholes:
        raise ValueError("`module` must have trainable parameters, but has none.")
    lora = [whole.name for whole in wholes if "lora_" in whole.name]
    if lora:
        raise ValueError(
            f"LoRA must be off, but `{lora[0]}` is trained. The hold works on full parameters: "
            "set actor_rollout_ref.model.lora_rank=0."
        )
    low = [whole for whole in wholes if whole.parameter.dtype != torch.float32]
    if low:
        raise ValueError(
            f"Master weights must be float32, but `{low[0].name}` is {low[0].parameter.dtype}: "
            "RL's updates would be rounded away. Set "
            "actor_rollout_ref.actor.fsdp_config.model_dtype=fp32."
        )
