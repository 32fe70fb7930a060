"""Every recipe for real, with a resume: it does what sets it apart, and goes on where it stopped.

RL algorithms, SFT losses and sources of demonstrations come along, another with each recipe.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from mifo_ext import world
from mifo_ext.hydra_plugin import names
from tests.support.answers import answering_server
from tests.support.launch import WORLD, Launch

pytestmark = [pytest.mark.slow, pytest.mark.recipes]

QUESTIONS, STEPS = 16, 2
SHORT = [
    f"data.train_batch_size={QUESTIONS}",
    "actor_rollout_ref.actor.ppo_mini_batch_size=8",
    "trainer.save_freq=2",
    "trainer.test_freq=-1",
    "trainer.val_before_train=false",
]
INTERVALS = [
    "interleave.buffer_size=8",
    "interleave.sft.mini_batch_size=8",
    "interleave.sft.epochs=1",
]
# Beside what makes a run short: what each recipe is tried with.
WORDS: dict[str, list[str]] = {
    "grpo": ["rl=grpo"],
    "interleave": [*INTERVALS, "demos=server"],
    "interleave_entropy": [*INTERVALS, "rl=rloo", "sft_loss=dft"],
    "interleave_hold": [*INTERVALS, "rl=reinforce_plus_plus"],
    "mifo": [*INTERVALS, "rl=dapo"],
    "mifo_no_history": [*INTERVALS, "rl=ppo"],
    "mifo_gradient_mask": [*INTERVALS, "rl=grpo_std", "demos=file"],
    "relift": INTERVALS,
    "sft": ["trainer.test_freq=2"],
    "sft_then_rl": ["interleave.switch_at=1", f"interleave.rl_files={WORLD}/validation.parquet"],
    "rl_then_sft": ["interleave.switch_at=1", "sft_loss=dft"],
    "luffy": [],
    "srft": [],
    "hpt": [],
    "chord": ["rl=rloo"],
}


def test_every_recipe_is_tried() -> None:
    assert sorted(WORDS) == names("recipe")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Address of a server that knows the answers."""
    world.build(WORLD)
    rows = pq.read_table(WORLD / "train.parquet").to_pylist()
    known = {row["prompt"][-1]["content"]: row["target"][-1]["content"] for row in rows}
    with answering_server(known) as address:
        yield address


