"""Builds the world into a folder once, and finds it there afterwards."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from mifo_ext.world.problems import Problem
from mifo_ext.world.reasoner import make_model, make_tokenizer, save_reasoner
from mifo_ext.world.schooling import Schooling, school
from mifo_ext.world.splits import SPLITS, TRAIN, Sizes, draw_splits, write_split

MANIFEST = "manifest.json"
# Raised whenever the same settings would give another world.
VERSION = 2


@dataclass(frozen=True)
class WorldSettings:
    """What the world is made of.

    Attributes:
        schooling: how the reasoner is schooled.
        sizes: how many questions each split holds.
        threads: torch threads while schooling; part of what fixes the model's bytes.
    """

    schooling: Schooling = field(default_factory=Schooling)
    sizes: Sizes = field(default_factory=Sizes)
    threads: int = 1


@dataclass(frozen=True)
class World:
    """Where a world's parts lie."""

    folder: Path

    @property
    def model(self) -> Path:
        """The Hugging Face folder of the schooled reasoner."""
        return self.folder / "model"

    @property
    def train(self) -> Path:
        """The training questions with their demonstrations."""
        return self.folder / "train.parquet"

    @property
    def validation(self) -> Path:
        """Questions to watch a run by."""
        return self.folder / "validation.parquet"

    @property
    def heldout(self) -> Path:
        """Questions for the final table only."""
        return self.folder / "heldout.parquet"


def build(
    folder: str | os.PathLike[str],
    *,
    seed: int = 0,
    progress: bool = True,
    settings: WorldSettings | None = None,
) -> World:
    """Build the world, unless this very world is there already.

    The work happens in a neighbouring folder that takes the place of `folder` when it is whole, so
    a crash leaves no half-built world.

    Args:
        folder: where the world lies or is to lie; a stale world there is replaced.
        seed: questions, lessons and first weights depend on nothing else.
        progress: whether to show a progress bar.
        settings: what the world is made of.

    Returns:
        The paths of its parts.

    Raises:
        FileExistsError: if `folder` holds something that is not a world.
    """
    folder, settings = Path(folder), settings or WorldSettings()
    if world_is_ready(folder, seed=seed, settings=settings):
        return World(folder)
    if folder.exists() and any(folder.iterdir()) and not (folder / MANIFEST).exists():
        raise FileExistsError(
            f"`folder` must be empty or hold a world, but is {folder}, which holds other files. "
            "Name another folder."
        )

    folder.parent.mkdir(parents=True, exist_ok=True)
    workplace = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        _build_into(World(workplace), seed=seed, settings=settings, progress=progress)
        # mkdtemp's folder is its owner's alone; a world may be shared.
        workplace.chmod(0o755)
        shutil.rmtree(folder, ignore_errors=True)
        workplace.rename(folder)
    finally:
        shutil.rmtree(workplace, ignore_errors=True)
    return World(folder)


def world_is_ready(
    folder: str | os.PathLike[str], *, seed: int = 0, settings: WorldSettings | None = None
) -> bool:
    """Whether `folder` holds this very world, whole and unchanged.

    Args:
        folder: where to look.
        seed: the seed it must have been built with.
        settings: the settings it must have been built with.
    """
    folder = Path(folder)
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
    except (OSError, ValueError):
        return False
    wanted = _identity(seed=seed, settings=settings or WorldSettings())
    return bool(manifest.get("made_of") == wanted and manifest.get("files") == _hashes(folder))


def _build_into(world: World, *, seed: int, settings: WorldSettings, progress: bool) -> None:
    """Write all parts of the world, then the manifest that vouches for them."""
    splits = draw_splits(settings.sizes, seed=seed)
    for split in SPLITS:
        write_split(splits[split], world.folder / f"{split}.parquet", split=split)

    kept_apart = {
        problem.question for split in SPLITS if split != TRAIN for problem in splits[split]
    }
    _school_into(world, seed=seed, settings=settings, kept_apart=kept_apart, show=progress)
    manifest = {
        "made_of": _identity(seed=seed, settings=settings),
        "files": _hashes(world.folder),
        "questions": {split: _counts(splits[split]) for split in SPLITS},
    }
    (world.folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")


def _school_into(
    world: World, *, seed: int, settings: WorldSettings, kept_apart: set[str], show: bool
) -> None:
    """School a fresh reasoner and write its folder."""
    tokenizer = make_tokenizer()
    model = make_model(tokenizer, seed=seed)
    columns = (
        TextColumn("schooling the tiny reasoner"),
        BarColumn(),
        TextColumn("loss {task.fields[loss]:.2f}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with _torch_threads(settings.threads), Progress(*columns, disable=not show) as bar:
        task = bar.add_task("school", total=settings.schooling.steps, loss=0.0)
        school(
            model,
            tokenizer,
            settings.schooling,
            seed=seed,
            without=kept_apart,
            on_step=lambda loss: bar.update(task, advance=1, loss=loss),
        )
    save_reasoner(model, tokenizer, world.model)


@contextmanager
def _torch_threads(threads: int) -> Iterator[None]:
    """Run with this many torch threads: another number adds up in another order."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _identity(*, seed: int, settings: WorldSettings) -> dict[str, Any]:
    """Everything that decides what the world looks like, as JSON would give it back."""
    made_of = {"version": VERSION, "seed": seed, "settings": asdict(settings)}
    return dict(json.loads(json.dumps(made_of)))


def _hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of every file of the world but the manifest, by relative path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    return {
        path.relative_to(folder).as_posix(): sha256(path.read_bytes()).hexdigest() for path in files
    }


def _counts(problems: list[Problem]) -> dict[str, int]:
    """Questions by skill and level."""
    counts = dict[str, int]()
    for problem in problems:
        cell = f"{problem.skill}/{problem.level}"
        counts[cell] = counts.get(cell, 0) + 1
    return dict(sorted(counts.items()))
