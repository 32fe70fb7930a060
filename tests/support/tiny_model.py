"""A model folder that verl's workers load, and questions with answers in its vocabulary."""

from __future__ import annotations

from pathlib import Path

import torch

VOCABULARY = 40


def write_tiny_model(folder: Path) -> Path:
    """Write a Qwen2 of a few thousand parameters, whose shards are uneven, with some tokenizer."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=24,
        intermediate_size=36,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
        tie_word_embeddings=False,
        bos_token_id=1,
        eos_token_id=1,
        pad_token_id=0,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
    words = Tokenizer(models.WordLevel({str(n): n for n in range(VOCABULARY)}, unk_token="0"))
    PreTrainedTokenizerFast(tokenizer_object=words, pad_token="0", eos_token="1").save_pretrained(
        folder
    )
    return folder


def questions_and_answers(seed: int, count: int) -> list[tuple[list[int], list[int]]]:
    """Random tokens of various lengths: 2 to 4, then 3 to 11."""
    generator = torch.Generator().manual_seed(seed)

    def ids(low: int, high: int) -> list[int]:
        length = int(torch.randint(low, high, (1,), generator=generator))
        return torch.randint(2, VOCABULARY, (length,), generator=generator).tolist()

    return [(ids(2, 5), ids(3, 12)) for _ in range(count)]
