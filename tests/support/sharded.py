"""A small model, sharded in every way the hold supports."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.fsdp.wrap import ModuleWrapPolicy

KINDS = ("fsdp2", "hsdp", "fsdp1")


class Block(nn.Linear):
    """A layer that is wrapped on its own; its rows do not divide by two."""


def plain() -> nn.Module:
    """Seven rows, then three, then one: uneven shards, padding, and a rank without a share."""
    torch.manual_seed(0)
    return nn.Sequential(Block(5, 7), nn.Tanh(), nn.Linear(7, 3), nn.Tanh(), Block(3, 1))


def sharded(kind: str) -> nn.Module:
    module = plain()
    if kind == "fsdp1":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return FullyShardedDataParallel(
                module,
                auto_wrap_policy=ModuleWrapPolicy({Block}),
                device_id=torch.device("cpu"),
            )
    mesh = (
        init_device_mesh("cpu", (2, 1), mesh_dim_names=("replicate", "shard"))
        if kind == "hsdp"
        else init_device_mesh("cpu", (2,))
    )
    for block in module:
        if isinstance(block, Block):
            fully_shard(block, mesh=mesh)
    fully_shard(module, mesh=mesh)
    return module


def joined(parts: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Put the ranks' spans, keyed "name:first index", together: each entry exactly once."""
    starts = sorted(
        ((key.rsplit(":", 1), value) for part in parts for key, value in part.items()),
        key=lambda item: (item[0][0], int(item[0][1])),
    )
    parameters: dict[str, list[Tensor]] = {}
    for (name, start), value in starts:
        found = parameters.setdefault(name, [])
        assert sum(piece.numel() for piece in found) == int(start)
        found.append(value)
    return {name: torch.cat(found) for name, found in parameters.items()}


def whole(parts: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Every entry of every parameter of the small model."""
    found = joined(parts)
    expected = {name: value.numel() for name, value in plain().named_parameters()}
    assert {name: value.numel() for name, value in found.items()} == expected
    return found
