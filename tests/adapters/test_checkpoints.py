"""A checkpoint is whole or absent, whichever file operation a run dies at."""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from verl.utils.checkpoint.checkpoint_manager import (
    find_latest_ckpt_path,
    get_checkpoint_tracker_filename,
)

from mifo_ext.adapters import checkpoints

PARTS = ("actor/model.pt", "actor/optim.pt", "data.pt")
CHANGES = {"open", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.truncate", "os.link"}


class Crash(BaseException):
    """The process is gone: nothing catches this."""


_armed: dict[str, Any] = {"root": None, "left": 0, "seen": 0}


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    # Python reports each change of a file before it happens; raising keeps it from happening.
    root = _armed["root"]
    if root is None or event not in CHANGES:
        return
    if event == "open" and not (isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")):
        return
    _armed["seen"] += 1
    if _armed["seen"] > _armed["left"]:
        raise Crash


sys.addaudithook(_hook)


@contextmanager
def dying_after(operations: int, root: Path) -> Iterator[dict[str, Any]]:
    """Let that many changes of files happen, and no more."""
    _armed.update(root=root, left=operations, seen=0)
    try:
        yield _armed
    finally:
        _armed["root"] = None


def write_staged(root: Path, step: int, *, mark: str) -> None:
    """What verl and our worker write while the checkpoint is being made."""
    folder = checkpoints.step_folder(root / checkpoints.STAGING, step)
    for part in PARTS:
        (folder / part).parent.mkdir(parents=True, exist_ok=True)
        (folder / part).write_text(mark)
    (root / checkpoints.STAGING / checkpoints.TRACKER).write_text(str(step))
    state = {"recipe": "mifo", "world_size": 1, "step": step, "mark": mark}
    checkpoints.write_state(folder, state)


def save(root: Path, step: int, *, mark: str, keep: int | None = 2) -> None:
    """The order of `SavingTrainer._save_checkpoint`."""
    checkpoints.tidy(root, keep=None)
    write_staged(root, step, mark=mark)
    staged = checkpoints.step_folder(root / checkpoints.STAGING, step)
    checkpoints.publish_folder(staged, checkpoints.step_folder(root, step))
    checkpoints.write_atomically(root / checkpoints.TRACKER, str(step))
    checkpoints.tidy(root, keep=keep)


def start_again(root: Path) -> tuple[int, str]:
    """The next start, up to what it would train on from: the step and the mark of its files."""
    foreseen = checkpoints.resumable_folder(root)
    checkpoints.clean_up(root)
    checkpoints.mend_tracker(root)
    found = find_latest_ckpt_path(str(root))
    assert found is not None, "the run would start afresh, over what is there"
    assert foreseen is not None
    assert foreseen.name == Path(found).name
    state = checkpoints.read_state(Path(found), recipe="mifo", world_size=1)
    marks = {(Path(found) / part).read_text() for part in PARTS}
    assert marks == {state["mark"]}, "parts of two checkpoints, or parts missing"
    hidden = {path.name for path in root.iterdir() if path.name.startswith(".")}
    assert hidden <= {checkpoints.TIDY_LOCK}
    return int(state["step"]), state["mark"]


def all_crashes(tmp_path: Path, prepare: Any, act: Any) -> list[tuple[int, str]]:
    """Where the run stands after a crash at each file operation of `act`, in order."""
    stands = []
    for operations in range(200):
        root = tmp_path / str(operations)
        root.mkdir()
        prepare(root)
        try:
            with dying_after(operations, root) as armed:
                act(root)
        except Crash:
            stands.append(start_again(root))
            # A crash while cleaning up after the crash changes nothing either.
            assert start_again(root) == stands[-1]
            continue
        assert armed["seen"] <= operations
        stands.append(start_again(root))
        return stands
    raise AssertionError("more than 200 file operations")


def test_names_are_those_verl_reads(tmp_path: Path) -> None:
    assert get_checkpoint_tracker_filename(str(tmp_path)) == str(tmp_path / checkpoints.TRACKER)
    save(tmp_path, 3, mark="a")
    assert find_latest_ckpt_path(str(tmp_path)) == str(checkpoints.step_folder(tmp_path, 3))


def test_a_crash_at_any_moment_of_a_save_leaves_the_old_or_the_new_checkpoint(
    tmp_path: Path,
) -> None:
    def prepare(root: Path) -> None:
        save(root, 10, mark="old")
        save(root, 20, mark="tracked")

    stands = all_crashes(tmp_path, prepare, lambda root: save(root, 30, mark="new"))

    assert len(stands) > 15
    assert stands == sorted(stands)
    assert set(stands) == {(20, "tracked"), (30, "new")}


def test_a_crash_while_a_step_is_saved_again_leaves_one_of_the_two(tmp_path: Path) -> None:
    def prepare(root: Path) -> None:
        save(root, 10, mark="old")
        save(root, 20, mark="first")

    stands = all_crashes(tmp_path, prepare, lambda root: save(root, 20, mark="second"))

    assert set(stands) == {(20, "first"), (20, "second")}
    assert stands[-1] == (20, "second")


def test_a_crash_while_the_next_start_cleans_up_changes_nothing(tmp_path: Path) -> None:
    def prepare(root: Path) -> None:
        save(root, 20, mark="first")
        # Died between the two renames of saving step 20 again, with an empty tracker.
        write_staged(root, 20, mark="second")
        (root / checkpoints.TRASH).mkdir()
        (root / "global_step_20").rename(root / checkpoints.TRASH / "global_step_20")
        (root / checkpoints.TRACKER).write_text("")

    def act(root: Path) -> None:
        checkpoints.clean_up(root)
        checkpoints.mend_tracker(root)

    assert set(all_crashes(tmp_path, prepare, act)) == {(20, "first")}


def test_an_untracked_newer_checkpoint_is_replaced_when_the_run_comes_by_again(
    tmp_path: Path,
) -> None:
    save(tmp_path, 10, mark="a")
    save(tmp_path, 20, mark="died before the tracker")
    checkpoints.write_atomically(tmp_path / checkpoints.TRACKER, "10")

    assert start_again(tmp_path) == (10, "a")
    save(tmp_path, 20, mark="b")
    assert start_again(tmp_path) == (20, "b")


@pytest.mark.parametrize("text", ["", "soon", "30", "\x00\x00"])
def test_an_unusable_tracker_is_pointed_at_the_newest_whole_checkpoint(
    tmp_path: Path, text: str
) -> None:
    save(tmp_path, 9, mark="a")
    save(tmp_path, 10, mark="b")
    (tmp_path / "global_step_11").mkdir()
    (tmp_path / checkpoints.TRACKER).write_text(text)

    assert checkpoints.mend_tracker(tmp_path) == 10
    assert checkpoints.tracked_step(tmp_path) == 10
    assert checkpoints.mend_tracker(tmp_path) is None


def test_a_tracker_of_nothing_is_removed(tmp_path: Path) -> None:
    (tmp_path / checkpoints.TRACKER).write_text("7")

    assert checkpoints.mend_tracker(tmp_path) is None
    assert not (tmp_path / checkpoints.TRACKER).exists()
    assert checkpoints.resumable_folder(tmp_path) is None


def test_a_half_written_checkpoint_is_removed_and_said_so(tmp_path: Path) -> None:
    write_staged(tmp_path, 5, mark="half")

    assert checkpoints.clean_up(tmp_path) == ["removed .saving"]
    assert not list(tmp_path.iterdir())


def _publish(root: Path, barrier: Any) -> None:
    staged = checkpoints.step_folder(root / checkpoints.STAGING, 20)
    for _ in range(10):
        barrier.wait()
        checkpoints.publish_folder(staged, checkpoints.step_folder(root, 20))
        barrier.wait()
        barrier.wait()


def test_ranks_that_publish_the_same_folder_at_once_agree(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(4, timeout=10)  # one that died lets nobody wait for ever
    ranks = [
        context.Process(target=_publish, args=(tmp_path, barrier), daemon=True) for _ in range(3)
    ]
    write_staged(tmp_path, 20, mark="0")
    for rank in ranks:
        rank.start()
    for attempt in range(10):
        barrier.wait()
        barrier.wait()
        assert (tmp_path / "global_step_20/actor/model.pt").read_text() == str(attempt)
        write_staged(tmp_path, 20, mark=str(attempt + 1))
        barrier.wait()
    for rank in ranks:
        rank.join(20)
        assert rank.exitcode == 0


def test_publishing_what_another_rank_has_published_does_nothing(tmp_path: Path) -> None:
    save(tmp_path, 20, mark="a")
    staged = checkpoints.step_folder(tmp_path / checkpoints.STAGING, 20)

    checkpoints.publish_folder(staged, checkpoints.step_folder(tmp_path, 20))

    assert start_again(tmp_path) == (20, "a")


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
