import string
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from mifo_ext.world.problems import LETTERS, sum_problem
from mifo_ext.world.reasoner import make_model, make_tokenizer, prompt_text, save_reasoner
from mifo_ext.world.schooling import (
    IGNORED,
    Schooling,
    blurted,
    encode,
    learning_rate_at,
    lesson,
    next_token_loss,
    school,
)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return make_tokenizer()


@pytest.fixture(scope="module")
def folder(tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reasoner")
    save_reasoner(make_model(tokenizer, seed=0), tokenizer, folder)
    return folder


def test_text_survives_saving_loading_and_a_round_trip(folder: Path) -> None:
    loaded = AutoTokenizer.from_pretrained(folder)
    text = "3+4=\n3+4=7\n\\boxed{7} é\t" + string.printable

    assert loaded.decode(loaded.encode(text, add_special_tokens=False)) == text


@pytest.mark.parametrize("character", ["\n", "\\", " ", "7", "+", "{"])
def test_a_character_is_one_token_of_the_loaded_tokenizer(folder: Path, character: str) -> None:
    loaded = AutoTokenizer.from_pretrained(folder)

    assert len(loaded.encode(character)) == 1
    assert len(loaded.encode(f"1{character}2")) == 3


def test_the_template_gives_the_same_prompt_with_and_without_generation_prompt(
    folder: Path,
) -> None:
    loaded = AutoTokenizer.from_pretrained(folder)
    messages = [{"role": "user", "content": "3+4="}]

    texts = {
        loaded.apply_chat_template(messages, tokenize=False, add_generation_prompt=wanted)
        for wanted in (True, False)
    }

    assert texts == {"3+4=\n"}


def test_heads_are_wide_enough_for_vllm_and_the_model_is_small(folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder)

    assert model.config.hidden_size // model.config.num_attention_heads == 32
    assert model.config.model_type == "qwen2"
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    assert 700_000 < sum(weight.numel() for weight in model.parameters()) < 900_000


def test_first_weights_depend_on_the_seed_alone(tokenizer: Any) -> None:
    torch.manual_seed(1)
    one = make_model(tokenizer, seed=5).lm_head.weight
    torch.manual_seed(2)
    same = make_model(tokenizer, seed=5).lm_head.weight
    other = make_model(tokenizer, seed=6).lm_head.weight

    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_only_the_response_and_its_end_carry_loss(tokenizer: Any) -> None:
    tokens, targets = encode(tokenizer, [("a=", "bcd"), ("a=", "b")])

    # "a=\n" then "bcd" or "b", then the end of sequence, then padding.
    assert (targets == IGNORED).tolist() == [
        [True, True, True, False, False, False, False],
        [True, True, True, False, False, True, True],
    ]
    assert tokens[0, -1] == tokens[1, 4] == tokenizer.eos_token_id
    assert torch.equal(tokens[targets != IGNORED], targets[targets != IGNORED])
    assert tokenizer.decode(tokens[0, :3]) == prompt_text(tokenizer, "a=")


def test_padding_does_not_change_the_loss(tokenizer: Any) -> None:
    model = make_model(tokenizer, seed=0)
    short, long = ("1+2=", "\\boxed{3}"), ("1+2=", "1+2=3\n\\boxed{3}")
    counts = [10, 16]  # response characters and the end of sequence

    alone = [next_token_loss(model, *encode(tokenizer, [one])).item() for one in (short, long)]
    together = next_token_loss(model, *encode(tokenizer, [short, long])).item()

    expected = sum(count * loss for count, loss in zip(counts, alone, strict=True)) / sum(counts)
    assert together == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
def test_a_few_lessons_lower_the_loss(tokenizer: Any) -> None:
    model = make_model(tokenizer, seed=0)

    losses = school(model, tokenizer, Schooling(steps=12, batch=8), seed=0)

    assert losses[0] == pytest.approx(5.56, abs=0.3)  # ln 260: it knows nothing yet
    assert losses[-1] < losses[0] - 1


def test_the_lessons_depend_on_the_seed_and_on_what_is_kept_apart(tokenizer: Any) -> None:
    plan = Schooling(steps=1, batch=1, two_habits=0)
    first_question, _ = lesson(Random(0), at_once=0, wrong=0)

    def first_loss(seed: int, *, without: set[str]) -> float:
        model = make_model(tokenizer, seed=0)
        return school(model, tokenizer, plan, seed=seed, without=without)[0]

    usual = first_loss(0, without=set())
    assert first_loss(0, without={"1+1="} - {first_question}) == usual
    assert first_loss(0, without={first_question}) != usual
    assert first_loss(1, without=set()) != usual


def test_the_share_of_the_habits_is_kept() -> None:
    random = Random(0)
    replies = [lesson(random, at_once=0.6, wrong=0.8)[1] for _ in range(4000)]

    assert sum("=" not in reply for reply in replies) / 4000 == pytest.approx(0.6, abs=0.03)


def test_the_schooling_shows_the_easy_part_only_and_nothing_kept_apart() -> None:
    random, kept_apart = Random(0), {"1+1=", "2*2="}
    questions = {lesson(random, at_once=0, wrong=0, without=kept_apart)[0] for _ in range(3000)}

    assert not kept_apart & questions
    assert not any(letter in question for question in questions for letter in LETTERS)
    assert max(question.count("+") for question in questions) == 4
    assert max(question.count("*") for question in questions) == 3


def test_pupils_who_work_in_steps_are_right() -> None:
    question, response = lesson(Random(3), at_once=0, wrong=1)

    assert response.endswith("\\boxed{" + str(eval(question.removesuffix("="))) + "}")


def test_an_answer_given_at_once_is_wrong_as_often_as_asked() -> None:
    random, problem = Random(0), sum_problem([1, 2])

    assert {blurted(random, problem, wrong=0) for _ in range(50)} == {"3"}
    wrong = {int(blurted(random, problem, wrong=1)) for _ in range(500)}
    assert wrong == {1, 2, *range(4, 24)}


def test_the_learning_rate_rises_over_20_steps_and_ends_near_zero() -> None:
    plan = Schooling(steps=100, learning_rate=1.0)

    assert learning_rate_at(0, plan) == pytest.approx(0.05)
    assert learning_rate_at(19, plan) == learning_rate_at(60, plan) == 1.0
    assert learning_rate_at(80, plan) == pytest.approx(0.5)
    assert learning_rate_at(99, plan) == pytest.approx(1 / 40)


def test_a_loss_that_is_not_finite_stops_the_schooling(tokenizer: Any) -> None:
    model = make_model(tokenizer, seed=0)
    torch.nn.init.constant_(model.lm_head.weight, float("nan"))

    with pytest.raises(ArithmeticError, match="loss must be finite, but is nan at step 0"):
        school(model, tokenizer, Schooling(steps=1, batch=2), seed=0)


@pytest.mark.parametrize(
    ("name", "value"),
    [("at_once", 1.5), ("wrong", -0.1), ("two_habits", 2.0), ("steps", 0)],
)
def test_a_schooling_outside_its_range_is_an_error(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"`{name}` must be .* but is {value}"):
        Schooling(**{name: value})  # type: ignore[arg-type]
