"""Checkpoints that are whole or absent, whatever moment the run dies at.

verl writes into the final folder, then opens the tracker file in place. Here verl writes into a
staging folder beside it; a finished checkpoint is renamed into place, then the tracker is replaced,
then old checkpoints go. A crash leaves at most folders with names that no one reads, which the next
start removes. Every change of what is read is one rename.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

TRACKER = "latest_checkpointed_iteration.txt"
STAGING = ".saving"
"""Checkpoints that are being written."""
TRASH = ".replaced"
"""Checkpoints set aside for a newer one of the same step; put back if that never came."""
RETIRED = ".retired"
"""Checkpoints on their way out; never put back."""
TIDY_LOCK = ".tidy.lock"
STATE_FOLDER = "interleave"
STATE_FILE = "state.json"


def step_folder(root: Path, step: int) -> Path:
    """A checkpoint's folder, as verl names it."""
    return root / f"global_step_{step}"


def write_atomically(path: Path, text: str) -> None:
    """Replace a file's content: a reader sees the old text or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with draft.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def publish_folder(staged: Path, final: Path) -> None:
    """Rename a finished folder into place.

    Called on every rank: the ranks of one node, or of a shared file system, take turns and find it
    moved already. An older folder of the same name (a step saved again after a resume) is set
    aside first.
    """
    if not staged.exists():
        return
    with (staged.parent / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not staged.exists():
            return
        if final.exists():
            aside = final.parent / TRASH / final.name
            shutil.rmtree(aside, ignore_errors=True)
            aside.parent.mkdir(parents=True, exist_ok=True)
            final.rename(aside)
        staged.rename(final)


def clean_up(root: Path) -> list[str]:
    """Remove what a crash left: a half-written checkpoint, folders set aside, drafts.

    A folder set aside whose successor never came into place is put back.

    Returns:
        What was done, in words.
    """
    done = []
    for aside in sorted((root / TRASH).glob("global_step_*")):
        if not (root / aside.name).exists():
            aside.rename(root / aside.name)
            done.append(f"put {aside.name} back")
    for name in (STAGING, TRASH, RETIRED):
        if (root / name).exists():
            shutil.rmtree(root / name)
            done.append(f"removed {name}")
    for draft in root.glob(f".{TRACKER}.*"):
        draft.unlink(missing_ok=True)
        done.append(f"removed {draft.name}")
    return done


def tracked_step(root: Path) -> int | None:
    """The step that verl's tracker file names; None if there is none."""
    try:
        return int((root / TRACKER).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None


def resumable_folder(root: Path) -> Path | None:
    """The checkpoint that the next start takes up, once `clean_up` and `mend_tracker` have run.

    Returns:
        Where it lies now: in place, or set aside by a save that a crash interrupted.
    """
    places = [root, root / TRASH]
    step = tracked_step(root)
    if step is not None:
        for place in places:
            if step_folder(place, step).is_dir():
                return step_folder(place, step)
    whole = {step: folder for place in places[::-1] for step, folder in _whole(place).items()}
    return whole[max(whole)] if whole else None


def mend_tracker(root: Path) -> int | None:
    """Point the tracker at the newest whole checkpoint if what it says cannot be used.

    verl reads an empty tracker as an error and one that names a missing folder as a fresh start,
    which would train over what is there.

    Returns:
        The step it was mended to; None if there was nothing to mend.
    """
    step = tracked_step(root)
    if step is not None and step_folder(root, step).is_dir():
        return None
    whole = _whole(root)
    if whole:
        write_atomically(root / TRACKER, str(max(whole)))
        return max(whole)
    (root / TRACKER).unlink(missing_ok=True)
    return None


def retire_old(root: Path, *, keep: int | None) -> list[Path]:
    """Delete all but the newest `keep` checkpoints; None or 0 keeps all.

    The newest is the tracked one, then goes by when they were saved: a run that resumed from an
    early checkpoint saves lower steps than it finds.

    Returns:
        The folders that are gone.
    """
    if not keep:
        return []
    tracked = tracked_step(root)
    by_age = sorted(
        _folders(root).items(), key=lambda item: (item[0] == tracked, _saved_at(item[1]), item[0])
    )
    old = [folder for _, folder in by_age[:-keep]]
    for folder in old:
        retired = root / RETIRED / folder.name
        retired.parent.mkdir(exist_ok=True)
        folder.rename(retired)
    shutil.rmtree(root / RETIRED, ignore_errors=True)
    return old


def tidy(root: Path, *, keep: int | None) -> None:
    """Remove what a crash left, and all but the newest checkpoints.

    Called on every rank and on the driver, so that it happens on each node that has a disk of its
    own; those of one disk take turns.

    Args:
        root: the run's folder.
        keep: checkpoints to keep; None or 0 keeps all.
    """
    root.mkdir(parents=True, exist_ok=True)
    with (root / TIDY_LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        clean_up(root)
        retire_old(root, keep=keep)


def _folders(root: Path) -> dict[int, Path]:
    """Checkpoints by step; whatever else is called similarly belongs to somebody else."""
    named = [
        (re.fullmatch(r"global_step_(\d+)", path.name), path) for path in root.glob("*_step_*")
    ]
    return {int(match[1]): path for match, path in named if match and path.is_dir()}


def _whole(root: Path) -> dict[int, Path]:
    """Checkpoints with our part, which is written last."""
    return {
        step: folder
        for step, folder in _folders(root).items()
        if (folder / STATE_FOLDER / STATE_FILE).exists()
    }


def _saved_at(folder: Path) -> float:
    state = folder / STATE_FOLDER / STATE_FILE
    return (state if state.exists() else folder).stat().st_mtime


def write_state(folder: Path, state: dict[str, Any]) -> None:
    """Write the driver's part of a checkpoint (buffer, counts, recipe) as JSON."""
    write_atomically(folder / STATE_FOLDER / STATE_FILE, json.dumps(state, indent=1))


def read_state(folder: Path, *, recipe: str, world_size: int) -> dict[str, Any]:
    """Read what `write_state` wrote, and check that this run may take it up.

    Raises:
        ValueError: if the checkpoint is another recipe's or another number of ranks'; with what to
            do.
    """
    file = folder / STATE_FOLDER / STATE_FILE
    if not file.exists():
        raise ValueError(
            f"`{folder}` must be a checkpoint of recipe {recipe}, but it has no {STATE_FOLDER}/"
            f"{STATE_FILE}: another trainer wrote it. To train on from its weights, export it "
            "(`mifo export`) and set actor_rollout_ref.model.path; to start afresh, set "
            "trainer.resume_mode=disable or another trainer.default_local_dir."
        )
    try:
        state: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(
            f"`{file}` must be JSON, but is not ({error}). Resume from another checkpoint: "
            "trainer.resume_mode=resume_path trainer.resume_from_path=…/global_step_<n>."
        ) from error
    problems = [
        f"{name} must be {wanted}, but the checkpoint has {state.get(name)}"
        for name, wanted in (("recipe", recipe), ("world_size", world_size))
        if state.get(name) != wanted
    ]
    if problems:
        raise ValueError(
            f"`{folder}` cannot be resumed: {'; '.join(problems)}. Use the same recipe and number "
            "of devices, another trainer.default_local_dir, or trainer.resume_mode=disable."
        )
    return state
