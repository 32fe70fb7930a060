"""Configurations as a user's command line composes them, and the smallest files they can name."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import verl  # noqa: F401  (loads mifo_ext.plugin, as in a run)
import yaml
from hydra import compose, initialize_config_module
from omegaconf import DictConfig, OmegaConf

ROOT = Path(__file__).parents[2]


def composed(*words: str) -> DictConfig:
    """What `python -m verl.trainer.main_ppo WORDS` hands to verl."""
    with initialize_config_module("verl.trainer.config", version_base=None):
        return compose("ppo_trainer", overrides=list(words), return_hydra_config=True)


@cache
def configuration(*words: str) -> dict[str, Any]:
    """What verl is given, references unresolved, without Hydra's own part."""
    config = OmegaConf.to_container(composed(*words), resolve=False)
    assert isinstance(config, dict)
    return {str(key): value for key, value in config.items() if key != "hydra"}


def file_of(group: str, name: str) -> dict[str, Any]:
    """One YAML file as it is written, its list of defaults included."""
    file = ROOT / "configs" / group / f"{name}.yaml"
    loaded = yaml.safe_load(file.read_text(encoding="utf-8"))
    assert isinstance(loaded, dict)
    return loaded


def parent_of(recipe: str) -> str | None:
    """The recipe that another one is built on; None for the first."""
    first = file_of("recipe", recipe)["defaults"][0]
    return first if isinstance(first, str) else None


def rows(count: int, *, target: bool = True) -> list[dict[str, Any]]:
    """Questions "1+1=", "1+2=", … with their answers and demonstrations."""
    return [
        {
            "data_source": "sums",
            "prompt": [{"role": "user", "content": f"1+{n}="}],
            "reward_model": {"style": "rule", "ground_truth": str(n + 1)},
            "extra_info": {"index": n},
            **({"target": f"\\boxed{{{n + 1}}}"} if target else {}),
        }
        for n in range(1, count + 1)
    ]


def write_rows(file: Path, table: list[dict[str, Any]]) -> Path:
    """Write rows as parquet."""
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(table), file)
    return file


def run_folder(folder: Path, *, train_rows: int = 80) -> list[str]:
    """Make data and a model folder that checks accept; the words that name them."""
    write_rows(folder / "train.parquet", rows(train_rows))
    write_rows(folder / "validation.parquet", rows(2))
    (folder / "model").mkdir()
    (folder / "model" / "config.json").write_text('{"model_type": "qwen2"}')
    (folder / "model" / "model.safetensors").touch()
    return [
        f"data.train_files={folder}/train.parquet",
        f"data.val_files={folder}/validation.parquet",
        f"actor_rollout_ref.model.path={folder}/model",
        f"trainer.default_local_dir={folder}/run",
    ]
