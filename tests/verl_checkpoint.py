"""Saves a tiny model as verl's actors do: `python verl_checkpoint.py WORLD_SIZE FOLDER`.

A script of its own, since spawned ranks import what they run by name.
"""

from __future__ import annotations

import multiprocessing
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast, Qwen2ForCausalLM


def tiny_model() -> Qwen2ForCausalLM:
    """Odd sizes: 65 rows do not divide by two ranks. Seeded, so that it can be made again."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    return Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=65,
            hidden_size=36,
            intermediate_size=50,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_key_value_heads=1,
            max_position_embeddings=64,
            tie_word_embeddings=False,
            architectures=["Qwen2ForCausalLM"],
        )
    )


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Knows the word "a", token 2."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    words = {"<unk>": 0, "<eos>": 1, "a": 2}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel(words, unk_token="<unk>")),
        unk_token="<unk>",
        eos_token="<eos>",
        chat_template="{{ messages[0]['content'] }}",
    )


def save(rank: int, world_size: int, folder: str) -> None:
    """One rank's part."""
    import torch
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    from verl.utils.checkpoint.fsdp_checkpoint_manager import FSDPCheckpointManager

    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=world_size
    )
    model = tiny_model()
    mesh = init_device_mesh("cpu", (world_size,), mesh_dim_names=("fsdp",))
    for layer in model.model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    manager = FSDPCheckpointManager(
        model,
        optimizer=torch.optim.AdamW(model.parameters()),
        processing_class=tiny_tokenizer(),
    )
    manager.save_checkpoint(f"{folder}/global_step_3/actor", global_step=3)
    torch.distributed.destroy_process_group()


def main(world_size: int, folder: str) -> int:
    """All ranks; the number of those that failed."""
    spawn = multiprocessing.get_context("spawn")
    ranks = [spawn.Process(target=save, args=(n, world_size, folder)) for n in range(world_size)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join()
    return sum(rank.exitcode != 0 for rank in ranks)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2]))
