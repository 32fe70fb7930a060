"""What a training row's `target` says, and which tokens carry it."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mifo_ext.data.demonstrations import (
    DemonstrationTokens,
    continuation,
    demonstration_text,
    demonstration_tokens,
)

EOS = 0
MESSAGE = {"role": "assistant", "content": "so 4"}


class Letters:
    """One token a character; an EOS of its own when asked for special tokens."""

    eos_token_id: int | None = EOS

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        return [ord(letter) for letter in text] + [EOS] * add_special_tokens


class LettersWithoutEos(Letters):
    eos_token_id = None


def letters(text: str) -> list[int]:
    return [ord(letter) for letter in text]


@pytest.mark.parametrize(
    "target",
    [
        "so 4",
        MESSAGE,
        [MESSAGE],
        (MESSAGE,),
        np.array([MESSAGE], dtype=object),
        [{"content": "so 4"}],
    ],
    ids=["text", "message", "list", "tuple", "array", "no role"],
)
def test_every_stored_form_gives_the_same_text(target: object) -> None:
    assert demonstration_text(target) == "so 4"


@pytest.mark.parametrize(
    "target",
    [None, float("nan"), "", " \n", [], np.array([], dtype=object), {"content": None}, [None]],
)
def test_a_missing_demonstration_is_none(target: object) -> None:
    assert demonstration_text(target) is None


def test_targets_survive_a_parquet_file_read_by_pandas(tmp_path) -> None:
    pq.write_table(pa.table({"target": [[MESSAGE], None]}), tmp_path / "train.parquet")

    targets = pq.read_table(tmp_path / "train.parquet").to_pandas()["target"]

    assert [demonstration_text(target) for target in targets] == ["so 4", None]


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ([MESSAGE, MESSAGE], "but is 2 messages"),
        ({"role": "user", "content": "2+2?"}, "its role is 'user'"),
        ({"role": "assistant"}, r"has the keys \['role'\]"),
        ({"content": 4}, "content must be text, but is int"),
        (4, "but is int"),
    ],
)
def test_other_targets_are_refused_with_what_they_are(target: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        demonstration_text(target)


def test_the_opening_think_is_left_out_when_the_prompt_ends_with_it() -> None:
    tokens = demonstration_tokens(
        "<think>\nab</think>", Letters(), prompt_text="user: q\n<think>\n", max_length=99
    )

    assert tokens == DemonstrationTokens(ids=[*letters("ab</think>"), EOS], truncated=False)


@pytest.mark.parametrize(
    ("text", "prompt_text", "rest"),
    [
        ("<think>\nab", "q", "<think>\nab"),
        ("ab", "q<think>\n", "ab"),
        ("<think>\nab", "q<think>", "\nab"),
        ("<think> ab", "q<think>\n", "<think> ab"),
        ("a<think>\nb", "q<think>\n", "a<think>\nb"),
        ("<think>\n<think>\nab", "q<think>\n", "<think>\nab"),
    ],
)
def test_only_what_the_prompt_already_says_is_left_out(
    text: str, prompt_text: str, rest: str
) -> None:
    assert continuation(text, prompt_text=prompt_text) == rest


def test_a_demonstration_that_just_fits_keeps_its_eos() -> None:
    tokens = demonstration_tokens("abc", Letters(), prompt_text="q", max_length=4)

    assert tokens == DemonstrationTokens(ids=[*letters("abc"), EOS], truncated=False)


@pytest.mark.parametrize(("max_length", "kept"), [(3, "abc"), (2, "ab"), (1, "a")])
def test_a_demonstration_that_is_cut_gets_no_eos(max_length: int, kept: str) -> None:
    tokens = demonstration_tokens("abc", Letters(), prompt_text="q", max_length=max_length)

    assert tokens == DemonstrationTokens(ids=letters(kept), truncated=True)


@given(st.text(alphabet="ab<think>\n", max_size=20), st.integers(1, 25))
def test_eos_stands_at_the_end_exactly_when_nothing_was_cut(text: str, max_length: int) -> None:
    ids, truncated = demonstration_tokens(
        text, Letters(), prompt_text="q<think>\n", max_length=max_length
    )

    assert 1 <= len(ids) <= max_length
    assert (ids.count(EOS), ids[-1] == EOS) == ((0, False) if truncated else (1, True))


def test_a_limit_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`max_length` must be at least 1, but is 0"):
        demonstration_tokens("a", Letters(), prompt_text="", max_length=0)


def test_a_tokenizer_without_eos_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`tokenizer\.eos_token_id` must be set"):
        demonstration_tokens("a", LettersWithoutEos(), prompt_text="", max_length=9)
