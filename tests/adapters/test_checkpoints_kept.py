"""Which checkpoints stay, and which one a run may take up."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from mifo_ext.adapters import checkpoints
from tests.support.saved_checkpoints import save


def steps(root: Path) -> list[str]:
    return sorted(path.name for path in root.glob("global_step_*"))


def test_only_the_newest_checkpoints_stay(tmp_path: Path) -> None:
    for step in (8, 9, 10, 11):
        save(tmp_path, step, mark="a", keep=None)

    gone = checkpoints.retire_old(tmp_path, keep=2)

    assert [path.name for path in gone] == ["global_step_8", "global_step_9"]
    assert steps(tmp_path) == ["global_step_10", "global_step_11"]


def test_a_run_that_resumed_early_never_deletes_what_it_just_saved(tmp_path: Path) -> None:
    for number, step in enumerate((20, 40, 60, 30)):
        save(tmp_path, step, mark="a", keep=None)
        state = tmp_path / f"global_step_{step}/interleave/state.json"
        os.utime(state, (1000 + number, 1000 + number))

    checkpoints.retire_old(tmp_path, keep=2)

    assert steps(tmp_path) == ["global_step_30", "global_step_60"]
    checkpoints.retire_old(tmp_path, keep=1)
    assert steps(tmp_path) == ["global_step_30"]


@pytest.mark.parametrize("keep", [None, 0])
def test_without_a_limit_all_stay(tmp_path: Path, keep: int | None) -> None:
    save(tmp_path, 1, mark="a", keep=None)
    save(tmp_path, 2, mark="a", keep=None)

    assert checkpoints.retire_old(tmp_path, keep=keep) == []


def test_folders_of_other_names_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "global_step_9_best").mkdir()
    for step in (1, 2):
        save(tmp_path, step, mark="a", keep=1)

    assert steps(tmp_path) == ["global_step_2", "global_step_9_best"]
    (tmp_path / checkpoints.TRACKER).unlink()
    assert checkpoints.mend_tracker(tmp_path) == 2


def test_another_trainers_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "global_step_3/actor").mkdir(parents=True)

    with pytest.raises(ValueError, match=r"has no interleave/state.json: another trainer wrote it"):
        checkpoints.read_state(tmp_path / "global_step_3", recipe="mifo", world_size=1)


def test_another_recipes_checkpoint_and_another_world_size_are_refused_together(
    tmp_path: Path,
) -> None:
    save(tmp_path, 3, mark="a")

    with pytest.raises(
        ValueError,
        match="recipe must be grpo, but the checkpoint has mifo; "
        "world_size must be 2, but the checkpoint has 1",
    ):
        checkpoints.read_state(tmp_path / "global_step_3", recipe="grpo", world_size=2)


def test_a_damaged_state_says_which_file(tmp_path: Path) -> None:
    save(tmp_path, 3, mark="a")
    (tmp_path / "global_step_3/interleave/state.json").write_text("{")

    with pytest.raises(ValueError, match=r"state.json` must be JSON, but is not"):
        checkpoints.read_state(tmp_path / "global_step_3", recipe="mifo", world_size=1)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    state = {"recipe": "mifo", "world_size": 2, "buffer": {"ä": [1, None]}}
    checkpoints.write_state(tmp_path, state)

    assert checkpoints.read_state(tmp_path, recipe="mifo", world_size=2) == state
    assert json.loads((tmp_path / "interleave/state.json").read_text()) == state
