"""What a command line asks for becomes a plan, or one error that says all that is wrong."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mifo_ext.eval.asked import Asked, read_data, suite_of
from mifo_ext.eval.asked import make_plan as plan_of
from mifo_ext.eval.catalogue import benchmarks
from mifo_ext.eval.plan import check_context
from mifo_ext.eval.record import Place, Sampling
from tests.support.scripted_sampler import make_plan
from tests.support.tiny_model import write_tiny_model

GSM8K = '{"question": "What is %d+1?", "answer": "Add. #### %d"}\n'


def no_tokenizer() -> Any:
    raise AssertionError("a tokenizer was read")


def file_of_gsm8k(folder: Path, rows: int = 1319) -> Path:
    path = folder / "mine.jsonl"
    path.write_text("".join(GSM8K % (number, number + 1) for number in range(rows)))
    return path


def test_every_problem_is_said_at_once() -> None:
    asked = Asked(
        suites=("maths",),
        template="lufy",
        samples=0,
        limit=0,
        temperature=-1,
        top_p=0,
        max_tokens=0,
        graders=("oat",),
    )

    with pytest.raises(ValueError, match="The evaluation cannot start:") as raised:
        asked.check()

    said = str(raised.value)
    for part in (
        "Unknown benchmark 'maths'. Did you mean math?",
        "Unknown template 'lufy'. Did you mean luffy?",
        "Unknown grader 'oat'",
        "`--samples` must be at least 1, but is 0.",
        "`--limit` must be at least 1, but is 0.",
        "`--max-tokens` must be at least 1, but is 0.",
        "`--temperature` must be at least 0, but is -1.",
        "`--top-p` must be in (0, 1], but is 0.",
    ):
        assert part in said


def test_greedy_samples_must_be_one() -> None:
    with pytest.raises(ValueError, match="`--samples` must be 1 at temperature 0"):
        Asked(suites=("tiny",), temperature=0, samples=8).check()
    Asked(suites=("tiny",), temperature=0).check()


def test_what_is_asked_wins_over_the_suite_and_the_suite_over_nothing(tmp_path: Path) -> None:
    data = {"gsm8k": file_of_gsm8k(tmp_path)}
    plain = plan_of(Asked(suites=("gsm8k",), limit=5, data=data), tokenizer=no_tokenizer)
    asked = plan_of(
        Asked(
            suites=("gsm8k",),
            limit=5,
            data=data,
            template="no",
            temperature=0.25,
            max_tokens=99,
            samples=3,
        ),
        tokenizer=no_tokenizer,
    )

    assert plain.askings["gsm8k"].template.name == "luffy"
    assert plain.askings["gsm8k"].sampling == Sampling(temperature=0.6, max_tokens=8192)
    assert plain.samples == {"gsm8k": 1}
    assert asked.askings["gsm8k"].template.name == "no"
    assert asked.askings["gsm8k"].sampling == Sampling(temperature=0.25, max_tokens=99)
    assert asked.samples == {"gsm8k": 3}
    assert len(asked.problems) == 5


def test_greedy_asks_once_whatever_the_benchmark_says(tmp_path: Path) -> None:
    data = {"": file_of_gsm8k(tmp_path, rows=30)}

    drawn = plan_of(Asked(suites=("aime24",), data=data), tokenizer=no_tokenizer)
    greedy = plan_of(Asked(suites=("aime24",), data=data, temperature=0), tokenizer=no_tokenizer)

    assert drawn.samples == {"aime24": 32}
    assert greedy.samples == {"aime24": 1}


def test_the_checkpoints_own_template_is_taken_only_when_named(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    folder = write_tiny_model(tmp_path / "model")
    asked = Asked(suites=("gsm8k",), template="tokenizer", data={"": file_of_gsm8k(tmp_path)})

    with pytest.raises(ValueError, match="must have a chat template"):
        plan_of(asked, tokenizer=lambda: AutoTokenizer.from_pretrained(folder))


def test_a_benchmark_takes_the_settings_of_the_suite_that_was_asked_for() -> None:
    mmlu = benchmarks()["mmlu_pro"]

    assert suite_of(mmlu, ["math_ood"]).name == "math_ood"
    assert suite_of(mmlu, ["mmlu_pro"]).name == "math"
    assert suite_of(benchmarks()["world"], ["world"]).name == "tiny"


def test_files_are_given_by_name_or_for_all(tmp_path: Path) -> None:
    file = file_of_gsm8k(tmp_path, 1)
    odd = tmp_path / "a=b.jsonl"
    odd.write_text("{}")

    assert read_data([f"gsm8k={file}", str(odd)]) == {"gsm8k": file, "": odd}
    with pytest.raises(FileNotFoundError, match=r"`--data` must name a file or folder"):
        read_data(["gsm8k=nowhere.jsonl"])
    with pytest.raises(ValueError, match="`--data` must name gsm8k once"):
        read_data([f"gsm8k={file}", f"gsm8k={file}"])


def test_every_sample_has_a_seed_of_its_own_that_stays() -> None:
    first, again = list(make_plan().requests()), list(make_plan().requests())
    other = list(make_plan(sampling=Sampling(max_tokens=64, seed=1)).requests())

    assert len({request.seed for request in first}) == len(first)
    assert [request.seed for request in first] == [request.seed for request in again]
    assert not {request.seed for request in first} & {request.seed for request in other}
    # More problems or samples change no seed: a run can grow.
    more = {request.place: request.seed for request in make_plan(problems=9, samples=8).requests()}
    assert all(more[request.place] == request.seed for request in first)


def test_samples_of_a_problem_share_prompt_and_key() -> None:
    requests = [r for r in make_plan().requests() if r.place[:2] == ("first", "p0")]

    assert [request.place for request in requests] == [Place("first", "p0", n) for n in range(4)]
    assert len({(request.prompt, request.key) for request in requests}) == 1


def test_a_templates_stop_texts_end_responses_and_change_the_key() -> None:
    plan = make_plan()
    asking = plan.askings["first"]
    stopping = asking._replace(template=replace(asking.template, stop=("</answer>",)))

    before = next(plan.requests())
    after = next(type(plan)({"first": stopping}).requests())

    assert after.sampling.stop == ("</answer>",)
    assert before.key != after.key


def test_a_response_must_fit_the_model() -> None:
    plan = make_plan(problems=2)

    longest = check_context(plan, prompt_tokens=[5, 9, 7, 3], model_context=73)

    assert longest == 9 + 64
    with pytest.raises(ValueError, match=re.escape("Give --max-tokens 63")):
        check_context(plan, prompt_tokens=[5, 9, 7, 3], model_context=72)
