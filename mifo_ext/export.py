"""`mifo export`: a Hugging Face folder from any checkpoint of a run."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

from mifo_ext.data.folders import whole_folder

TRACKER = "latest_checkpointed_iteration.txt"
SHARD_CONFIG = "fsdp_config.json"
MARK = "export.json"
DTYPES = ("bfloat16", "float16", "float32")


class Exported(NamedTuple):
    """What was written.

    Attributes:
        actor: the checkpoint's folder that was read.
        parameters: number of weights.
        size_bytes: bytes of the weight files.
    """

    actor: Path
    parameters: int
    size_bytes: int


def export(checkpoint: Path, out: Path, *, dtype: str = "bfloat16") -> Exported:
    """Write a Hugging Face folder, and load it once to see that it is whole.

    Args:
        checkpoint: a run's folder (its newest checkpoint), global_step_N, or its actor folder.
        out: folder to write.
        dtype: of the weights; float32 keeps every bit of the trainer's.

    Raises:
        FileNotFoundError: when there is no checkpoint.
        FileExistsError: when `out` holds something else.
        ValueError: when the checkpoint cannot be read safely, or holds a weight that is not finite.
    """
    if dtype not in DTYPES:
        raise ValueError(f"`--dtype` must be {', '.join(DTYPES)}, but is {dtype!r}.")
    actor = find_actor(checkpoint)
    with _in_silence(), whole_folder(out, mark=MARK) as unfinished:
        import torch

        from mifo_ext.adapters.export import merge_checkpoint

        merge_checkpoint(actor, unfinished, dtype=getattr(torch, dtype))
        parameters = check_loadable(unfinished)
        size_bytes = sum(path.stat().st_size for path in unfinished.glob("*.safetensors"))
        record = {"step": step_of(actor), "dtype": dtype, "parameters": parameters}
        (unfinished / MARK).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return Exported(actor, parameters, size_bytes)


@contextmanager
def _in_silence() -> Iterator[None]:
    """Keep to ourselves that verl and transformers tell of every step; what fails is raised."""
    said = io.StringIO()
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(said), redirect_stderr(said):
            yield
    finally:
        logging.disable(logging.NOTSET)


def find_actor(checkpoint: Path) -> Path:
    """Return the folder with the actor's shards.

    Args:
        checkpoint: a run's folder, global_step_N, or its actor folder.

    Raises:
        FileNotFoundError: when there is none; says what was looked for.
        ValueError: when the run's tracker is unreadable.
    """
    if (checkpoint / TRACKER).is_file():
        text = (checkpoint / TRACKER).read_text(encoding="utf-8").strip()
        if not text.isdecimal():
            steps = sorted(path.name for path in checkpoint.glob("global_step_*"))
            raise ValueError(
                f"`{TRACKER}` must hold a step, but holds {text!r}. "
                f"Name the checkpoint itself: {', '.join(steps) or 'none is there'}."
            )
        checkpoint = checkpoint / f"global_step_{text}"
    for folder in (checkpoint, checkpoint / "actor"):
        if (folder / SHARD_CONFIG).is_file():
            return folder
    raise FileNotFoundError(
        f"{checkpoint} must be a run's folder, global_step_N or its actor folder, "
        f"but has neither {TRACKER} nor {SHARD_CONFIG}."
    )


def check_loadable(folder: Path) -> int:
    """Load a Hugging Face folder as its users will, and return the number of weights.

    Raises:
        ValueError: when weights are missing, left over, of another shape, or not finite.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    AutoTokenizer.from_pretrained(folder)
    model, found = AutoModelForCausalLM.from_pretrained(
        folder, dtype="auto", output_loading_info=True
    )
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if names := sorted(str(name) for name in found[kind]):
            raise ValueError(f"The weights must fit the model, but {kind} are {', '.join(names)}.")
    for name, weight in model.named_parameters():
        if not torch.isfinite(weight).all():
            raise ValueError(f"Every weight must be finite, but `{name}` is not.")
    return sum(weight.numel() for weight in model.parameters())


def step_of(actor: Path) -> int | None:
    """The training step of an actor's folder, or None when no folder above says it."""
    name = actor.parent.name
    number = name.removeprefix("global_step_")
    return int(number) if number != name and number.isdecimal() else None
