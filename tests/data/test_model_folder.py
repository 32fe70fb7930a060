"""The trainer and the rollout read the same RoPE and context from a prepared folder."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from mifo_ext.data.model_folder import ModelPlan, change_context, prepare_model

Writer = Callable[..., Path]


def trainer_inv_freq(folder: Path) -> torch.Tensor:
    """What verl's actor computes positions with."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    inv_freq: torch.Tensor = model.model.rotary_emb.inv_freq
    return inv_freq


def rollout_rope(folder: Path) -> torch.nn.Module:
    """What vLLM's Qwen2 computes positions with, built as its attention layer does."""
    from vllm.config import VllmConfig, set_current_vllm_config
    from vllm.model_executor.layers.rotary_embedding import get_rope
    from vllm.model_executor.models.qwen2 import set_default_rope_theta
    from vllm.transformers_utils.config import get_config

    config = get_config(str(folder), trust_remote_code=False)
    set_default_rope_theta(config, default_theta=1000000)
    with set_current_vllm_config(VllmConfig()):
        rope: torch.nn.Module = get_rope(
            config.hidden_size // config.num_attention_heads,
            max_position=config.max_position_embeddings,
            rope_parameters=config.rope_parameters,
        )
    return rope


def by_hand(theta: float, *, head_size: int = 32) -> torch.Tensor:
    return torch.tensor([theta ** (-2 * pair / head_size) for pair in range(head_size // 2)])


LEGACY = {"rope_theta": 10000.0}
# vLLM, Ray and torch deprecate parts of each other, which shows when they are imported.
others_warn = pytest.mark.filterwarnings("ignore")


@others_warn
@pytest.mark.parametrize("old_keys", [False, True], ids=["transformers 5", "transformers 4"])
def test_trainer_and_rollout_turn_by_the_new_frequencies(
    write_tiny_model: Writer, tmp_path: Path, old_keys: bool
) -> None:
    source = write_tiny_model(tmp_path / "source")
    if old_keys:
        config = json.loads((source / "config.json").read_text())
        del config["rope_parameters"]
        (source / "config.json").write_text(json.dumps({**config, **LEGACY}))
    assert torch.allclose(trainer_inv_freq(source), by_hand(10_000))

    prepare_model(
        ModelPlan(str(source), tmp_path / "out", rope_theta=40_000.0, max_position=16_384)
    )

    trainer, rollout = trainer_inv_freq(tmp_path / "out"), rollout_rope(tmp_path / "out")
    assert torch.allclose(trainer, by_hand(40_000))
    assert torch.equal(rollout._compute_inv_freq(rollout.base), trainer)
    assert rollout.max_position_embeddings == 16_384
    assert AutoConfig.from_pretrained(tmp_path / "out").max_position_embeddings == 16_384


@others_warn
def test_verl_reads_the_new_context(write_tiny_model: Writer, tmp_path: Path) -> None:
    from verl.workers.rollout.utils import get_max_position_embeddings

    source = write_tiny_model(tmp_path / "source")
    prepare_model(ModelPlan(str(source), tmp_path / "out", max_position=256))

    config = AutoConfig.from_pretrained(tmp_path / "out")
    assert get_max_position_embeddings(config) == 256


def test_the_changes_are_told_and_recorded(write_tiny_model: Writer, tmp_path: Path) -> None:
    source = write_tiny_model(tmp_path / "source")

    changes = prepare_model(
        ModelPlan(str(source), tmp_path / "out", rope_theta=40_000.0, max_position=16_384)
    )

    assert [tuple(change) for change in changes] == [
        ("rope_theta", 10_000.0, 40_000.0),
        ("max_position_embeddings", 64, 16_384),
        ("model_max_length", 64, 16_384),  # vLLM takes the smaller of context and tokenizer
    ]
    assert AutoTokenizer.from_pretrained(tmp_path / "out").model_max_length == 16_384
    record = json.loads((tmp_path / "out" / "prepare.json").read_text())
    assert record["changes"][0] == {"name": "rope_theta", "before": 10_000.0, "after": 40_000.0}
    assert record["sha256"].keys() >= {"config.json", "tokenizer.json"}


@pytest.mark.parametrize(("weights", "linked"), [("link", True), ("copy", False)])
def test_weights_are_linked_or_copied_and_stay_the_same(
    write_tiny_model: Writer, tmp_path: Path, weights: str, linked: bool
) -> None:
    source = write_tiny_model(tmp_path / "source")

    prepare_model(ModelPlan(str(source), tmp_path / "out", rope_theta=4e4, weights=weights))

    written = tmp_path / "out" / "model.safetensors"
    assert written.is_symlink() == linked
    assert written.read_bytes() == (source / "model.safetensors").read_bytes()
    assert json.loads((source / "config.json").read_text())["rope_parameters"]["rope_theta"] == 1e4


def test_the_luffy_template_opens_the_thought(write_tiny_model: Writer, tmp_path: Path) -> None:
    source = write_tiny_model(tmp_path / "source")

    prepare_model(ModelPlan(str(source), tmp_path / "out", chat_template="luffy"))

    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "1+1?"}], add_generation_prompt=True, tokenize=False
    )
    assert prompt.startswith("<|im_start|>system\nYour task is to follow a systematic")
    assert prompt.endswith("<|im_start|>user\n1+1?<|im_end|>\n<|im_start|>assistant\n<think>\n")
    stored = json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())["chat_template"]
    assert stored == (tmp_path / "out" / "chat_template.jinja").read_text()


