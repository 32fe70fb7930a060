"""A Qwen2 folder of a few thousand weights with a character tokenizer, and sources to prepare."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Regex, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from mifo_ext.data.lengths import Lengths
from mifo_ext.data.prepare import Plan, Prepared, prepare
from tests.support.prepared import Row, write_jsonl

LETTERS = " \n0123456789abcdefghijklmnopqrstuvwxyz<>/|_+-=.?\\{}"
SPECIAL = ("<pad>", "<eos>", "<unk>", "<|im_start|>", "<|im_end|>")


def tiny_tokenizer(*, chatml: bool = True) -> PreTrainedTokenizerFast:
    """One token a character; ChatML's two tokens unless told otherwise."""
    special = SPECIAL if chatml else SPECIAL[:3]
    vocabulary = {token: number for number, token in enumerate((*special, *LETTERS))}
    backend = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = Split(Regex(r"[\s\S]"), behavior="isolated")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token="<eos>",
        pad_token="<pad>",
        unk_token="<unk>",
        additional_special_tokens=list(special[3:]),
        model_max_length=64,
    )
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    return tokenizer


def tiny_model(**changes: object) -> Qwen2ForCausalLM:
    """Two layers of width 64 with two heads of 32, seeded."""
    torch.manual_seed(0)
    settings = {
        "vocab_size": 64,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "max_position_embeddings": 64,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        "tie_word_embeddings": True,
        "eos_token_id": 1,
        "pad_token_id": 0,
    }
    return Qwen2ForCausalLM(Qwen2Config(**{**settings, **changes}))


@pytest.fixture
def write_tiny_model() -> Callable[..., Path]:
    """Writes model and tokenizer as a Hugging Face folder; keywords change the model's config."""

    # Beside a Qwen2 config transformers rebuilds the tokenizer by bytes, so that letters no longer
    # count one token each; `tiny_tokenizer_folder` is for counting.
    def write(folder: Path, *, chatml: bool = True, **changes: object) -> Path:
        tiny_model(**changes).save_pretrained(folder)
        tiny_tokenizer(chatml=chatml).save_pretrained(folder)
        return folder

    return write


@pytest.fixture
def tiny_tokenizer_folder(tmp_path: Path) -> Path:
    """A folder with nothing but the character tokenizer."""
    tiny_tokenizer().save_pretrained(tmp_path / "tokenizer")
    return tmp_path / "tokenizer"


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Prepared]:
    """Prepares the given rows into `tmp_path/out`."""

    def prepare_rows(rows: list[Row], *, lengths: Lengths | None = None, **plan: Any) -> Prepared:
        source = write_jsonl(tmp_path / "source.jsonl", rows)
        return prepare(Plan(source, tmp_path / "out", **plan), lengths=lengths)

    return prepare_rows
