"""Each thing that can be wrong before a run is said in one sentence, all of them together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from omegaconf import DictConfig, OmegaConf, open_dict

from mifo_ext.adapters import checkpoints
from mifo_ext.adapters.checks import problems_of
from tests.support.runs import composed, rows, run_folder, write_rows


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    run_folder(folder)
    return folder


@pytest.fixture(scope="module")
def sound(files: Path) -> DictConfig:
    """MIFO on small, sound files; composed once."""
    return composed(
        "+recipe=mifo",
        "scale=cpu_tiny",
        f"data.train_files={files}/train.parquet",
        f"data.val_files={files}/validation.parquet",
        f"actor_rollout_ref.model.path={files}/model",
        f"trainer.default_local_dir={files}/run",
    )


def changed(config: DictConfig, changes: dict[str, Any]) -> DictConfig:
    copy = config.copy()
    with open_dict(copy):
        for key, value in changes.items():
            OmegaConf.update(copy, key, value, force_add=True)
    return copy


def test_a_sound_run_has_no_problems(sound: DictConfig) -> None:
    assert problems_of(sound) == []


ONE_SENTENCE = {
    "missing file": (
        {"data.train_files": "/nowhere/train.parquet"},
        "`data.train_files` must name a file, but /nowhere/train.parquet does not exist.",
    ),
    "no validation file": ({"data.val_files": None}, "`data.val_files` must name a parquet file"),
    "one rollout": (
        {"actor_rollout_ref.rollout.n": 1},
        "`actor_rollout_ref.rollout.n` must be at least 2, but is 1",
    ),
    "threshold above 1": (
        {"interleave.hard_at_most": 1.5},
        "`interleave.hard_at_most` must be a number in [0, 1], but is 1.5",
    ),
    "threshold below 0": (
        {"interleave.hard_at_most": -0.1},
        "`interleave.hard_at_most` must be a number in [0, 1], but is -0.1",
    ),
    "token fraction of nothing": (
        {"interleave.sft.fraction": 0},
        "`interleave.sft.fraction` must be a number in (0, 1], but is 0",
    ),
    "hold fraction above 1": (
        {"interleave.hold.fraction": 1.01},
        "`interleave.hold.fraction` must be a number in [0, 1], but is 1.01",
    ),
    "history that never fades": (
        {"interleave.hold.decay": 1.0},
        "`interleave.hold.decay` must be a number in [0, 1), but is 1.0",
    ),
    "empty buffer": (
        {"interleave.buffer_size": 0},
        "`interleave.buffer_size` must be a whole number, at least 1, but is 0",
    ),
    "buffer larger than the data": (
        {"interleave.buffer_size": 81, "interleave.sft.mini_batch_size": None},
        "`interleave.buffer_size` must be at most the 80 questions of the training data, but is 81",
    ),
    "batch larger than the data": (
        {"data.train_batch_size": 81},
        "`data.train_batch_size` must be at most the 80 rows of the training data, but is 81",
    ),
    "unknown key": ({"interleave.holds": 1}, "`interleave.holds`"),
    "another trainer": (
        {"trainer.v1.trainer_mode": "separate_async"},
        "`trainer.v1.trainer_mode` must be interleaved, but is separate_async",
    ),
    "the old trainer": ({"trainer.use_v1": False}, "`trainer.use_v1` must be true, but is false"),
    "LoRA": (
        {"actor_rollout_ref.model.lora_rank": 8},
        "`actor_rollout_ref.model.lora_rank` must be 0, but is 8",
    ),
    "LoRA of verl's other key": (
        {"actor_rollout_ref.model.lora.rank": 8},
        "`actor_rollout_ref.model.lora.rank` must be 0, but is 8",
    ),
    "Megatron": (
        {"actor_rollout_ref.actor.strategy": "megatron"},
        "`actor_rollout_ref.actor.strategy` must be fsdp2 or fsdp, but is megatron",
    ),
    "bf16 masters": (
        {"actor_rollout_ref.actor.fsdp_config.model_dtype": "bf16"},
        "`actor_rollout_ref.actor.fsdp_config.model_dtype` must be fp32, but is bf16",
    ),
    "fused kernels": (
        {"actor_rollout_ref.model.use_fused_kernels": True},
        "`actor_rollout_ref.model.use_fused_kernels` must be false, but is true",
    ),
    "checkpoints written later": (
        {"actor_rollout_ref.actor.checkpoint.async_save": True},
        "`actor_rollout_ref.actor.checkpoint.async_save` must be false, but is true",
    ),
    "a checkpoint that is not there": (
        {"trainer.resume_mode": "resume_path", "trainer.resume_from_path": "/no/global_step_3"},
        "`trainer.resume_from_path` must be a checkpoint, but /no/global_step_3 does not exist",
    ),
}


@pytest.mark.parametrize("case", ONE_SENTENCE)
def test_one_mistake_is_one_sentence(sound: DictConfig, case: str) -> None:
    changes, sentence = ONE_SENTENCE[case]

    problems = problems_of(changed(sound, changes))

    assert len(problems) == 1
    assert sentence in problems[0]


def test_all_mistakes_are_said_together(sound: DictConfig) -> None:
    several = ("one rollout", "threshold above 1", "LoRA", "bf16 masters", "missing file")
    changes = {k: v for name in several for k, v in ONE_SENTENCE[name][0].items()}

    problems = problems_of(changed(sound, changes))

    assert len(problems) == len(several)
    for name in several:
        assert sum(ONE_SENTENCE[name][1] in problem for problem in problems) == 1


def data_problem(sound: DictConfig, file: Path) -> str:
    (problem,) = problems_of(changed(sound, {"data.train_files": [str(file)]}))
    return problem


def test_a_file_that_is_not_parquet(sound: DictConfig, tmp_path: Path) -> None:
    file = tmp_path / "train.parquet"
    file.write_text("no table")

    assert f"must be parquet, but {file} cannot be read" in data_problem(sound, file)


def test_a_folder_in_place_of_a_file(sound: DictConfig, tmp_path: Path) -> None:
    assert f"must be parquet, but {tmp_path} cannot be read" in data_problem(sound, tmp_path)


def test_a_missing_column(sound: DictConfig, tmp_path: Path) -> None:
    table = [{k: v for k, v in row.items() if k != "reward_model"} for row in rows(80)]

    problem = data_problem(sound, write_rows(tmp_path / "a.parquet", table))

    assert "must have the columns prompt, reward_model, data_source, target" in problem
    assert "lacks reward_model." in problem


def test_an_empty_data_set(sound: DictConfig, tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_pylist(rows(1)).slice(0, 0), file)

    assert f"must have rows, but {file} has none" in data_problem(sound, file)


@pytest.mark.parametrize(
    "nothing", [None, "", "   ", []], ids=["null", "empty", "blank", "no turns"]
)
def test_no_demonstrations(sound: DictConfig, tmp_path: Path, nothing: Any) -> None:
    turn = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
    kind = turn if nothing == [] else pa.string()
    table = pa.Table.from_pylist(rows(80, target=False))
    table = table.append_column("target", pa.array([nothing] * 80, kind))
    pq.write_table(table, tmp_path / "a.parquet")

    problem = data_problem(sound, tmp_path / "a.parquet")

    assert "must have demonstrations in its column `target`" in problem


def test_a_target_that_nobody_can_read(sound: DictConfig, tmp_path: Path) -> None:
    two = [{"role": "assistant", "content": "1"}, {"role": "assistant", "content": "2"}]
    table = [{**row, "target": two} for row in rows(80, target=False)]

    problem = data_problem(sound, write_rows(tmp_path / "a.parquet", table))

    assert "`target` must be one assistant message, but is 2 messages" in problem


def test_one_demonstration_in_a_later_row_group_is_enough(
    sound: DictConfig, tmp_path: Path
) -> None:
    table = [{**row, "target": None} for row in rows(80)]
    table[79]["target"] = "2"
    pq.write_table(pa.Table.from_pylist(table), tmp_path / "a.parquet", row_group_size=10)

    assert problems_of(changed(sound, {"data.train_files": str(tmp_path / "a.parquet")})) == []


def test_plain_rl_needs_no_demonstrations(files: Path, tmp_path: Path) -> None:
    file = write_rows(tmp_path / "a.parquet", rows(80, target=False))
    words = [f"data.train_files={file}", f"data.val_files={file}"]

    config = composed(
        "+recipe=grpo", "scale=cpu_tiny", *words, f"actor_rollout_ref.model.path={files}/model",
        f"trainer.default_local_dir={tmp_path}/run",
    )  # fmt: skip

    assert problems_of(config) == []


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda folder: (folder / "config.json").unlink(), "has no config.json"),
        (lambda folder: (folder / "config.json").write_text("{"), "config.json is not JSON"),
        (lambda folder: (folder / "model.safetensors").unlink(), "has no weights"),
    ],
)
def test_a_model_folder_with_a_part_missing(
    sound: DictConfig, tmp_path: Path, spoil: Any, sentence: str
) -> None:
    run_folder(tmp_path)
    spoil(tmp_path / "model")

    (problem,) = problems_of(
        changed(sound, {"actor_rollout_ref.model.path": str(tmp_path / "model")})
    )
    assert sentence in problem


def saved_by(recipe: str, root: Path, *, world_size: int = 1) -> None:
    folder = checkpoints.step_folder(root, 20)
    checkpoints.write_state(folder, {"recipe": recipe, "world_size": world_size, "step": 20})
    checkpoints.write_atomically(root / checkpoints.TRACKER, "20")


@pytest.mark.parametrize(
    ("recipe", "world_size", "sentence"),
    [
        ("grpo", 1, "recipe must be mifo, but the checkpoint has grpo"),
        ("mifo", 2, "world_size must be 1, but the checkpoint has 2"),
    ],
)
def test_a_checkpoint_of_another_run(
    sound: DictConfig, tmp_path: Path, recipe: str, world_size: int, sentence: str
) -> None:
    saved_by(recipe, tmp_path, world_size=world_size)

    (problem,) = problems_of(changed(sound, {"trainer.default_local_dir": str(tmp_path)}))
    assert sentence in problem
    afresh = {"trainer.default_local_dir": str(tmp_path), "trainer.resume_mode": "disable"}
    assert problems_of(changed(sound, afresh)) == []


def test_a_checkpoint_of_the_same_run_is_taken_up_even_if_a_crash_set_it_aside(
    sound: DictConfig, tmp_path: Path
) -> None:
    saved_by("mifo", tmp_path)
    here = {"trainer.default_local_dir": str(tmp_path)}
    assert problems_of(changed(sound, here)) == []

    (tmp_path / checkpoints.TRASH).mkdir()
    (tmp_path / "global_step_20").rename(tmp_path / checkpoints.TRASH / "global_step_20")
    assert problems_of(changed(sound, here)) == []
