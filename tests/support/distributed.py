"""Runs a function on several gloo ranks, each a process of its own."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def run_on_ranks(
    function: Callable[..., Any],
    world_size: int,
    folder: Path,
    *arguments: Any,
    timeout_s: float = 120,
) -> list[Any]:
    """Call `function(*arguments)` on every rank of a gloo group and return what the ranks return.

    The ranks meet over a file in `folder`, so no port is taken. What they return is saved with
    torch: tensors and plain values. A rank's error is raised here, with its traceback.

    Args:
        function: a function at the top level of an importable module.
        world_size: number of ranks.
        folder: an empty or existing folder; several calls may share it.
        arguments: passed on, pickled.
        timeout_s: ranks that take longer are ended.

    Raises:
        TimeoutError: if the ranks do not end in time.
    """
    place = folder / f"ranks_{time.monotonic_ns()}"
    place.mkdir(parents=True)
    context = mp.spawn(
        _run_rank, (function, world_size, str(place), arguments), nprocs=world_size, join=False
    )
    deadline = time.monotonic() + timeout_s
    while not context.join(timeout=1):
        if time.monotonic() > deadline:
            for process in context.processes:
                process.kill()
                process.join()
            raise TimeoutError(f"{function.__name__} must end in {timeout_s} s, but runs on.")
    return [
        torch.load(place / f"{rank}.pt", weights_only=True, mmap=False)
        for rank in range(world_size)
    ]


def _run_rank(
    rank: int,
    function: Callable[..., Any],
    world_size: int,
    place: str,
    arguments: tuple[Any, ...],
) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{place}/rendezvous", rank=rank, world_size=world_size
    )
    try:
        torch.save(function(*arguments), f"{place}/{rank}.pt")
    finally:
        dist.destroy_process_group()


def introduce_to_verl(**environment: str) -> None:
    """Tell verl's workers which rank this process is, and what else the environment should say."""
    os.environ.update(
        RANK=str(dist.get_rank()),
        WORLD_SIZE=str(dist.get_world_size()),
        LOCAL_RANK="0",
        # Read by verl, used by nobody: the group exists already.
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT="1",
        **environment,
    )
