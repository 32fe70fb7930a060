"""verl's own critic without an accelerator: built, asked for values, and taught one step."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from mifo_ext.platforms import cpu_modules
from tests.support.critic_on_ranks import STRATEGIES, in_every_strategy
from tests.support.distributed import run_on_ranks
from tests.support.tiny_model import write_tiny_model

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not cpu_modules.is_active(), reason="an accelerator is there"),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def found(model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("ranks")
    return dict(run_on_ranks(in_every_strategy, 1, folder, str(model))[0])


@pytest.fixture(params=STRATEGIES)
def critic(request: pytest.FixtureRequest, found: dict[str, Any]) -> dict[str, Any]:
    return dict(found[request.param])


def test_a_critic_is_verls_own_on_the_models_weights(critic: dict[str, Any], model: Path) -> None:
    weights = load_file(model / "model.safetensors")
    head = {"score.weight", "score.bias"}

    assert critic["engine"] == "FSDPEngineWithValueHead"
    assert critic["attention"] == "sdpa"
    # A head that tells one number in place of one that tells tokens apart.
    assert critic["before"].keys() == weights.keys() - {"lm_head.weight"} | head
    for name in critic["before"].keys() - head:
        assert torch.equal(critic["before"][name], weights[name])


def test_its_loss_is_the_squared_error_whatever_the_micro_batches(critic: dict[str, Any]) -> None:
    # In the first step nothing is clipped, since the values are the ones that are there.
    expected = (critic["values"] - critic["returns"]).square().mean() / 2

    assert critic["micro_batches"] > 1
    assert critic["loss"] == pytest.approx(float(expected), rel=1e-5)


def test_a_step_moves_its_weights_and_its_values_towards_the_returns(
    critic: dict[str, Any],
) -> None:
    before, after = (
        (critic[key] - critic["returns"]).square().mean() for key in ("values", "values_after")
    )

    assert math.isfinite(critic["gradient_norm"])
    assert after < before
    # Rows of tokens that no answer has get a gradient of zero, but decay.
    for name, weight in critic["before"].items():
        assert float((critic["after"][name] != weight).float().mean()) > 0.9
