"""What the engine is given: prompts with one beginning, and samples as they end."""

from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, processors
from transformers import PreTrainedTokenizerFast

from mifo_ext.eval.engine import EngineSettings, VllmSampler, prompt_tokens
from mifo_ext.eval.sampler import SamplerError


def tokenizer(*, adds_beginning: bool) -> Any:
    """Knows `<s>` (1) and `a` (2), and puts `<s>` before everything when told to."""
    words = Tokenizer(models.WordLevel({"?": 0, "<s>": 1, "a": 2}, unk_token="?"))
    if adds_beginning:
        words.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", 1)]
        )
    return PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<s>", unk_token="?")


@pytest.mark.parametrize(
    ("adds_beginning", "prompt", "tokens"),
    [(True, "a", [1, 2]), (True, "<s>a", [1, 2]), (False, "a", [2]), (False, "<s>a", [1, 2])],
)
def test_a_prompt_begins_once(adds_beginning: bool, prompt: str, tokens: list[int]) -> None:
    assert prompt_tokens(tokenizer(adds_beginning=adds_beginning), prompt) == tokens


@pytest.mark.slow
def test_a_model_that_cannot_be_served_is_one_error_that_names_the_log(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "no such model"}')
    settings = EngineSettings(model=tmp_path, context=64, log=tmp_path / "engine.log")

    with pytest.raises(SamplerError, match=r"vLLM must be able to serve the model, but: .*"):
        VllmSampler(settings)
