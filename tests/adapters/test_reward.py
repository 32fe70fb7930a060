"""The reward function, loaded and used the way verl does it."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
from omegaconf import OmegaConf
from verl.trainer.ppo.metric_utils import process_validation_metrics
from verl.trainer.ppo.reward import get_custom_reward_fn

from mifo_ext.adapters.reward import compute_score


def score(response: str, gold: object = "42", **settings: bool) -> dict[str, float | str]:
    return compute_score("math", response, gold, {"num_turns": 1}, **settings)


def test_a_right_boxed_answer_scores_one() -> None:
    assert score("so \\boxed{42}") == {
        "score": 1.0,
        "acc": 1.0,
        "no_answer": 0.0,
        "ungraded": 0.0,
        "verdict": "correct",
        "pred": "42",
    }


@pytest.mark.parametrize(
    ("response", "gold", "verdict", "no_answer", "ungraded"),
    [
        ("so \\boxed{41}", "42", "wrong", 0.0, 0.0),
        ("so 42", "42", "no_answer", 1.0, 0.0),
        ("so \\boxed{42}", "", "unparsable_gold", 0.0, 1.0),
    ],
)
def test_everything_else_scores_zero_and_says_why(
    response: str, gold: str, verdict: str, no_answer: float, ungraded: float
) -> None:
    result = score(response, gold)

    assert (result["score"], result["acc"], result["verdict"]) == (0.0, 0.0, verdict)
    assert (result["no_answer"], result["ungraded"]) == (no_answer, ungraded)


def test_the_box_may_be_waived_and_the_end_of_thinking_required() -> None:
    assert score("The answer is 42.")["score"] == 0.0
    assert score("The answer is 42.", require_box=False)["score"] == 1.0
    assert score("I think \\boxed{42}", require_think=True)["score"] == 0.0
    assert score("I think</think> \\boxed{42}", require_think=True)["score"] == 1.0


def test_a_gold_in_a_list_of_one_is_that_gold() -> None:
    for gold in (["42"], np.array(["42"], dtype=object), np.int64(42), 42, 42.0):
        assert score("\\boxed{42}", gold)["score"] == 1.0
    with pytest.raises(ValueError, match=r"`ground_truth` must be one gold, but is \['1', '2'\]"):
        score("\\boxed{1}", ["1", "2"])


def test_verl_loads_it_from_the_package_with_its_settings() -> None:
    config = OmegaConf.create(
        {
            "reward": {
                "custom_reward_function": {
                    "path": "pkg://mifo_ext.adapters.reward",
                    "name": "compute_score",
                    "reward_kwargs": {"require_think": True},
                }
            }
        }
    )
    function = get_custom_reward_fn(config)
    call = partial(function, data_source="math", ground_truth="42", extra_info={})

    assert call(solution_str="\\boxed{42}")["verdict"] == "no_answer"
    assert call(solution_str="</think>\\boxed{42}")["score"] == 1.0
    assert call(solution_str="</think>\\boxed{42}", reward_router_address="x")["score"] == 1.0


def test_it_runs_in_the_threads_of_an_event_loop() -> None:
    responses = ["\\boxed{42}", "\\boxed{\\foo x}", "\\boxed{6 \\cdot 7}"] * 8

    async def run() -> list[dict[str, float | str]]:
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(8) as pool:
            return await asyncio.gather(
                *(loop.run_in_executor(pool, score, response) for response in responses)
            )

    assert [result["score"] for result in asyncio.run(run())] == [1.0, 0.0, 1.0] * 8


def test_verl_averages_its_numbers_and_passes_over_its_words() -> None:
    results = [score("\\boxed{42}"), score("42"), score("\\boxed{1}"), score("\\boxed{42}")]
    columns = {key: [result[key] for result in results] for key in results[0]}

    metrics = process_validation_metrics(["math"] * 4, ["a", "a", "b", "b"], columns)["math"]

    assert metrics["acc"]["mean@2"] == 0.5
    assert metrics["no_answer"]["mean@2"] == 0.25
    assert "maj@2/mean" in metrics["acc"]
    assert "verdict" not in metrics
    assert "pred" not in metrics


def test_its_words_can_be_written_as_utf8_json() -> None:
    result = score("\\boxed{4\udc802}")

    json.dumps(result, ensure_ascii=False).encode("utf-8")
    assert result["score"] == 0.0
