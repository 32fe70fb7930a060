"""From whatever a checkpoint is called to a Hugging Face folder that vLLM can serve."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mifo_ext.data.sources import sha256

CONFIG = "config.json"
WEIGHTS = "*.safetensors"
TOKENIZERS = ("tokenizer.json", "vocab.*", "*.model", "*.tiktoken")
UNSAFE = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.gguf")


@dataclass(frozen=True)
class Checkpoint:
    """A model to be evaluated.

    Attributes:
        name: what its run is called.
        asked: what the user wrote.
        folder: its Hugging Face folder.
        identity: hash of everything that decides what it answers.
        kind: `hub`, `folder` or `verl`.
        step: training step of a verl checkpoint.
        revision: commit of a model from the hub.
    """

    name: str
    asked: str
    folder: Path
    identity: str
    kind: str
    step: int | None = None
    revision: str | None = None


@contextmanager
def opened(
    asked: str, *, name: str | None = None, revision: str | None = None, dtype: str = "auto"
) -> Iterator[Checkpoint]:
    """Find a checkpoint; shards of verl are merged into a folder that is gone afterwards.

    Args:
        asked: a Hugging Face folder, a run's folder (its newest checkpoint), global_step_N, its
            actor folder, or a hub id.
        name: what its run is called; taken from `asked` if None.
        revision: commit, tag or branch of a hub id.
        dtype: of merged weights; `auto` keeps what they were trained in when there is no
            accelerator, and takes bfloat16, which rollouts are drawn in, where there is one.

    Raises:
        FileNotFoundError: when it is none of these.
        ValueError: when it cannot be read safely.
    """
    path, name = Path(asked).expanduser(), name or name_of(asked)
    if (path / CONFIG).is_file():
        yield Checkpoint(name, asked, path, _folder_identity(path), "folder")
    elif path.exists():
        with _merged(path, dtype=dtype) as (folder, actor, step):
            identity = _hash_files(sorted(actor.glob("model_world_size_*.pt")))
            yield Checkpoint(name, asked, folder, identity, "verl", step)
    else:
        folder = _downloaded(asked, revision=revision)
        # The hub's cache calls a snapshot's folder after its commit.
        commit = folder.name
        yield Checkpoint(name, asked, folder, commit, "hub", revision=commit)


def name_of(asked: str) -> str:
    """What the run of a checkpoint is called when nobody says.

    Raises:
        FileNotFoundError: when it is neither a folder with a model or checkpoint nor a hub id.
    """
    from mifo_ext.export import find_actor, step_of

    path = Path(asked).expanduser()
    if (path / CONFIG).is_file():
        return _clean(path.resolve().name)
    if path.exists():
        actor = find_actor(path)
        return _run_name(actor, step_of(actor))
    if _is_hub_id(asked):
        return asked.replace("/", "--")
    raise FileNotFoundError(
        f"{asked} must be a Hugging Face folder, a checkpoint of verl, or a hub id such as "
        "owner/name, but is none."
    )


@contextmanager
def _merged(path: Path, *, dtype: str) -> Iterator[tuple[Path, Path, int | None]]:
    from mifo_ext.export import export, find_actor, step_of

    actor = find_actor(path)
    workplace = Path(tempfile.mkdtemp(prefix="mifo-eval-"))
    try:
        folder = workplace / "model"
        export(actor, folder, dtype=_merge_dtype() if dtype == "auto" else dtype)
        yield folder, actor, step_of(actor)
    finally:
        shutil.rmtree(workplace, ignore_errors=True)


def _merge_dtype() -> str:
    import torch

    return "bfloat16" if torch.cuda.is_available() else "float32"


def _run_name(actor: Path, step: int | None) -> str:
    run = actor.resolve().parent.parent if actor.name == "actor" else actor.resolve().parent
    # Trainers put checkpoints into a folder of their own inside the run's.
    if run.name == "checkpoints":
        run = run.parent
    return _clean(run.name if step is None else f"{run.name}-step{step}")


def _folder_identity(folder: Path) -> str:
    weights = sorted(folder.glob(WEIGHTS))
    if not weights:
        unsafe = sorted(path.name for kind in UNSAFE for path in folder.glob(kind))
        raise ValueError(
            f"{folder} must hold safetensors weights, but holds {', '.join(unsafe) or 'none'}. "
            "Convert pickles that you trust with `mifo prepare model --convert-pickles`."
        )
    beside = [folder / CONFIG, *sorted(folder.glob("*token*")), *sorted(folder.glob("vocab*"))]
    return _hash_files([*weights, *(path for path in beside if path.is_file())])


def _hash_files(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.name} {sha256(path)}\n".encode())
    return digest.hexdigest()


def _is_hub_id(asked: str) -> bool:
    parts = asked.split("/")
    return len(parts) == 2 and all(parts) and parts[0] not in (".", "..", "~")


def _downloaded(asked: str, *, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    try:
        folder = snapshot_download(asked, revision=revision, ignore_patterns=list(UNSAFE))
    except GatedRepoError as error:
        raise ValueError(
            f"{asked} is gated: accept its terms on the hub, then log in with `hf auth login`."
        ) from error
    except RepositoryNotFoundError as error:
        raise ValueError(
            f"{asked} must be a folder here or a model on the hub, but is neither (or private: log "
            "in with `hf auth login`)."
        ) from error
    except LocalEntryNotFoundError as error:
        raise ValueError(
            f"{asked} is not on this machine and the hub cannot be reached. Give a folder, or "
            "download it first with `hf download`."
        ) from error
    return Path(folder)


def _clean(name: str) -> str:
    return "".join(char if char.isalnum() or char in "._-" else "-" for char in name) or "model"


def tokenizer_of(folder: Path, *, trust_remote_code: bool = False) -> Any:
    """The tokenizer beside a model.

    Raises:
        ValueError: when there is none that can be read.
    """
    from transformers import AutoTokenizer

    # Without any file transformers makes up an empty one from the model's kind.
    if not any(path for kind in TOKENIZERS for path in folder.glob(kind)):
        raise ValueError(
            f"{folder.name} must hold a tokenizer, but has none of {', '.join(TOKENIZERS)}."
        )
    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(
            f"{folder.name} must hold a tokenizer, but it cannot be read: "
            f"{str(error).splitlines()[0] if str(error) else type(error).__name__}"
        ) from error
