"""What a run is told before step 1."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from safetensors.torch import save_file

from mifo_ext.adapters.demonstrations import DemonstrationTokens
from mifo_ext.adapters.first_check import (
    Finding,
    check_first_batch,
    check_room,
    parameters_in,
    show,
)


class Catalog:
    """A plain stand-in for our own catalog: three questions, of which some are usable."""

    first_look, advice = 3, "ask another model"

    def __init__(
        self,
        *,
        reasons: list[str | None],
        prompt: str = "2+2=",
        cut: bool = False,
        without: int = 0,
    ):
        self.reasons, self.prompt, self.cut, self.without = reasons, prompt, cut, without
        self.fetched: list[str] = []

    def covered(self) -> list[str]:
        return [str(number) for number in range(len(self.reasons))]

    def question_ids(self) -> list[str]:
        return [*self.covered(), *(f"without {number}" for number in range(self.without))]

    def prefetch(self, names: list[str]) -> None:
        self.fetched += names

    def reason_against(self, name: str) -> str | None:
        assert name in self.fetched
        return self.reasons[int(name)]

    def text(self, name: str) -> str:
        return "4 \\boxed{4}"

    def row(self, name: str) -> dict[str, Any]:
        return {
            "data_source": "x",
            "reward_model": {"ground_truth": "4"},
        }

    def prompt_text(self, name: str) -> str:
        return self.prompt

    def tokens(self, name: str) -> DemonstrationTokens:
        return DemonstrationTokens([1, 2], [3, 4, 5], self.cut)


def settings(**kwargs: Any) -> DictConfig:
    return OmegaConf.create(
        {
            "interleave": {"buffer_size": 2},
            "data": {"max_response_length": 8, "max_prompt_length": kwargs.pop("prompt", 8)},
            "reward": {"custom_reward_function": {"reward_kwargs": kwargs.pop("reward", {})}},
            "trainer": {
                "max_actor_ckpt_to_keep": 2,
                "save_freq": kwargs.pop("save_freq", 1),
                "nnodes": 1,
            },
        }
    )


def right(**_: Any) -> dict[str, float]:
    return {"score": 1.0}


def wrong(**_: Any) -> float:
    return 0.0


def verdicts(findings: list[Finding]) -> dict[str, str]:
    return {finding.what: finding.verdict for finding in findings}


def test_a_healthy_run_is_all_ok() -> None:
    findings = check_first_batch(Catalog(reasons=[None] * 3), settings(), right)  # type: ignore[arg-type]

    assert set(verdicts(findings).values()) == {"ok"}
    assert findings[0].seen == "3 of 3 right"


def test_no_right_demonstration_stops_the_run_and_says_why() -> None:
    catalog = Catalog(reasons=["wrong", "no_answer", "wrong"])
    findings = check_first_batch(catalog, settings(), right)  # type: ignore[arg-type]

    assert verdicts(findings) == {"demonstrations' answers": "stop"}
    assert findings[0].seen == "0 of 3 right (wrong 2, no_answer 1)"
    assert findings[0].mend == "ask another model"


def test_no_more_questions_are_looked_at_than_the_source_allows() -> None:
    catalog = Catalog(reasons=[None] * 10)
    findings = check_first_batch(catalog, settings(), right)  # type: ignore[arg-type]

    assert findings[0].seen == "3 of 3 right"
    assert catalog.fetched == ["0", "3", "6"]


@pytest.mark.parametrize(
    ("there", "without", "verdict"), [(2, 2, "ok"), (2, 3, "warn"), (1, 3, "stop"), (0, 3, "stop")]
)
def test_a_source_that_lacks_questions_is_enough_if_it_fills_the_buffer(
    there: int, without: int, verdict: str
) -> None:
    catalog = Catalog(reasons=[None] * there, without=without)
    findings = check_first_batch(catalog, settings(), right)  # type: ignore[arg-type]

    assert findings[0].seen == f"for {there} of {there + without} training questions"
    assert findings[0].verdict == verdict


def test_a_reward_that_rejects_right_demonstrations_stops_the_run() -> None:
    findings = check_first_batch(Catalog(reasons=[None] * 3), settings(), wrong)  # type: ignore[arg-type]

    assert verdicts(findings)["reward"] == "stop"


@pytest.mark.parametrize(
    ("prompt", "required", "verdict"),
    [
        ("2+2=", False, "ok"),
        ("2+2=<think>\n", True, "ok"),
        ("2+2=", True, "warn"),
        ("2+2=<think>\n", False, "warn"),
    ],
)
def test_template_and_reward_must_agree_on_thinking(
    prompt: str, required: bool, verdict: str
) -> None:
    catalog = Catalog(reasons=[None], prompt=prompt)
    config = settings(reward={"require_think": required})
    findings = check_first_batch(catalog, config, right)  # type: ignore[arg-type]

    assert verdicts(findings)["chat template"] == verdict


def test_lengths_that_do_not_fit_are_said() -> None:
    catalog = Catalog(reasons=[None] * 2, cut=True)
    findings = check_first_batch(catalog, settings(prompt=1), right)  # type: ignore[arg-type]

    assert verdicts(findings)["demonstration length"] == "stop"
    assert verdicts(findings)["prompt length"] == "warn"


def test_room_is_compared_with_what_the_run_keeps(tmp_path: Path) -> None:
    small = check_room(1000, settings(), folder=tmp_path)
    huge = check_room(10**15, settings(), folder=tmp_path)
    unsaved = check_room(10**15, settings(save_freq=-1), folder=tmp_path)

    assert [finding.verdict for finding in small] == ["ok", "ok"]
    assert [finding.verdict for finding in huge] == ["stop", "stop"]
    assert unsaved[0].verdict == "ok"


def test_only_intervals_keep_a_hold_and_a_critic_is_saved_as_well(tmp_path: Path) -> None:
    without, with_critic, phases = settings(), settings(), settings()
    with_critic.critic = {"enable": True}
    phases.interleave.kind = "phases"

    def needed(config: DictConfig) -> list[float]:
        found = check_room(2**30, config, folder=tmp_path)
        return [float(finding.seen.split()[1]) for finding in found]

    # GiB for 2^30 parameters, three checkpoints: 12 bytes a model, 16.2 for the hold.
    assert needed(without) == pytest.approx([3 * (12 + 16.2), 16.2], abs=0.05)
    assert needed(with_critic) == pytest.approx([3 * (24 + 16.2), 16.2], abs=0.05)
    assert needed(phases) == pytest.approx([3 * 12], abs=0.05)


def test_parameters_are_counted_from_the_headers(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(3, 4), "b": torch.zeros(5)}, tmp_path / "model.safetensors")

    assert parameters_in(tmp_path) == 17


def test_a_hopeless_finding_ends_the_run_after_the_table() -> None:
    shown = io.StringIO()
    findings = [Finding("reward", "0 of 3", "stop", "mend it"), Finding("room", "fine", "ok")]

    with pytest.raises(RuntimeError, match=r"reward: 0 of 3\. mend it"):
        show(findings, console=Console(file=shown, width=100))
    assert "room" in shown.getvalue()
