"""Checkpoints saved as the trainer saves them."""

from __future__ import annotations

from pathlib import Path

from mifo_ext.adapters import checkpoints

PARTS = ("actor/model.pt", "actor/optim.pt", "data.pt")


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
