"""Where demonstrations come from: one word, and what that word needs; secrets are never shown."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

from mifo_ext.node_reader import NodeReader
from mifo_ext.settings_demonstrations import (
    DemonstrationSettings,
    ServerSettings,
    read_demonstrations,
)

SERVER: dict[str, Any] = {
    "url": "http://host:8000/v1",
    "model": "teacher",
    "api_key_env": None,
    "tries": 4,
    "temperature": None,
    "max_tokens": None,
    "timeout_s": 600,
    "step_timeout_s": 1800,
    "concurrency": 32,
}


def read(node: dict[str, Any]) -> tuple[DemonstrationSettings, list[str]]:
    problems: list[str] = []
    path = "interleave.demonstrations"
    return read_demonstrations(NodeReader(path, node, DemonstrationSettings, problems)), problems


def server_problems(**changes: Any) -> list[str]:
    return read({"source": "server", "server": {**SERVER, **changes}})[1]


def test_without_a_word_it_is_the_data_sets_column() -> None:
    expected = DemonstrationSettings(source="dataset", file=None, server=None)

    assert read({}) == (expected, [])
    assert read({"source": "dataset", "file": None}) == (expected, [])


def test_a_file_needs_its_path() -> None:
    settings, problems = read({"source": "file", "file": "a.jsonl"})
    assert (settings.source, settings.file, settings.server) == ("file", "a.jsonl", None)
    assert problems == []

    sentence = (
        "`interleave.demonstrations.file` must be the path of a .parquet, .jsonl or .json file, but"
    )
    assert read({"source": "file"})[1] == [f"{sentence} is missing."]
    assert read({"source": "file", "file": None})[1] == [f"{sentence} is null."]


def test_a_server_is_read_whole() -> None:
    settings, problems = read({"source": "server", "server": SERVER})

    assert problems == []
    assert settings.file is None
    assert settings.server == ServerSettings(
        url="http://host:8000/v1",
        model="teacher",
        api_key_env=None,
        tries=4,
        temperature=None,
        max_tokens=None,
        timeout_s=600.0,
        step_timeout_s=1800.0,
        concurrency=32,
    )


def test_a_server_needs_everything_that_has_no_null() -> None:
    _, problems = read({"source": "server"})

    missing = {problem.split("`")[1].rpartition(".")[2] for problem in problems}
    assert missing == {"url", "model", "tries", "timeout_s", "step_timeout_s", "concurrency"}
    assert all(problem.endswith("but is missing.") for problem in problems)


def test_what_another_source_does_not_use_is_checked_all_the_same() -> None:
    settings, problems = read({"file": 3, "server": {"tries": 0, "trys": 1}})

    assert (settings.file, settings.server) == (None, None)
    assert [problem.split("`")[1] for problem in problems] == [
        "interleave.demonstrations.file",
        "interleave.demonstrations.server.trys",
        "interleave.demonstrations.server.tries",
    ]


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("url", None, "an address such as http://host:8000/v1, but is null."),
        ("url", "host:8000/v1", "an address such as http://host:8000/v1, but is 'host:8000/v1'."),
        ("url", "ftp://host/v1", "an address such as http://host:8000/v1, but is"),
        ("url", "http:///v1", "an address such as http://host:8000/v1, but is"),
        ("url", "http://[::1/v1", "an address such as http://host:8000/v1, but is"),
        ("url", "http://host:99999/v1", "an address such as http://host:8000/v1, but is"),
        ("url", "http://a host/v1", "an address such as http://host:8000/v1, but is"),
        ("model", " ", "the name of a model on the server, but is ' '."),
        ("tries", 0, "a whole number, at least 1, but is 0."),
        ("temperature", -1, "a number, at least 0, or null, but is -1."),
        ("max_tokens", 0, "a whole number, at least 1, or null, but is 0."),
        ("timeout_s", 0, "a number above 0, but is 0."),
        ("step_timeout_s", math.inf, "a number above 0, but is inf."),
        ("concurrency", True, "a whole number, at least 1, but is True."),
    ],
)
def test_a_value_out_of_range_is_refused(key: str, value: Any, expected: str) -> None:
    (problem,) = server_problems(**{key: value})

    assert problem.startswith(f"`interleave.demonstrations.server.{key}` must be {expected}")


@pytest.mark.parametrize(
    "url", ["http://host/v1", "https://host/v1/", "http://10.0.0.1:8000", "http://[::1]:8000/v1"]
)
def test_an_address_may_be_of_any_host(url: str) -> None:
    assert server_problems(url=url) == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("url", "https://me:secret@host/v1"),
        ("url", "https://host/v1?key=secret"),
        ("url", "secret@host"),
        ("api_key_env", "sk-secret"),
        ("api_key_env", "secret secret"),
        ("api_key_env", ""),
    ],
)
def test_what_may_be_a_secret_is_refused_and_not_shown(key: str, value: str) -> None:
    (problem,) = server_problems(**{key: value})

    assert problem.startswith(f"`interleave.demonstrations.server.{key}` must ")
    assert "not shown" in problem
    assert "secret" not in problem.replace("it may be secret", "")


def test_a_key_in_the_settings_is_refused_and_not_shown() -> None:
    (problem,) = server_problems(api_key="sk-secret")

    assert "`interleave.demonstrations.server.api_key` is not a setting" in problem
    assert "Did you mean `api_key_env`?" in problem
    assert "sk-secret" not in problem


def test_values_must_agree() -> None:
    assert server_problems(temperature=0, tries=2) == [
        "`interleave.demonstrations.server.tries` must be 1 where `temperature` is 0, but is 2: "
        "every try would give the same answer."
    ]
    assert server_problems(temperature=0, tries=1) == []
    assert server_problems(timeout_s=60, step_timeout_s=59.5) == [
        "`interleave.demonstrations.server.step_timeout_s` must be at least `timeout_s` (60), but "
        "is 59.5: no answer could take its time."
    ]
    assert server_problems(timeout_s=60, step_timeout_s=60) == []


@pytest.mark.parametrize("settings", [DemonstrationSettings, ServerSettings])
def test_settings_are_frozen_and_keyword_only(settings: Any) -> None:
    assert settings.__dataclass_params__.frozen
    assert all(field.kw_only for field in dataclasses.fields(settings))
