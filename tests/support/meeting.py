"""What a rank runs; apart from the tests, whose imports would cost every rank seconds."""

from __future__ import annotations

import os

import torch
import torch.distributed as dist


def meet_again(place: str) -> list[object]:
    """Leave the group and meet in one that verl makes; its backend, a sum and its size."""
    from verl.utils.distributed import initialize_global_process_group_ray

    rank = dist.get_rank()
    dist.destroy_process_group()
    os.environ.update(RANK=str(rank), WORLD_SIZE="2", DIST_INIT_METHOD=f"file://{place}/verl_meets")
    initialize_global_process_group_ray(60)
    total = torch.tensor([rank + 1])
    dist.all_reduce(total)
    return [dist.get_backend(), int(total), dist.get_world_size()]
