"""A checkpoint is whole or absent, whichever file operation a run dies at."""

from __future__ import annotations

import multiprocessing
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
from tests.support.saved_checkpoints import PARTS, save, write_staged

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
