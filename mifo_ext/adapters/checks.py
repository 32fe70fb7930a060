"""Everything about a run that can be found wrong before it costs anything, as sentences."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from omegaconf import DictConfig, OmegaConf

from mifo_ext.adapters import checkpoints
from mifo_ext.adapters.checks_demonstrations import demonstration_problems, needs_column
from mifo_ext.adapters.checks_rl import rl_problems
from mifo_ext.data.demonstrations import demonstration_text
from mifo_ext.settings_base import SettingsError
from mifo_ext.settings_reader import parse_settings

LORA_KEYS = {
    "lora_rank": "0",
    "lora.rank": "0",
    "lora_adapter_path": "null",
    "lora.adapter_path": "null",
}
NEEDED_COLUMNS = ("prompt", "reward_model", "data_source")
WEIGHT_FILES = ("model.safetensors", "model.safetensors.index.json")


def problems_of(config: DictConfig) -> list[str]:
    """Find everything wrong with a run's configuration and what it points to.

    Args:
        config: the composed configuration.

    Returns:
        One sentence a problem, each with what to do; empty if the run may start.
    """
    checks = [_data, demonstration_problems, _model, _checkpoint]
    found = [problem for check in checks for problem in check(config)]
    return [*configuration_problems(config), *found]


def configuration_problems(config: DictConfig) -> list[str]:
    """Find what is wrong with the configuration alone, whatever files are there."""
    checks: list[Callable[[DictConfig], Iterator[str]]] = [_settings, _method, rl_problems, _engine]
    return [problem for check in checks for problem in check(config)]


def train_rows(config: DictConfig) -> int | None:
    """Rows of the training files; None where they cannot be read or there are none."""
    try:
        counts = [pq.read_metadata(file).num_rows for file in files_of(config.data.train_files)]
    except (OSError, ValueError):
        return None
    return sum(counts) or None


def total_steps(config: DictConfig) -> int | None:
    """Steps of the run, as verl counts them; None where the data cannot be read."""
    if config.trainer.total_training_steps is not None:
        return int(config.trainer.total_training_steps)
    rows = train_rows(config)
    # Questions that are too long are left out later: this is the most there can be.
    return (
        None if rows is None else rows // config.data.train_batch_size * config.trainer.total_epochs
    )


def files_of(files: Any) -> list[str]:
    """One path or a list of them, as verl takes them, as a list."""
    return [files] if isinstance(files, str) else [str(file) for file in files or []]


def _settings(config: DictConfig) -> Iterator[str]:
    node = OmegaConf.to_container(config.interleave, resolve=True)
    try:
        parse_settings(
            node,  # type: ignore[arg-type]
            rollouts_per_question=config.actor_rollout_ref.rollout.n,
            train_rows=train_rows(config),
            total_steps=total_steps(config),
        )
    except SettingsError as error:
        yield from error.problems


def _method(config: DictConfig) -> Iterator[str]:
    mode = config.trainer.v1.trainer_mode
    if mode != "interleaved":
        yield (
            f"`trainer.v1.trainer_mode` must be interleaved, but is {mode}: verl's other trainers "
            "run no SFT. Leave it out."
        )
    if not config.trainer.use_v1:
        yield "`trainer.use_v1` must be true, but is false: recipes build on verl's V1 trainer."
    model = config.actor_rollout_ref.model
    for key, unset in LORA_KEYS.items():
        value = OmegaConf.select(model, key)
        if value:
            yield (
                f"`actor_rollout_ref.model.{key}` must be {unset}, but is {value}: importance and "
                "hold are defined over the full parameters, so recipes know no LoRA. Leave it out."
            )
    if config.actor_rollout_ref.actor.get("checkpoint", {}).get("async_save", False):
        yield (
            "`actor_rollout_ref.actor.checkpoint.async_save` must be false, but is true: a "
            "checkpoint is put into place only when it is whole."
        )


def _engine(config: DictConfig) -> Iterator[str]:
    actor = config.actor_rollout_ref.actor
    if actor.strategy not in ("fsdp", "fsdp2"):
        yield (
            f"`actor_rollout_ref.actor.strategy` must be fsdp2 or fsdp, but is {actor.strategy}: "
            "the hold lives in the FSDP optimizer."
        )
        return
    if actor.fsdp_config.model_dtype not in ("fp32", "float32"):
        yield (
            "`actor_rollout_ref.actor.fsdp_config.model_dtype` must be fp32, but is "
            f"{actor.fsdp_config.model_dtype}: updates at lr 1e-6 vanish in bf16 weights, so what "
            "RL moved could not be seen. Set mixed_precision.param_dtype for the arithmetic."
        )
    tokens = OmegaConf.select(config, "interleave.sft.tokens")
    if tokens == "high_entropy" and config.actor_rollout_ref.model.get("use_fused_kernels", False):
        yield (
            "`actor_rollout_ref.model.use_fused_kernels` must be false, but is true: fused kernels "
            "never make the logits that token entropy is computed from. Or set "
            "interleave.sft.tokens=all."
        )


def _data(config: DictConfig) -> Iterator[str]:
    wants_demonstrations = needs_column(config)
    for key in ("train_files", "val_files"):
        files = files_of(config.data[key])
        if not files:
            yield f"`data.{key}` must name a parquet file, but is empty."
        for file in files:
            needed = ["target"] if wants_demonstrations and key == "train_files" else []
            yield from _table(f"data.{key}", Path(file), [*NEEDED_COLUMNS, *needed])
    for file in files_of(OmegaConf.select(config, "interleave.rl_files")):
        yield from _table("interleave.rl_files", Path(file), list(NEEDED_COLUMNS))
    count, batch = train_rows(config), config.data.train_batch_size
    if count and batch > count:
        yield (
            f"`data.train_batch_size` must be at most the {count} rows of the training data, but "
            f"is {batch}: no batch would ever be full. Lower it, or add data."
        )


def _table(key: str, file: Path, columns: list[str]) -> Iterator[str]:
    if not file.exists():
        yield (
            f"`{key}` must name a file, but {file} does not exist. Make it with `mifo prepare "
            "data` (or `mifo world build`)."
        )
        return
    try:
        table = pq.ParquetFile(file)
    except (OSError, ValueError) as error:
        yield (
            f"`{key}` must be parquet, but {file} cannot be read: {error}. Use `mifo prepare data`."
        )
        return
    missing = [name for name in columns if name not in table.schema_arrow.names]
    if missing:
        yield (
            f"`{key}` must have the columns {', '.join(columns)}, but {file} lacks "
            f"{', '.join(missing)}. Use `mifo prepare data`."
        )
    elif table.metadata.num_rows == 0:
        yield f"`{key}` must have rows, but {file} has none."
    elif "target" in columns:
        yield from _targets(key, file, table)


def _targets(key: str, file: Path, table: pq.ParquetFile) -> Iterator[str]:
    try:
        found = _has_demonstrations(table)
    except ValueError as error:
        yield f"`{key}` must have demonstrations in its column `target`, but in {file}: {error}"
        return
    if not found:
        yield (
            f"`{key}` must have demonstrations in its column `target`, but in {file} all are null "
            "or empty: hard questions would have nothing to learn from. Use recipe=grpo, or add "
            "solutions."
        )


def _has_demonstrations(table: pq.ParquetFile) -> bool:
    """Whether any row has one; stops at the first row group that has."""
    for number in range(table.metadata.num_row_groups):
        targets = table.read_row_group(number, columns=["target"]).column("target")
        if any(demonstration_text(target.as_py()) is not None for target in targets):
            return True
    return False


def _model(config: DictConfig) -> Iterator[str]:
    path = Path(str(config.actor_rollout_ref.model.path)).expanduser()
    if not path.is_absolute() and not path.exists():
        return  # a hub id: transformers says what it thinks of it
    if not (path / "config.json").exists():
        yield (
            f"`actor_rollout_ref.model.path` must be a Hugging Face folder, but {path} has no "
            "config.json. Make it with `mifo prepare model` (or `mifo world build`)."
        )
        return
    try:
        json.loads((path / "config.json").read_text(encoding="utf-8"))
    except ValueError as error:
        yield f"`actor_rollout_ref.model.path`: {path}/config.json is not JSON ({error})."
    if not any((path / name).exists() for name in WEIGHT_FILES) and not list(path.glob("*.bin")):
        yield f"`actor_rollout_ref.model.path`: {path} has no weights (model.safetensors)."


def _checkpoint(config: DictConfig) -> Iterator[str]:
    root = Path(config.trainer.default_local_dir).absolute()
    if config.trainer.resume_mode == "resume_path":
        folder = Path(str(config.trainer.resume_from_path)).absolute()
        if not folder.is_dir():
            yield (
                f"`trainer.resume_from_path` must be a checkpoint, but {folder} does not exist. "
                "Name a folder global_step_<n>, or leave out trainer.resume_mode."
            )
            return
    elif config.trainer.resume_mode == "auto":
        found = checkpoints.resumable_folder(root)
        if found is None:
            return
        folder = found
    else:
        return
    world_size = config.trainer.nnodes * config.trainer.n_gpus_per_node
    try:
        checkpoints.read_state(folder, recipe=config.interleave.recipe, world_size=world_size)
    except ValueError as error:
        yield str(error)
