"""Tidying on every rank: each disk is tidied, and ranks of one disk take turns."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path
from typing import Any

from mifo_ext.adapters import checkpoints

RANKS = 4


def shard(root: Path, step: int) -> None:
    """What a rank leaves on its own node: no tracker and no state are there."""
    folder = checkpoints.step_folder(root, step) / "actor"
    folder.mkdir(parents=True)
    (folder / "shard.pt").write_text("weights")
    os.utime(folder.parent, (step, step))


def left(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir() if path.name != checkpoints.TIDY_LOCK)


def test_a_disk_without_the_tracker_keeps_the_newest_and_nothing_unfinished(
    tmp_path: Path,
) -> None:
    for step in (2, 4, 6):
        shard(tmp_path, step)
    shard(tmp_path / checkpoints.STAGING, 8)

    checkpoints.tidy(tmp_path, keep=2)

    assert left(tmp_path) == ["global_step_4", "global_step_6"]


def test_without_a_limit_only_what_is_unfinished_goes(tmp_path: Path) -> None:
    for step in (2, 4):
        shard(tmp_path, step)
    shard(tmp_path / checkpoints.RETIRED, 1)

    checkpoints.tidy(tmp_path, keep=None)

    assert left(tmp_path) == ["global_step_2", "global_step_4"]


def _tidy(root: Path, barrier: Any) -> None:
    barrier.wait()
    checkpoints.tidy(root, keep=2)


def test_ranks_that_tidy_one_disk_at_once_agree(tmp_path: Path) -> None:
    for step in range(2, 42, 2):
        shard(tmp_path, step)
        shard(tmp_path / checkpoints.STAGING, step)
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(RANKS)
    ranks = [context.Process(target=_tidy, args=(tmp_path, barrier)) for _ in range(RANKS)]

    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(timeout=60)

    assert [rank.exitcode for rank in ranks] == [0] * RANKS
    assert left(tmp_path) == ["global_step_38", "global_step_40"]


def test_a_run_without_a_folder_yet_is_tidy(tmp_path: Path) -> None:
    checkpoints.tidy(tmp_path / "run", keep=2)

    assert left(tmp_path / "run") == []
