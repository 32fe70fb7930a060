"""What a rank runs: verl's own critic, asked for values and taught one step."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from tests.support.distributed import introduce_to_verl
from tests.support.tiny_model import questions_and_answers

STRATEGIES = ("fsdp2", "fsdp")
ROWS = 6


def composed(model_folder: str, strategy: str) -> Any:
    """PPO's configuration, for this model."""
    import verl  # noqa: F401  (loads mifo_ext.plugin, as in a run)
    from hydra import compose, initialize_config_module

    with initialize_config_module("verl.trainer.config", version_base=None):
        return compose(
            "ppo_trainer",
            overrides=[
                "+recipe=grpo",
                "scale=cpu_tiny",
                "algorithm.adv_estimator=gae",
                f"critic.model.path={model_folder}",
                "critic.model.use_remove_padding=false",
                "++critic.model.override_config.attn_implementation=sdpa",
                f"critic.strategy={strategy}",
                "critic.use_dynamic_bsz=true",
                # Two or three rows a micro-batch.
                "++critic.ppo_infer_max_token_len_per_gpu=32",
                "critic.loss_agg_mode=token-mean",
                "critic.optim.lr=1e-3",
                "++critic.fsdp.mixed_precision.param_dtype=fp32",
            ],
        ).critic


def critic_on_this_rank(config: Any) -> Any:
    """A critic as verl's trainer builds it."""
    introduce_to_verl()
    from verl.utils.config import omega_conf_to_dataclass
    from verl.workers.config import TrainingWorkerConfig
    from verl.workers.engine_workers import TrainingWorker
    from verl.workers.utils.losses import value_loss

    critic = omega_conf_to_dataclass(config)
    critic.engine.infer_max_token_len_per_gpu = critic.ppo_infer_max_token_len_per_gpu
    critic.engine.max_token_len_per_gpu = critic.ppo_infer_max_token_len_per_gpu
    worker = TrainingWorker(
        TrainingWorkerConfig(
            model_type="value_model",
            model_config=critic.model,
            engine_config=critic.engine,
            optimizer_config=critic.optim,
            checkpoint_config=critic.checkpoint,
        )
    )
    worker.reset()
    worker.set_loss_fn(partial(value_loss, config=critic))
    return worker


def rollouts() -> Any:
    """Six answers as verl's trainer hands them to its critic; every other one is right."""
    from verl.utils import tensordict_utils as tu

    def jagged(rows: list[torch.Tensor]) -> torch.Tensor:
        return torch.nested.as_nested_tensor(rows, layout=torch.jagged)

    rows = [(torch.tensor(q), torch.tensor(a)) for q, a in questions_and_answers(3, ROWS)]
    return tu.get_tensordict(
        tensor_dict={
            "prompts": jagged([prompt for prompt, _ in rows]),
            "responses": jagged([response for _, response in rows]),
            "input_ids": jagged([torch.cat(row) for row in rows]),
            "position_ids": jagged([torch.arange(len(q) + len(a)) for q, a in rows]),
            "loss_mask": jagged(
                [torch.cat([torch.zeros_like(q), torch.ones_like(a)]) for q, a in rows]
            ),
            "response_mask": jagged([torch.ones_like(response) for _, response in rows]),
            "returns": jagged(
                [torch.full((len(a),), float(n % 2)) for n, (_, a) in enumerate(rows)]
            ),
        },
        non_tensor_dict={
            "temperature": 1.0,
            "global_batch_size": ROWS,
            "mini_batch_size": ROWS,
            "dataloader_kwargs": {"shuffle": False},
        },
    )


def values_of(critic: Any, batch: Any) -> torch.Tensor:
    """What the critic expects before every token of a response, jagged."""
    from verl.utils import tensordict_utils as tu
    from verl.workers.utils.padding import response_from_nested

    asked = batch.clone()
    tu.assign_non_tensor(asked, compute_loss=False)
    return response_from_nested(critic.infer_batch(asked)["values"], batch["response_mask"])


def one_value_step(model_folder: str, strategy: str) -> dict[str, Any]:
    """Values, one step on them, values; the weights before and after."""
    from verl.utils import tensordict_utils as tu

    critic = critic_on_this_rank(composed(model_folder, strategy))

    def weights() -> dict[str, torch.Tensor]:
        parameters, _ = critic.engine.get_per_tensor_param()
        return {name: value.detach().clone() for name, value in parameters}

    batch, before = rollouts(), weights()
    batch["values"] = values_of(critic, batch)
    metrics = tu.get(critic.train_mini_batch(batch.clone()), "metrics")
    return {
        "engine": type(critic.engine).__name__,
        "attention": critic.engine.model_config.hf_config._attn_implementation,
        "before": before,
        "after": weights(),
        "returns": batch["returns"].values(),
        "values": batch["values"].values(),
        "values_after": values_of(critic, batch).values(),
        "loss": float(metrics["critic/vf_loss"][0]),
        "gradient_norm": metrics["grad_norm"][0],
        # A number for each.
        "micro_batches": len(metrics["critic/vpred_mean"]),
    }


def in_every_strategy(model_folder: str) -> dict[str, dict[str, Any]]:
    """Everything in one start of the rank, because starting it is what takes time."""
    return {strategy: one_value_step(model_folder, strategy) for strategy in STRATEGIES}
