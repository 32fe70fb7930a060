"""Demonstrations found by question, in verl's own data set and with its own prompt tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from verl.utils.dataset.rl_dataset import RLHFDataset
from verl.utils.tokenizer.continuous_token_wiring import create_continuous_token_builder

from mifo_ext.adapters.demonstrations import DemonstrationCatalog
from mifo_ext.adapters.outcomes import question_id
from tests.data.conftest import tiny_tokenizer
from tests.support.runs import rows, write_rows


def catalog_of(folder: Path, table: list[dict[str, Any]], **limits: int) -> DemonstrationCatalog:
    """A catalog over verl's data set of a table, characters for tokens."""
    tokenizer = tiny_tokenizer()
    config = OmegaConf.create(
        {
            "cache_dir": str(folder / "cache"),
            "max_prompt_length": limits.get("max_prompt_length", 40),
            "filter_overlong_prompts": True,
            "filter_overlong_prompts_workers": None,
        }
    )
    dataset = RLHFDataset(str(write_rows(folder / "train.parquet", table)), tokenizer, config)
    return DemonstrationCatalog(
        dataset, tokenizer, max_response_length=limits.get("max_response_length", 40)
    )


def test_prompts_are_the_tokens_of_verls_agent_loop(tmp_path: Path) -> None:
    catalog = catalog_of(tmp_path, rows(3))
    builder = create_continuous_token_builder(
        tiny_tokenizer(), hf_model_type=None, chat_template_kwargs={}
    )

    for row in rows(3):
        question = question_id(row["prompt"])
        assert catalog.tokens(question).prompt_ids == builder.build_initial_tokens(row["prompt"])


def test_a_demonstration_is_the_answer_and_its_end(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()

    demonstration = catalog_of(tmp_path, rows(3)).tokens(question_id(rows(3)[1]["prompt"]))

    # The tokenizer knows no colon.
    prompt = tokenizer.decode(demonstration.prompt_ids).replace(" ", "").replace("<unk>", ":")
    assert prompt == "user:1+2=\nassistant:"
    assert tokenizer.decode(demonstration.response_ids).replace(" ", "") == "\\boxed{3}<eos>"
    assert not demonstration.truncated


def test_a_long_demonstration_is_cut_and_loses_its_end(tmp_path: Path) -> None:
    catalog = catalog_of(tmp_path, rows(1), max_response_length=5)

    demonstration = catalog.tokens(catalog.question_ids()[0])

    assert len(demonstration.response_ids) == 5
    assert tiny_tokenizer().eos_token_id not in demonstration.response_ids
    assert demonstration.truncated


def test_questions_are_named_as_the_rollouts_name_them(tmp_path: Path) -> None:
    table = rows(3)
    catalog = catalog_of(tmp_path, [*table, {**table[0], "extra_info": {"index": 9}}])

    # `raw_prompt` of verl's rows is what rollouts carry.
    raw = [question_id(catalog._dataset[n]["raw_prompt"]) for n in range(3)]
    assert catalog.question_ids() == raw
    assert len(catalog) == 3
    assert catalog.row(raw[2])["extra_info"]["index"] == 3
    # Of a question that stands there twice, the first row counts.
    assert catalog.row(raw[0])["extra_info"]["index"] == 1


def test_prompts_that_verl_drops_are_not_in_the_catalog(tmp_path: Path) -> None:
    table = rows(2)
    table[0]["prompt"][0]["content"] = "1" * 60

    assert catalog_of(tmp_path, table).question_ids() == [question_id(table[1]["prompt"])]


def test_only_right_demonstrations_are_used_and_others_counted_once(tmp_path: Path) -> None:
    table = rows(4)
    table[1]["target"] = "\\boxed{99}"
    table[2]["target"] = None
    catalog = catalog_of(tmp_path, table)
    names = [question_id(row["prompt"]) for row in table]

    for _ in range(2):
        assert [catalog.has(name) for name in names] == [True, False, False, True]
        assert not catalog.has("somebody else's")

    assert catalog.rejected["no_demonstration"] == 1
    assert catalog.rejected["unknown_question"] == 1
    assert sum(catalog.rejected.values()) == 3


def test_tokens_of_a_question_without_demonstration_are_an_error(tmp_path: Path) -> None:
    table = rows(2)
    table[1]["target"] = None

    with pytest.raises(ValueError, match="has no demonstration"):
        catalog_of(tmp_path, table).tokens(question_id(table[1]["prompt"]))
