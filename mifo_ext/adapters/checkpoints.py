"""Checkpoints that are whole or absent, whatever moment the run dies at.

verl writes into the final folder, then opens the tracker file in place. Here verl writes into a
staging folder beside it; a finished checkpoint is renamed into place, then the tracker is replaced,
then old checkpoints go. A crash leaves at most a staging folder, which the next start removes.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

TRACKER = "latest_checkpointed_iteration.txt"
STAGING = ".saving"
TRASH = ".replaced"
STATE_FOLDER = "interleave"
STATE_FILE = "state.json"


def step_folder(root: Path, step: int) -> Path:
    """verl's name for a checkpoint."""
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

    Called on every rank: the ranks of one node, or of a shared file system, find it moved already.
    An older folder of the same name (a step saved again after a resume) is set aside first.
    """
    if not staged.exists():
        return
    try:
        if final.exists():
            aside = final.parent / TRASH / final.name
            shutil.rmtree(aside, ignore_errors=True)
            aside.parent.mkdir(parents=True, exist_ok=True)
            final.rename(aside)
        staged.rename(final)
    except FileNotFoundError:
        if not final.exists():
            raise


def clean_up(root: Path) -> list[str]:
    """Remove what a crash left: a half-written checkpoint, a folder set aside.

    A folder set aside whose successor never came back into place is put back.

    Returns:
        What was done, in words.
    """
    done = []
    for aside in sorted((root / TRASH).glob("global_step_*")):
        if not (root / aside.name).exists():
            aside.rename(root / aside.name)
            done.append(f"put {aside.name} back")
    for name in (STAGING, TRASH):
        if (root / name).exists():
            shutil.rmtree(root / name)
            done.append(f"removed {name}")
    return done


def tracked_step(root: Path) -> int | None:
    """The step that verl's tracker file names; None if there is none."""
    try:
        return int((root / TRACKER).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None


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
    whole = [int(file.parts[-3].split("_")[-1]) for file in _states(root)]
    if whole:
        write_atomically(root / TRACKER, str(max(whole)))
        return max(whole)
    (root / TRACKER).unlink(missing_ok=True)
    return None


def _states(root: Path) -> list[Path]:
    return list(root.glob(f"global_step_*/{STATE_FOLDER}/{STATE_FILE}"))


def retire_old(root: Path, *, keep: int | None) -> list[Path]:
    """Delete all but the newest `keep` checkpoints; None keeps all.

    Only ever called when the newest is whole and tracked.
    """
    folders = sorted(root.glob("global_step_*"), key=lambda path: int(path.name.split("_")[-1]))
    old = folders[:-keep] if keep else []
    for folder in old:
        shutil.rmtree(folder, ignore_errors=True)
    return old


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
    state: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
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
