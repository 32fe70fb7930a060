"""Whatever a checkpoint is called, its Hugging Face folder is found, or a word says why not."""

import subprocess
import sys
from pathlib import Path

import pytest

from mifo_ext.eval.checkpoint import opened, tokenizer_of
from tests.support.tiny_model import write_tiny_model

SAVE = Path(__file__).parents[1] / "verl_checkpoint.py"


def test_a_folder_is_served_as_it_lies(tmp_path: Path) -> None:
    folder = write_tiny_model(tmp_path / "my model")

    with opened(str(folder)) as checkpoint:
        assert (checkpoint.name, checkpoint.folder) == ("my-model", folder)
        assert checkpoint.kind == "folder"


def test_a_models_identity_follows_its_weights_and_not_its_place(tmp_path: Path) -> None:
    one, two = (write_tiny_model(tmp_path / name) for name in ("one", "two"))
    with opened(str(one)) as first, opened(str(two)) as second:
        assert first.identity == second.identity

    weights = two / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    with opened(str(one)) as first, opened(str(two)) as second:
        assert first.identity != second.identity


@pytest.mark.slow
def test_a_verl_checkpoint_is_merged_and_the_merged_folder_is_gone_afterwards(
    tmp_path: Path,
) -> None:
    (tmp_path / "run").mkdir()  # the ranks meet in a file there
    subprocess.run([sys.executable, str(SAVE), "2", str(tmp_path / "run")], check=True)
    (tmp_path / "run" / "latest_checkpointed_iteration.txt").write_text("3")

    with opened(str(tmp_path / "run")) as checkpoint:
        folder = checkpoint.folder
        assert (folder / "model.safetensors").is_file()
        assert (checkpoint.name, checkpoint.kind, checkpoint.step) == ("run-step3", "verl", 3)
    assert not folder.exists()
    with opened(str(tmp_path / "run" / "global_step_3"), name="mine") as again:
        assert (again.name, again.identity) == ("mine", checkpoint.identity)


def test_pickled_weights_are_refused_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"")

    with (
        pytest.raises(ValueError, match=r"but holds pytorch_model\.bin\. Convert pickles"),
        opened(str(tmp_path)),
    ):
        pass


def test_nothing_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="or a hub id such as"), opened("nowhere"):
        pass
    with pytest.raises(FileNotFoundError, match="must be a run's folder"), opened(str(tmp_path)):
        pass


def test_an_offline_hub_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))

    with pytest.raises(ValueError, match="the hub cannot be reached"), opened("some/model"):
        pass


def test_a_folder_without_a_tokenizer_is_said(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "qwen2"}')

    with pytest.raises(ValueError, match="must hold a tokenizer, but has none of"):
        tokenizer_of(tmp_path)
