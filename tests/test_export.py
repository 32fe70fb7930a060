"""A Hugging Face folder comes out of real FSDP2 checkpoints, with every weight as it was."""

import json
import pickle
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from mifo_ext import cli
from mifo_ext.export import check_loadable, export, find_actor

SAVE = Path(__file__).parent / "verl_checkpoint.py"


def save_run(folder: Path, *, ranks: int) -> Path:
    subprocess.run([sys.executable, str(SAVE), str(ranks), str(folder)], check=True)
    (folder / "latest_checkpointed_iteration.txt").write_text("3")
    return folder


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two ranks' checkpoint."""
    return save_run(tmp_path_factory.mktemp("run"), ranks=2)


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    tiny_model = runpy.run_path(str(SAVE), run_name="not main")["tiny_model"]
    weights: dict[str, torch.Tensor] = tiny_model().state_dict()
    return weights


def test_every_weight_comes_out_bit_for_bit(
    run_folder: Path, weights: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    exported = export(run_folder, tmp_path / "out", dtype="float32")

    assert_same(load_file(tmp_path / "out" / "model.safetensors"), weights)
    assert exported.parameters == sum(weight.numel() for weight in weights.values())
    assert exported.actor == run_folder / "global_step_3" / "actor"


@pytest.mark.slow
def test_one_rank_gives_the_same_weights_as_two(
    weights: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    export(save_run(tmp_path, ranks=1), tmp_path / "out", dtype="float32")

    assert_same(load_file(tmp_path / "out" / "model.safetensors"), weights)


def assert_same(written: dict[str, torch.Tensor], weights: dict[str, torch.Tensor]) -> None:
    assert written.keys() == weights.keys()
    assert all(torch.equal(written[name], weights[name]) for name in weights)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_the_folder_is_of_the_precision_asked_for(
    run_folder: Path, weights: dict[str, torch.Tensor], tmp_path: Path, dtype: str
) -> None:
    export(run_folder, tmp_path / "out", dtype=dtype)

    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto")
    wanted = getattr(torch, dtype)
    assert model.dtype == wanted
    assert all(
        torch.equal(weight, weights[name].to(wanted)) for name, weight in model.state_dict().items()
    )
    assert json.loads((tmp_path / "out" / "export.json").read_text())["step"] == 3


def test_the_tokenizer_and_its_chat_template_come_along(run_folder: Path, tmp_path: Path) -> None:
    export(run_folder, tmp_path / "out")

    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer.encode("a") == [2]
    assert tokenizer.chat_template == "{{ messages[0]['content'] }}"
    assert not [path for path in (tmp_path / "out").iterdir() if path.suffix in (".bin", ".pt")]


def test_the_command_tells_what_it_wrote(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["export", str(run_folder), str(tmp_path / "out"), "--dtype", "float32"]

    assert cli.main(words) == 0

    # Embeddings and head 2 * 65 * 36, attention 36 * (36 + 36 + 18 + 18) + 72 biases, MLP
    # 3 * 36 * 50, three norms of 36.
    assert f"as {tmp_path / 'out'}: 14,148 parameters" in capsys.readouterr().out


@pytest.mark.parametrize("below", ["", "global_step_3", "global_step_3/actor"])
def test_run_step_and_actor_folder_name_the_same_checkpoint(run_folder: Path, below: str) -> None:
    assert find_actor(run_folder / below) == run_folder / "global_step_3" / "actor"


class Intruder:
    """Unpickling it writes a file."""

    def __init__(self, evidence: Path) -> None:
        self.evidence = evidence

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.evidence,)


def checkpoint_with_rank_0(tmp_path: Path, run: Path, content: object) -> Path:
    actor = tmp_path / "actor"
    (actor / "huggingface").mkdir(parents=True)
    for file in (run / "global_step_3" / "actor" / "huggingface").iterdir():
        (actor / "huggingface" / file.name).write_bytes(file.read_bytes())
    (actor / "fsdp_config.json").write_text('{"FSDP_version": 2, "world_size": 1}')
    torch.save(content, actor / "model_world_size_1_rank_0.pt")
    return actor


def test_code_inside_a_shard_never_runs(
    run_folder: Path, weights: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    evidence = tmp_path / "ran"
    actor = checkpoint_with_rank_0(tmp_path, run_folder, {**weights, "x": Intruder(evidence)})

    with pytest.raises(ValueError, match="must hold nothing but tensors"):
        export(actor, tmp_path / "out")

    assert not evidence.exists()
    pickle.loads(pickle.dumps(Intruder(evidence)))  # it would have
    assert evidence.exists()


def test_a_weight_that_is_not_finite_is_named_and_nothing_is_written(
    run_folder: Path, weights: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    broken = {name: weight.clone() for name, weight in weights.items()}
    broken["model.norm.weight"][0] = torch.nan
    actor = checkpoint_with_rank_0(tmp_path, run_folder, broken)

    with pytest.raises(ValueError, match=r"`model\.norm\.weight` is not"):
        export(actor, tmp_path / "out")

    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.unfinished").exists()


def test_a_missing_weight_is_named(
    run_folder: Path, weights: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    broken = {name: weight for name, weight in weights.items() if name != "model.norm.weight"}
    actor = checkpoint_with_rank_0(tmp_path, run_folder, broken)

    with pytest.raises(ValueError, match=r"missing_keys are model\.norm\.weight"):
        export(actor, tmp_path / "out")


def test_a_missing_shard_is_named(run_folder: Path, tmp_path: Path) -> None:
    actor = checkpoint_with_rank_0(tmp_path, run_folder, {})
    (actor / "model_world_size_1_rank_0.pt").unlink()

    with pytest.raises(FileNotFoundError, match=r"rank_0\.pt is missing: all 1 shards are needed"):
        export(actor, tmp_path / "out")


def test_an_earlier_export_is_replaced_and_other_folders_are_not(
    run_folder: Path, tmp_path: Path
) -> None:
    export(run_folder, tmp_path / "out")
    export(run_folder, tmp_path / "out", dtype="float32")
    assert check_loadable(tmp_path / "out") > 0

    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="but holds other files"):
        export(run_folder, tmp_path / "precious")
    assert (tmp_path / "precious" / "thesis.txt").read_text() == "mine"


def test_folders_without_a_checkpoint_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"has neither latest_checkpointed_iteration\.txt"):
        find_actor(tmp_path)


def test_a_broken_tracker_lists_the_checkpoints_there(tmp_path: Path) -> None:
    (tmp_path / "latest_checkpointed_iteration.txt").write_text("")
    (tmp_path / "global_step_2").mkdir()

    with pytest.raises(ValueError, match=r"holds ''.*global_step_2"):
        find_actor(tmp_path)


def test_an_unknown_precision_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`--dtype` must be bfloat16, float16, float32"):
        export(tmp_path, tmp_path / "out", dtype="fp8")