def test_a_system_message_takes_the_place_of_luffys(
    write_tiny_model: Writer, tmp_path: Path
) -> None:
    source = write_tiny_model(tmp_path / "source")
    prepare_model(ModelPlan(str(source), tmp_path / "out", chat_template="luffy"))

    prompt = AutoTokenizer.from_pretrained(tmp_path / "out").apply_chat_template(
        [{"role": "system", "content": "be brief"}, {"role": "user", "content": "1+1?"}],
        add_generation_prompt=False,
        tokenize=False,
    )

    assert prompt == ("<|im_start|>system\nbe brief<|im_end|>\n<|im_start|>user\n1+1?<|im_end|>\n")


def test_a_template_needs_its_tokens(write_tiny_model: Writer, tmp_path: Path) -> None:
    source = write_tiny_model(tmp_path / "source", chatml=False)

    with pytest.raises(ValueError, match=r"vocabulary must have <\|im_start\|>, <\|im_end\|>"):
        prepare_model(ModelPlan(str(source), tmp_path / "out", chat_template="luffy"))

    assert not (tmp_path / "out").exists()


def test_pickled_weights_are_refused_unless_converted(
    write_tiny_model: Writer, tmp_path: Path
) -> None:
    source = write_tiny_model(tmp_path / "source")
    weights = load_file(source / "model.safetensors")
    torch.save(weights, source / "pytorch_model.bin")
    (source / "model.safetensors").unlink()

    with pytest.raises(ValueError, match="must be safetensors"):
        prepare_model(ModelPlan(str(source), tmp_path / "out", rope_theta=4e4))

    prepare_model(ModelPlan(str(source), tmp_path / "out", rope_theta=4e4, convert_pickles=True))
    assert torch.allclose(trainer_inv_freq(tmp_path / "out"), by_hand(40_000))
    converted = load_file(tmp_path / "out" / "model.safetensors")
    assert all(torch.equal(converted[name], weights[name]) for name in converted)
    assert not (tmp_path / "out" / "pytorch_model.bin").exists()


def test_code_and_pickles_beside_safetensors_stay_behind(
    write_tiny_model: Writer, tmp_path: Path
) -> None:
    source = write_tiny_model(tmp_path / "source")
    for name in ("modeling.py", "optimizer.pt", "pytorch_model.bin"):
        (source / name).write_text("print()")

    prepare_model(ModelPlan(str(source), tmp_path / "out", rope_theta=4e4))

    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert not names & {"modeling.py", "optimizer.pt", "pytorch_model.bin"}


def test_scaled_rope_keeps_the_context_it_stretches_from() -> None:
    config = {
        "max_position_embeddings": 4096,
        "rope_theta": 500_000.0,
        "rope_scaling": {"type": "yarn", "factor": 2.0},
    }

    change_context(config, rope_theta=None, max_position=8192)

    # Without the third entry transformers would stretch from the new context.
    parameters = {
        "factor": 2.0,
        "rope_theta": 500_000.0,
        "rope_type": "yarn",
        "original_max_position_embeddings": 4096,
    }
    assert config["rope_parameters"] == parameters
    assert config["rope_scaling"] == parameters
    assert config["max_position_embeddings"] == 8192


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"text_config": {}, "max_position_embeddings": 8}, "must be of one text model"),
        ({"n_positions": 8}, "must be of one text model"),
        (
            {"max_position_embeddings": 8, "rope_parameters": {"full": {}, "sliding": {}}},
            "holds full, sliding",
        ),
        ({"max_position_embeddings": 8, "auto_map": {}}, "needs? no code of its own"),
    ],
)
def test_models_that_cannot_be_changed_say_why(config: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        change_context(config, rope_theta=4e4, max_position=None)


def test_a_folder_of_someone_else_is_left_alone(write_tiny_model: Writer, tmp_path: Path) -> None:
    source = write_tiny_model(tmp_path / "source")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")

    with pytest.raises(FileExistsError, match="holds other files"):
        prepare_model(ModelPlan(str(source), tmp_path / "out", rope_theta=4e4))
    with pytest.raises(ValueError, match="another folder than the source"):
        prepare_model(ModelPlan(str(source), source, rope_theta=4e4))


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (ModelPlan("x", Path("y"), rope_theta=0.5), "`--rope-theta` must be above 1"),
        (ModelPlan("x", Path("y"), max_position=0), "`--max-position` must be at least 1"),
        (ModelPlan("x", Path("y"), chat_template="alpaca"), "Unknown chat format 'alpaca'"),
    ],
)
def test_values_out_of_range_are_refused(plan: ModelPlan, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        prepare_model(plan)


def test_a_source_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"must be a model folder with config\.json"):
        prepare_model(ModelPlan(str(tmp_path), tmp_path / "out"))
