"""Prompts are the published ones, byte by byte, and no question can disturb them."""

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import Environment

from mifo_ext.data.prompts import chat_format
from mifo_ext.eval.templates import (
    Template,
    from_tokenizer,
    render,
    template_named,
    template_names,
)
from mifo_ext.world.reasoner import make_tokenizer, prompt_text

AWKWARD = "What is {question} of 100% in \\frac{1}{2}?\n{0} $x$ <think>"
NAMED = [name for name in template_names() if name != "tokenizer"]


def jinja_text(template: str, messages: list[dict[str, str]], **given: Any) -> str:
    return Environment().from_string(template).render(messages=messages, **given)


class JinjaTokenizer:
    """Renders a chat template as transformers does."""

    def __init__(self, template: str | None) -> None:
        self.chat_template = template

    def apply_chat_template(
        self, messages: list[dict[str, str]], *, tokenize: bool, add_generation_prompt: bool
    ) -> str:
        assert not tokenize
        assert self.chat_template is not None
        return jinja_text(self.chat_template, messages, add_generation_prompt=add_generation_prompt)


def test_the_names_are_those_of_the_page() -> None:
    assert template_names() == ["luffy", "qwen", "prime", "r1", "no", "world", "tokenizer"]


def test_luffy_is_what_its_chat_template_renders() -> None:
    messages = [{"role": "user", "content": AWKWARD}]
    chat = chat_format("luffy").chat_template
    expected = jinja_text(chat, messages, add_generation_prompt=True)
    assert render(template_named("luffy"), AWKWARD) == expected
    assert expected.endswith("<|im_start|>assistant\n<think>\n")


def test_qwen_is_chatml_with_a_line_on_the_box() -> None:
    assert render(template_named("qwen"), "1+1?") == (
        "<|im_start|>system\n"
        "Please reason step by step, and put your final answer within \\boxed{}.<|im_end|>\n"
        "<|im_start|>user\n1+1?<|im_end|>\n<|im_start|>assistant\n"
    )


def test_prime_asks_for_latex_and_ends_at_the_assistant() -> None:
    text = render(template_named("prime"), "1+1?")
    assert text.startswith("A conversation between User and Assistant. The user asks a question, ")
    assert text.endswith(
        "</answer>. User: 1+1?\n\nPresent the answer in LaTex format: \\boxed{Your answer}. "
        "Assistant:"
    )


def test_r1_opens_the_thinking_and_stops_at_the_answer() -> None:
    template = template_named("r1")
    text = render(template, "1+1?")
    assert text.startswith("A conversation between User and Assistant. The User asks a question, ")
    assert text.endswith("<answer> answer here </answer>.\nUser: 1+1?\nAssistant: <think>")
    assert template.stop == ("</answer>",)


def test_a_response_ends_where_the_format_says_a_turn_ends() -> None:
    stops = {name: template_named(name).stop for name in NAMED}

    chatml, answer_tag = ("<|im_end|>",), ("</answer>",)
    assert {name: stop for name, stop in stops.items() if stop} == {
        "luffy": chatml,
        "qwen": chatml,
        "r1": answer_tag,
    }


def test_no_template_is_the_bare_question() -> None:
    assert render(template_named("no"), AWKWARD) == AWKWARD


def test_world_is_what_the_tiny_reasoner_was_schooled_on() -> None:
    tokenizer = make_tokenizer()
    assert render(template_named("world"), "3+4+7=") == prompt_text(tokenizer, "3+4+7=")
    own = from_tokenizer(tokenizer)
    assert (own.text, own.name) == (template_named("world").text, "tokenizer")


def test_prompts_that_open_the_thinking_say_so() -> None:
    # prime names the tags before the question, and that opens nothing.
    assert [name for name in NAMED if template_named(name).thinking] == ["luffy", "r1"]


def test_a_block_that_the_prompt_closes_again_is_not_thinking() -> None:
    assert not Template("own", "{question}<think>\n\n</think>\n\n").thinking
    assert Template("own", "{question}<think>\n").thinking
    assert not Template("own", "Begin with <think>. {question}").thinking


@pytest.mark.parametrize("name", NAMED)
def test_every_template_says_where_it_is_from(name: str) -> None:
    assert template_named(name).source.endswith(".")


@given(question=st.text())
@pytest.mark.parametrize("name", NAMED)
def test_a_question_stands_in_the_prompt_unchanged(name: str, question: str) -> None:
    template = template_named(name)
    before, _, after = template.text.partition("{question}")
    assert render(template, question) == before + question + after


@pytest.mark.parametrize("text", ["no place", "{question} and {question}"])
def test_a_template_needs_one_place_for_the_question(text: str) -> None:
    with pytest.raises(ValueError, match=r"must hold \{question\} once"):
        Template("own", text)


def test_unknown_names_are_told_with_what_there_is() -> None:
    with pytest.raises(ValueError, match=r"Did you mean luffy\? Templates: luffy, qwen, "):
        template_named("lufy")


def test_the_tokenizers_template_has_no_text_of_its_own() -> None:
    with pytest.raises(ValueError, match="must come from a checkpoint"):
        template_named("tokenizer")


def test_the_tokenizers_template_is_recorded_as_text() -> None:
    template = from_tokenizer(JinjaTokenizer(chat_format("luffy").chat_template))
    assert template.text == template_named("luffy").text
    assert template.thinking


def test_a_tokenizer_without_a_chat_template_is_refused() -> None:
    with pytest.raises(ValueError, match="but has none"):
        from_tokenizer(JinjaTokenizer(None))


@pytest.mark.parametrize(
    "template",
    [
        "{{ messages[0]['content'] | upper }}",
        "{{ messages[0]['content'] }}{{ messages[0]['content'] }}",
        "no place",
        "{{ messages[0]['content'] | length }}{{ messages[0]['content'] }}",
        "{{ '{question}' }}{{ messages[0]['content'] }}",
    ],
    ids=["altered", "twice", "absent", "depends on it", "a place of its own"],
)
def test_a_chat_template_that_changes_the_question_is_refused(template: str) -> None:
    with pytest.raises(ValueError, match="once and unchanged"):
        from_tokenizer(JinjaTokenizer(template))


def test_the_chat_template_is_asked_for_the_prompt_of_an_answer() -> None:
    template = "{{ messages[0]['content'] }}{% if add_generation_prompt %}A:{% endif %}"
    assert from_tokenizer(JinjaTokenizer(template)).text == "{question}A:"


def test_any_object_with_the_two_names_is_a_tokenizer() -> None:
    own = SimpleNamespace(
        chat_template="own", apply_chat_template=lambda messages, **_: messages[0]["content"] + "!"
    )
    assert from_tokenizer(own).text == "{question}!"
