"""Everything of verl that the adapters stand on, as the installed verl has it.

`docs/verl-seams.md` shows the same table to readers; a seam that it lacks fails here.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra._internal.callbacks import Callbacks
from hydra.experimental.callback import Callback
from omegaconf import OmegaConf
from verl.trainer.ppo.v1 import trainer_base
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer
from verl.utils import tensordict_utils as tu
from verl.utils.tracking import FileLogger
from verl.workers.config import FSDPEngineConfig
from verl.workers.engine.base import EngineRegistry

DOC = Path(__file__).parents[2] / "docs/verl-seams.md"

TRAINER = "verl.trainer.ppo.v1.trainer_base:PPOTrainer"
BUFFER = "verl.trainer.ppo.v1.replay_buffer:ReplayBuffer"
ENGINE = "verl.workers.engine.fsdp.transformer_impl:FSDPEngineWithLMHead"
WORKERS = "verl.workers.engine_workers"
LOOP = "verl.experimental.agent_loop"
TENSORS = "verl.utils.tensordict_utils"
FSDP1 = "torch.distributed.fsdp._init_utils"
SYNC = "verl.workers.rollout.vllm_rollout.bucketed_weight_transfer"

SEAMS = {
    "verl.trainer.ppo.v1.trainer_base:register_trainer": "name",
    f"{TRAINER}.__init__": "self config",
    f"{TRAINER}._build_replay_buffer": "self",
    f"{TRAINER}._init_dataloader": "self",
    f"{TRAINER}._init_resource_pool_mgr": "self",
    f"{TRAINER}.fit": "self agent_loop_manager",
    f"{SYNC}:BucketedWeightSender.__init__": "self zmq_handle bucket_size_mb use_shm",
    f"{SYNC}:BucketedWeightReceiver.__init__": "self zmq_handle device use_shm",
    f"{TRAINER}.step": "self metrics timing_raw",
    f"{TRAINER}._next_train_batch": "self num_prompts",
    f"{TRAINER}._submit_batch_to_rollout": "self batch",
    f"{TRAINER}._compute_old_log_prob": "self batch metrics",
    f"{TRAINER}._compute_advantage": "self batch metrics",
    f"{TRAINER}._compute_metrics": "self batch metrics timing_raw global_steps epoch",
    f"{TRAINER}._log_rollout_data": "self batch timing_raw rollout_data_dir",
    f"{TRAINER}._val_metrics_update": (
        "self data_sources sample_uids reward_extra_infos_dict sample_turns expected_acc_counts"
    ),
    f"{TRAINER}._save_checkpoint": "self",
    f"{TRAINER}._load_checkpoint": "self",
    "verl.trainer.ppo.v1.trainer_sync:PPOTrainerSync.on_step_end": "self",
    f"{BUFFER}.sample": "self global_steps partition_id batch_size",
    f"{BUFFER}._clear_groups": "self partition_id uids",
    f"{LOOP}.agent_loop:register": "agent_name",
    f"{LOOP}.agent_loop:AgentLoopBase.ct_build_initial_tokens": (
        "self messages tools images videos audios mm_inputs_out"
    ),
    f"{LOOP}.agent_loop:AgentLoopBase._get_mm_processor_kwargs": "self audio_data",
    f"{LOOP}.single_turn_agent_loop:SingleTurnAgentLoop.run": (
        "self sampling_params priority kwargs"
    ),
    "verl.workers.utils.losses:ppo_loss": "config model_output data dp_group",
    "verl.trainer.ppo.core_algos:agg_loss": (
        "loss_mat loss_mask loss_agg_mode dp_size batch_num_tokens global_batch_size "
        "loss_scale_factor"
    ),
    "verl.workers.utils.padding:no_padding_2_padding": "tensor data",
    "verl.utils.debug.metrics:calculate_debug_metrics": "data",
    f"{WORKERS}:ActorRolloutRefWorker.init_model": "self",
    f"{WORKERS}:TrainingWorker.train_mini_batch": "self data",
    f"{WORKERS}:TrainingWorker.set_loss_fn": "self loss_fn",
    f"{ENGINE}.forward_backward_batch": "self data loss_function forward_only",
    f"{ENGINE}.prepare_model_outputs": "self output output_args micro_batch logits_processor_func",
    f"{ENGINE}._gather_and_unpad_packed": "self tensor pad_size",
    f"{ENGINE}.optimizer_step": "self",
    f"{ENGINE}.optimizer_zero_grad": "self",
    f"{ENGINE}.lr_scheduler_step": "self",
    f"{ENGINE}.train_mode": "self kwargs",
    f"{ENGINE}.eval_mode": "self kwargs",
    f"{ENGINE}.get_data_parallel_group": "self",
    "verl.workers.engine.base:EngineRegistry.register": "model_type backend device vendor",
    "verl.workers.engine.base:EngineRegistry.get_engine_cls": "model_type backend",
    "verl.utils.distributed:initialize_global_process_group_ray": "timeout_second backend",
    "verl.utils.checkpoint.checkpoint_manager:find_latest_ckpt_path": "path directory_format",
    "verl.utils.dataset.rl_dataset:RLHFDataset._build_messages": "self example key",
    f"{TENSORS}:make_iterator": "tensordict mini_batch_size epochs seed dataloader_kwargs",
    f"{TENSORS}:get_tensordict": "tensor_dict non_tensor_dict",
    f"{TENSORS}:assign_non_tensor": "tensor_dict kwargs",
    f"{TENSORS}:get_non_tensor_data": "data key default",
    "verl.protocol:BatchData.chunk": "self chunks",
    "verl.single_controller.base.decorator:make_nd_compute_dataproto_dispatch_fn": "mesh_name",
    "verl.plugin.platform.platform_manager:PlatformRegistry.register": "platform",
    "verl.plugin.platform.platform_manager:get_platform": "",
    "verl.utils.model:load_valuehead_model": (
        "local_path torch_dtype model_config trust_remote_code"
    ),
    "verl.utils.fsdp_utils:load_fsdp_model_to_gpu": "model",
    f"{FSDP1}:_check_module_states_for_sync_module_states": "module_states",
}


def found(seam: str) -> Any:
    module, _, path = seam.partition(":")
    thing = importlib.import_module(module)
    for name in path.split("."):
        thing = getattr(thing, name)
    return thing


def test_verl_is_the_release_that_was_read() -> None:
    assert importlib.metadata.version("verl") == "0.9.1"


@pytest.mark.parametrize("seam", SEAMS)
def test_a_seam_takes_what_we_give_it(seam: str) -> None:
    assert " ".join(inspect.signature(found(seam)).parameters) == SEAMS[seam]


@pytest.mark.parametrize("seam", SEAMS)
def test_the_docs_show_every_seam(seam: str) -> None:
    assert f"| `{seam}` |" in DOC.read_text()


def test_the_docs_show_no_seam_that_is_not_tested() -> None:
    rows = [line.split("`")[1] for line in DOC.read_text().splitlines() if line.startswith("| `")]
    symbols = [row for row in rows if row.startswith(("verl.", "torch.")) and ":" in row]

    assert sorted(symbols) == sorted(SEAMS)


def test_the_replay_buffer_keeps_its_settings_under_their_names() -> None:
    names = list(inspect.signature(ReplayBuffer.__init__).parameters)[1:]
    stored = set(ReplayBuffer("sync", OmegaConf.create({}), None, "drop", {}).__dict__)

    assert set(names) <= stored
    assert "partitions" in stored


def test_every_trainer_mode_but_sync_is_asynchronous() -> None:
    source = inspect.getsource(trainer_base)

    assert 'ReplayBuffer if self.trainer_mode == "sync" else ReplayBufferAsync' in source


def test_a_step_comes_before_the_checkpoint_and_the_checkpoint_before_the_weight_sync() -> None:
    source = inspect.getsource(trainer_base.PPOTrainer.fit)

    order = [
        source.index(call) for call in ("self.step(", "_save_checkpoint(", "self.on_step_end(")
    ]
    assert order == sorted(order)
    assert source.index("is_last_step = ") < order[0]


def test_a_critics_micro_batches_are_cut_by_tokens_and_by_one_setting_only() -> None:
    source = inspect.getsource(trainer_base)

    for limit in ("max_token_len_per_gpu", "infer_max_token_len_per_gpu"):
        assert f"critic_cfg.engine.{limit} = critic_cfg.ppo_infer_max_token_len_per_gpu" in source
    assert source.count("critic_cfg.engine.") == 2
    assert FSDPEngineConfig().use_dynamic_bsz


def test_an_engine_clips_gradients_by_its_optimizers_setting() -> None:
    source = inspect.getsource(found(ENGINE).optimizer_step)

    assert "self.optimizer_config.clip_grad" in source
    assert "grad_clip" not in source


def test_an_engine_of_our_vendor_is_found_first(monkeypatch: pytest.MonkeyPatch) -> None:
    import verl.workers.engine  # noqa: F401

    from mifo_ext.adapters.engine import InterleavedEngine

    monkeypatch.setenv("VERL_ENGINE_VENDOR", "mifo")
    for backend in ("fsdp", "fsdp2"):
        assert EngineRegistry.get_engine_cls("language_model", backend) is InterleavedEngine
    monkeypatch.delenv("VERL_ENGINE_VENDOR")
    assert EngineRegistry.get_engine_cls("language_model", "fsdp2") is not InterleavedEngine


def test_the_file_logger_empties_the_file_it_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "metrics.jsonl"
    file.write_text("an earlier run\n")
    monkeypatch.setenv("VERL_FILE_LOGGER_PATH", str(file))

    logger = FileLogger("project", "experiment")
    logger.log({"a": 1.5}, step=3)
    logger.finish()

    assert [json.loads(line) for line in file.read_text().splitlines()] == [
        {"step": 3, "data": {"a": 1.5}}
    ]


class Failing(Callback):  # type: ignore[misc]
    error: type[BaseException]

    def on_run_start(self, **kwargs: Any) -> None:
        raise self.error("no")


def test_hydra_hides_a_callbacks_exception_but_not_system_exit(
    caplog: pytest.LogCaptureFixture,
) -> None:
    callbacks = Callbacks.__new__(Callbacks)
    callbacks.callbacks = [Failing()]

    Failing.error = ValueError
    with pytest.warns(UserWarning, match="Callback Failing.on_run_start raised ValueError: no"):
        callbacks.on_run_start(config=OmegaConf.create())

    Failing.error = SystemExit
    with pytest.raises(SystemExit):
        callbacks.on_run_start(config=OmegaConf.create())


def test_non_tensors_come_back_plain_from_a_batch() -> None:
    batch = tu.get_tensordict(
        tensor_dict={"x": torch.zeros(2)}, non_tensor_dict={"sft_tokens": 7, "settings": {"a": 1}}
    )
    tu.assign_non_tensor(batch, dp_size=2)

    assert (batch["sft_tokens"], batch["dp_size"]) == (7, 2)
    assert tu.get(batch, "settings") == {"a": 1}


def test_an_unusable_tracker_is_an_error_or_a_fresh_start_in_verl(tmp_path: Path) -> None:
    latest = found("verl.utils.checkpoint.checkpoint_manager:find_latest_ckpt_path")
    tracker = tmp_path / "latest_checkpointed_iteration.txt"

    tracker.write_text("")
    with pytest.raises(ValueError, match="invalid literal"):
        latest(str(tmp_path))
    tracker.write_text("7")
    assert latest(str(tmp_path)) is None


def test_verl_hides_plugin_errors_but_not_system_exit() -> None:
    import verl

    source = inspect.getsource(verl)
    assert "except Exception as _e:" in source
    assert logging.getLogger("verl").getEffectiveLevel() > logging.DEBUG
