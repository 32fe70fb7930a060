"""From verl's FSDP shards to a Hugging Face folder, on the CPU.

verl's own merger finds the shards, puts them together and saves the model with its tokenizer. Three
of its habits are replaced:

1. It unpickles shards with `weights_only=False`, which runs whatever code a file holds. Here every
   shard is read with `weights_only=True`; what FSDP2 writes passes.
2. It rounds every weight to bfloat16. Here the caller chooses; float32 keeps every bit.
3. It reads rank 0 twice. Here shards are memory-mapped, so only what is merged is read.
"""

from __future__ import annotations

import json
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch.distributed.tensor import DTensor
from verl.model_merger.base_model_merger import ModelMergerConfig
from verl.model_merger.fsdp_model_merger import FSDPModelMerger, merge_non_dtensor_shards

Shard = dict[str, torch.Tensor]


class SafeMerger(FSDPModelMerger):  # type: ignore[misc]
    """verl's merger, reading tensors only and keeping a chosen precision."""

    def __init__(self, config: ModelMergerConfig, *, dtype: torch.dtype) -> None:
        """Prepare to merge.

        Args:
            config: verl's settings.
            dtype: of the weights written.
        """
        super().__init__(config)
        self.dtype = dtype

    def _load_rank_zero_state_dict(self, world_size: int) -> Shard:
        return self._load_shard(world_size, rank=0)

    def _load_and_merge_state_dicts(
        self,
        world_size: int,
        total_shards: int,
        mesh_shape: tuple[int, ...],
        mesh_dim_names: tuple[str, ...],
    ) -> Shard:
        shards = [self._load_shard(world_size, rank=rank) for rank in range(total_shards)]
        _check_same_names(shards)
        return {name: self._merged(name, [shard[name] for shard in shards]) for name in shards[0]}

    def _merged(self, name: str, parts: list[torch.Tensor]) -> torch.Tensor:
        first = parts[0]
        if not isinstance(first, DTensor):
            whole: torch.Tensor = merge_non_dtensor_shards(name, parts)
            return whole.to(self.dtype) if whole.is_floating_point() else whole
        # The last mesh dimension shards; one before it (HSDP) holds copies.
        local = [part.to_local().to(self.dtype) for part in parts if isinstance(part, DTensor)]
        merged: torch.Tensor = self._merge_by_placement(local, first.placements[-1])
        return merged

    def _load_shard(self, world_size: int, *, rank: int) -> Shard:
        path = Path(self.config.local_dir) / f"model_world_size_{world_size}_rank_{rank}.pt"
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing: all {world_size} shards are needed.")
        try:
            shard: Shard = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except UnpicklingError as error:
            raise ValueError(
                f"`{path.name}` must hold nothing but tensors, but does not: "
                f"{str(error).splitlines()[0]} Checkpoints of strategy=fsdp2 do; set it and resume "
                "from here, or use verl's own merger if you trust the file."
            ) from error
        return shard


def merge_checkpoint(actor: Path, out: Path, *, dtype: torch.dtype) -> None:
    """Write a Hugging Face folder from the shards of an actor.

    Args:
        actor: folder `global_step_N/actor` of a verl checkpoint.
        out: folder to write.
        dtype: of the weights written.

    Raises:
        FileNotFoundError: when a part of the checkpoint is missing.
        ValueError: when a shard holds more than tensors, or the ranks disagree.
        RuntimeError: when verl finds its own result incomplete.
    """
    config = ModelMergerConfig(
        operation="merge",
        backend="fsdp",
        local_dir=str(actor),
        target_dir=str(out),
        hf_model_config_path=str(actor / "huggingface"),
    )
    SafeMerger(config, dtype=dtype).merge_and_save()
    # verl builds its model in bfloat16, and config.json says so whatever the weights are.
    written = json.loads((out / "config.json").read_text(encoding="utf-8"))
    written["dtype"] = str(dtype).removeprefix("torch.")
    (out / "config.json").write_text(json.dumps(written, indent=2) + "\n", encoding="utf-8")


def _check_same_names(shards: list[Shard]) -> None:
    for rank, shard in enumerate(shards):
        if shard.keys() != shards[0].keys():
            different = sorted(shard.keys() ^ shards[0].keys())
            raise ValueError(
                f"Every rank must hold the same weights, but rank {rank} differs from rank 0 in "
                f"{', '.join(different[:3])}."
            )
