r"""The tiny reasoner: a Qwen2 of 0.8 M parameters that reads one character at a time.

Three traps, each met on verl's path: vLLM's CPU attention wants heads of 32 or more; a Qwen2
tokenizer is rebuilt as byte-level when it is loaded, so the vocabulary is the byte-level alphabet
(with it, "\n" is one token); and a chat template that behaves differently with a generation prompt
would train on one prompt and sample from another.
"""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

PAD, EOS, BOS, UNKNOWN = "<pad>", "<eos>", "<bos>", "<unk>"
CHAT_TEMPLATE = "{% for message in messages %}{{ message['content'] + '\\n' }}{% endfor %}"
CONTEXT = 512


def make_tokenizer() -> Any:
    """One token per byte-level character, and a template that ends each message with a newline.

    Returns:
        A `PreTrainedTokenizerFast` of 260 entries.
    """
    vocabulary = {token: index for index, token in enumerate((PAD, EOS, BOS, UNKNOWN))}
    for character in sorted(pre_tokenizers.ByteLevel.alphabet()):
        vocabulary[character] = len(vocabulary)

    backend = Tokenizer(models.BPE(vocabulary, [], unk_token=UNKNOWN))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=PAD,
        eos_token=EOS,
        bos_token=BOS,
        unk_token=UNKNOWN,
        model_max_length=CONTEXT,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def make_model(tokenizer: Any, *, seed: int) -> Any:
    """A freshly drawn Qwen2 of 0.8 M parameters in fp32.

    Args:
        tokenizer: gives the vocabulary's size and the special tokens.
        seed: the model's weights depend on nothing else.

    Returns:
        A `Qwen2ForCausalLM` with untied embeddings.
    """
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=344,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        dtype="float32",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Qwen2ForCausalLM(config)


def prompt_text(tokenizer: Any, question: str) -> str:
    """The question as the model reads it, through the tokenizer's own chat template."""
    messages = [{"role": "user", "content": question}]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return str(text)


def save_reasoner(model: Any, tokenizer: Any, folder: Path) -> None:
    """Write a Hugging Face folder: config, safetensors, tokenizer."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
