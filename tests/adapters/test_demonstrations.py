"""Demonstrations found by question, in verl's own data set and with its own prompt tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from verl.utils.dataset.rl_dataset import RLHFDataset
from verl.utils.tokenizer.continuous_token_wiring import create_continuous_token_builder

from mifo_ext.adapters.demonstrations import DemonstrationCatalog, demonstration_source
from mifo_ext.adapters.outcomes import question_id
from mifo_ext.data.demonstration_sources import DemonstrationSource
from mifo_ext.settings_demonstrations import DemonstrationSettings
from tests.data.conftest import tiny_tokenizer
from tests.support.runs import rows, write_rows
from tests.support.teacher import Teacher, settings_of


def catalog_of(
    folder: Path,
    table: list[dict[str, Any]],
    source: DemonstrationSource | None = None,
    **limits: int,
) -> DemonstrationCatalog:
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
        dataset,
        tokenizer,
        max_response_length=limits.get("max_response_length", 40),
        source=source,
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


def source_of(folder: Path, **named: Any) -> DemonstrationSource:
    settings = DemonstrationSettings(**{"file": None, "server": None, **named})
    return demonstration_source(settings, folder=folder / "run", max_response_length=40)


def test_a_file_stands_in_for_a_table_without_targets(tmp_path: Path) -> None:
    solutions = [
        {"problem": "1+1=", "solution": "\\boxed{2}"},
        {"problem": "1+2=", "solution": "\\boxed{99}"},
    ]
    file = tmp_path / "solutions.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in solutions))
    catalog = catalog_of(
        tmp_path, rows(3, target=False), source_of(tmp_path, source="file", file=str(file))
    )
    names = catalog.question_ids()

    catalog.prefetch(names)
    assert [catalog.has(name) for name in names] == [True, False, False]
    assert catalog.rejected == {"wrong": 1, "no_demonstration": 1}
    assert catalog.covered() == names[:2]
    ids = catalog.tokens(names[0]).response_ids
    assert tiny_tokenizer().decode(ids).replace(" ", "") == "\\boxed{2}<eos>"


def test_without_a_source_the_column_covers_every_question(tmp_path: Path) -> None:
    catalog = catalog_of(tmp_path, rows(3), source_of(tmp_path, source="dataset"))

    assert catalog.covered() == catalog.question_ids()
    assert all(catalog.has(name) for name in catalog.question_ids())


def questions_for(*words: str) -> list[dict[str, Any]]:
    """Rows whose first word tells the teacher what to do; the answer is 2."""
    return [
        {**row, "prompt": [{"role": "user", "content": word}], "reward_model": right}
        for row, word in zip(rows(len(words), target=False), words, strict=True)
        for right in [{"style": "rule", "ground_truth": "2"}]
    ]


def test_a_server_is_asked_for_all_at_once_and_has_only_looks_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    table = questions_for("right", "wrong", "garbage")
    with Teacher().running() as teacher:
        server = settings_of(teacher.url)
        catalog = catalog_of(tmp_path, table, source_of(tmp_path, source="server", server=server))
        names = catalog.question_ids()

        assert not catalog.has(names[0])
        assert catalog.rejected == {"not_asked": 1}
        assert len(teacher.requests) == 0

        for _ in range(2):
            catalog.prefetch([*names, "somebody else's"])
            assert [catalog.has(name) for name in names] == [True, False, False]
    # The server's failure was asked again, and is counted once all the same.
    assert teacher.asked() == {"right": 1, "wrong": 1, "garbage": 2}
    assert catalog.rejected == {"not_asked": 1, "wrong": 1, "server_garbage": 1}
    assert catalog.text(names[0]) == "So \\boxed{2}."
    assert (tmp_path / "run" / "demonstrations.jsonl").exists()


def test_a_kept_answer_is_verified_again_before_it_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    table = questions_for("right")
    with Teacher().running() as teacher:
        source = source_of(tmp_path, source="server", server=settings_of(teacher.url))
        catalog_of(tmp_path, table, source).prefetch([question_id(table[0]["prompt"])])
    table[0]["reward_model"] = {"style": "rule", "ground_truth": "7"}
    (tmp_path / "corrected").mkdir()
    corrected = catalog_of(tmp_path / "corrected", table, source)

    assert corrected.reason_against(corrected.question_ids()[0]) == "wrong"