@pytest.fixture(scope="module")
def solutions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same demonstrations in a file of another layout."""
    world.build(WORLD)
    file = tmp_path_factory.mktemp("solutions") / "solutions.jsonl"
    rows = pq.read_table(WORLD / "train.parquet").to_pylist()
    lines = [
        {
            "question": row["prompt"][-1]["content"],
            "solution": row["target"][-1]["content"],
            "answer": row["reward_model"]["ground_truth"],
        }
        for row in rows
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return file


@pytest.fixture(scope="module", params=sorted(WORDS))
def run(
    request: pytest.FixtureRequest,
    server: str,
    solutions: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[str, Launch]:
    """A recipe that was trained for two steps, and then for one more."""
    recipe: str = request.param
    words = [f"+recipe={recipe}", *SHORT, *WORDS[recipe]]
    if "demos=server" in words:
        words += [f"interleave.demonstrations.server.{key}" for key in (f"url={server}", "model=m")]
    if "demos=file" in words:
        words.append(f"interleave.demonstrations.file={solutions}")
    launch = Launch(tmp_path_factory.mktemp(recipe) / "run", words)
    for steps in (STEPS, STEPS + 1):
        launch.words = [*words, f"trainer.total_training_steps={steps}"]
        assert launch.run() == 0, launch.log()[-4000:]
    return recipe, launch


def test_it_resumes_and_does_what_sets_it_apart(run: tuple[str, Launch]) -> None:
    recipe, launch = run
    steps = launch.metrics()

    assert {1, 2, 3} <= steps.keys()
    assert (launch.root / f"global_step_{STEPS + 1}").is_dir()
    used = [
        steps[n]["interleave/samples/rl"] + steps[n]["interleave/samples/sft"] for n in (1, 2, 3)
    ]
    assert used == sorted(set(used)), "what was used so far goes on growing over the resume"
    APART[recipe](steps)


def _rl_alone(steps: Mapping[int, Mapping[str, float]]) -> None:
    assert steps[3]["interleave/samples/rl"] == 3 * QUESTIONS
    assert steps[3]["interleave/samples/sft"] == 0
    assert steps[3]["interleave/tokens/rollouts"] > 3 * QUESTIONS * 8


def _flush(steps: Mapping[int, Mapping[str, float]]) -> Mapping[str, float]:
    """The last step with an SFT interval."""
    flushes = [step for step in steps.values() if step.get("interleave/sft/flush")]
    assert flushes
    assert steps[3]["interleave/samples/sft"] == 8 * len(flushes)
    assert flushes[-1]["interleave/sft/steps"] == 1
    return flushes[-1]


def _tokens(flush: Mapping[str, float], *, share: float, held: float) -> None:
    kept = flush["interleave/sft/tokens_kept"] / flush["interleave/sft/tokens"]
    assert kept == pytest.approx(share, abs=0.05)
    assert flush["interleave/hold/held_fraction"] == pytest.approx(held, abs=1e-3)


def _interleave(steps: Mapping[int, Mapping[str, float]]) -> None:
    _tokens(_flush(steps), share=1.0, held=0.0)


def _interleave_entropy(steps: Mapping[int, Mapping[str, float]]) -> None:
    _tokens(_flush(steps), share=0.2, held=0.0)


def _interleave_hold(steps: Mapping[int, Mapping[str, float]]) -> None:
    _tokens(_flush(steps), share=1.0, held=0.5)


def _mifo(steps: Mapping[int, Mapping[str, float]]) -> None:
    _tokens(_flush(steps), share=0.2, held=0.5)


def _mifo_with_dapo(steps: Mapping[int, Mapping[str, float]]) -> None:
    _mifo(steps)
    dropped = sum(steps[n].get("training/filter_groups/evicted_samples", 0) for n in (1, 2, 3))
    # Groups that DAPO's filter drops are seen, and among them are the hard ones.
    assert dropped > 0
    assert steps[3]["interleave/samples/rl"] > 3 * QUESTIONS
    assert sum(steps[n]["interleave/outcomes/correct_00"] for n in (1, 2, 3)) > 0


def _mifo_with_a_critic(steps: Mapping[int, Mapping[str, float]]) -> None:
    _mifo(steps)
    assert all("critic/vf_loss" in steps[n] for n in (1, 2, 3))


def _relift(steps: Mapping[int, Mapping[str, float]]) -> None:
    _tokens(_flush(steps), share=1.0, held=0.0)
    for n in (1, 2, 3):
        assert steps[n]["interleave/outcomes/hard"] == steps[n]["interleave/outcomes/correct_00"]


def _sft(steps: Mapping[int, Mapping[str, float]]) -> None:
    assert [steps[n]["interleave/phase/sft"] for n in (1, 2, 3)] == [1, 1, 1]
    assert steps[3]["interleave/samples/rl"] == 0
    assert steps[3]["interleave/samples/sft"] == 3 * QUESTIONS
    assert any(name.startswith("val-core/") for name in steps[2])


def _switch(order: list[int]) -> Any:
    def check(steps: Mapping[int, Mapping[str, float]]) -> None:
        assert [steps[n]["interleave/phase/sft"] for n in (1, 2, 3)] == order
        assert [steps[n]["interleave/phase/switch"] for n in (1, 2, 3)] == [0, 1, 0]
        assert steps[3]["interleave/samples/sft"] == sum(order) * QUESTIONS
        assert steps[3]["interleave/samples/rl"] == (3 - sum(order)) * QUESTIONS

    return check


def _mixed(*terms: str, weight: float) -> Any:
    def check(steps: Mapping[int, Mapping[str, float]]) -> None:
        for n in (1, 2, 3):
            assert steps[n]["interleave/mixed/demonstrations"] == QUESTIONS
            assert steps[n]["interleave/mixed/demonstrations_right"] == 1
            assert steps[n]["interleave/mixed/coeff"] == weight
            assert all(f"actor/{term}" in steps[n] for term in terms)
            # Demonstrations are no part of what the rollout is compared with.
            assert steps[n]["training/rollout_probs_diff_max"] < 1e-3
        assert steps[3]["interleave/samples/sft"] == 3 * QUESTIONS

    return check


def _hpt(steps: Mapping[int, Mapping[str, float]]) -> None:
    taught = [steps[n]["interleave/mixed/demonstrations"] for n in (1, 2, 3)]
    assert taught == [steps[n]["interleave/outcomes/correct_00"] for n in (1, 2, 3)]
    assert 0 < sum(taught) < 3 * QUESTIONS
    assert all("actor/demonstration_nll" in steps[n] for n in (1, 2, 3))


APART: dict[str, Any] = {
    "grpo": _rl_alone,
    "interleave": _interleave,
    "interleave_entropy": _interleave_entropy,
    "interleave_hold": _interleave_hold,
    "mifo": _mifo_with_dapo,
    "mifo_no_history": _mifo_with_a_critic,
    "mifo_gradient_mask": _mifo,
    "relift": _relift,
    "sft": _sft,
    "sft_then_rl": _switch([1, 0, 0]),
    "rl_then_sft": _switch([0, 1, 1]),
    "luffy": _mixed("demonstration_policy_loss", weight=0.0),
    "srft": _mixed(
        "signed_likelihood_loss",
        "demonstration_policy_loss",
        "demonstration_nll",
        weight=0.0078125,
    ),
    "hpt": _hpt,
    "chord": _mixed("demonstration_nll", weight=0.1),
}
