"""Mixed recipes' gradients in verl's engine, on real ranks, against the released arithmetic.

The model is a Qwen2 in float32; the transcription runs it in float64, a row at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from tests.support.distributed import run_on_ranks
from tests.support.mixed_batches import as_released
from tests.support.mixed_on_ranks import gradients
from tests.support.released_cases import (
    CHORD,
    ONE_RANK,
    ROWS,
    SUMS,
    TWO_RANKS,
    Case,
    coefficients,
    trajectories,
)
from tests.support.tiny_model import VOCABULARY, write_tiny_model

pytestmark = pytest.mark.slow

CASES = {"srft": SUMS["srft"], "hpt": SUMS["hpt"], "chord": CHORD}
SPLITS = {1: ONE_RANK, 2: TWO_RANKS}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("model"))


def words(case: Case, split: Sequence[Sequence[int]]) -> list[str]:
    ranks = trajectories(case, split, vocabulary=VOCABULARY)
    return [*case.words, *(coefficients(case, ranks) if case is not CHORD else ())]


@pytest.fixture(scope="module", params=SPLITS)
def found(request: pytest.FixtureRequest, model: Path, tmp_path_factory: Any) -> dict[str, Any]:
    """The first rank's gradients, of one or two."""
    recipes = {
        name: (case.per_group, words(case, SPLITS[request.param])) for name, case in CASES.items()
    }
    folder = tmp_path_factory.mktemp("ranks")
    first, *_ = run_on_ranks(gradients, request.param, folder, str(model), recipes, timeout_s=300)
    return {"ranks": request.param, **first}


def expected(case: Case, ranks: int, model: Path) -> dict[str, Tensor]:
    from transformers import Qwen2ForCausalLM

    policy = Qwen2ForCausalLM.from_pretrained(model).double()
    rows = trajectories(case, SPLITS[ranks], vocabulary=VOCABULARY)
    logits = {row.number: policy(row.ids[None]).logits[0] for part in rows for row in part}
    scale = 1.0 if case is CHORD else ranks / ROWS
    (scale * case.theirs([as_released(part, logits) for part in rows])).backward()
    return {name: one.grad for name, one in policy.named_parameters() if one.grad is not None}


@pytest.mark.parametrize("name", CASES)
def test_the_engines_gradient_is_the_released_one_in_our_scale(
    name: str, found: dict[str, Any], model: Path
) -> None:
    whole = expected(CASES[name], found["ranks"], model)

    for micro, mine in found[name].items():
        assert mine.keys() == whole.keys()
        for parameter, one in mine.items():
            apart = (one.double() - whole[parameter]).norm() / whole[parameter].norm()
            assert apart < 1e-4, f"{parameter} with micro-batches of {micro}"
    assert max(float(one.abs().max()) for one in whole.values()) > 1e-3
