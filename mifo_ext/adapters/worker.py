"""verl's actor worker, able to run an SFT interval between two RL steps."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tensordict import TensorDict
from verl.single_controller.base.decorator import (
    Dispatch,
    make_nd_compute_dataproto_dispatch_fn,
    register,
)
from verl.utils import tensordict_utils as tu
from verl.workers.engine_workers import ActorRolloutRefWorker

from mifo_ext.adapters import checkpoints
from mifo_ext.adapters.configuration import settings_of
from mifo_ext.adapters.hold import ParameterHold
from mifo_ext.adapters.hold_settings import SftOptimizerSettings, StepReport
from mifo_ext.adapters.losses import demonstration_loss
from mifo_ext.adapters.mixed_loss import mixed_loss
from mifo_ext.adapters.worker_metrics import hold_metrics, interval_metrics, phase_metrics
from mifo_ext.core.adamw import AdamWSettings
from mifo_ext.settings import IntervalSettings, PhasesSettings, Settings, SftSettings
from mifo_ext.settings_mixed import MixedSettings


def hold_file(folder: str, rank: int, world_size: int) -> Path:
    """Where one rank keeps its part of the hold in a checkpoint."""
    return Path(folder) / f"hold_world_size_{world_size}_rank_{rank}.pt"


class InterleavedWorker(ActorRolloutRefWorker):  # type: ignore[misc]
    """`ActorRolloutRefWorker` with the parameter hold and SFT's own optimizer beside the actor."""

    settings: Settings
    hold: ParameterHold
    loss_fn: Any

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)
    def init_model(self) -> None:
        """Build verl's model and optimizer, then the hold on them.

        Raises:
            RuntimeError: if verl built another engine than ours: half of the recipe is missing.
        """
        super().init_model()
        engine = self.actor.engine
        if type(engine).__name__ != "InterleavedEngine":
            raise RuntimeError(
                f"The actor's engine must be InterleavedEngine, but is {type(engine).__name__}: "
                "`VERL_ENGINE_VENDOR` or `VERL_USE_EXTERNAL_MODULES` did not reach this worker. "
                "Keep the recipe's `ray_kwargs.ray_init.runtime_env`."
            )
        self.settings = settings_of(self.config)
        if isinstance(self.settings, IntervalSettings):
            self._build_hold(self.settings)
        if isinstance(self.settings, MixedSettings):
            # verl's own loss and the actor's configuration it is bound to, and ours around it.
            actor = self.loss_fn.keywords["config"]
            self.loss_fn = partial(mixed_loss, config=actor, settings=self.settings)
            self.actor.set_loss_fn(self.loss_fn)

    def _build_hold(self, settings: IntervalSettings) -> None:
        engine = self.actor.engine
        self.hold = ParameterHold(
            engine.module,
            settings.hold,
            sft_optimizer(settings.sft, engine.optimizer, engine.optimizer_config.clip_grad),
            rl_optimizer=engine.optimizer,
        )
        self.begin_phase()

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)
    def begin_phase(self) -> None:
        """Remember the parameters at the start of an RL phase."""
        with self.actor.engine.eval_mode():
            self.hold.begin_phase()

    @register(dispatch_mode=make_nd_compute_dataproto_dispatch_fn(mesh_name="actor"))
    def sft_interval(self, data: TensorDict) -> TensorDict:
        """Hold what RL moved, learn the demonstrations, release, and begin the next RL phase.

        Args:
            data: this rank's demonstrations, see `batches.sft_batch`.

        Returns:
            No tensors; `metrics` as a plain dict.
        """
        assert isinstance(self.settings, IntervalSettings)
        engine = self.actor.engine
        with engine.train_mode():
            started = time.perf_counter()
            held = self.hold.engage()
            engaged = time.perf_counter()
            reports, output = self._learn(data, self.hold)
            stepped = time.perf_counter()
            self.hold.release()
            engine.optimizer_zero_grad()
            self.hold.begin_phase()
            ended = time.perf_counter()
        seconds = {"hold": engaged - started, "sft": stepped - engaged, "release": ended - stepped}
        metrics = {
            "finite": [report.applied for report in reports],
            **hold_metrics(held),
            **interval_metrics(reports, output),
            **{f"interleave/seconds/{name}": value for name, value in seconds.items()},
        }
        return tu.get_tensordict(tensor_dict={}, non_tensor_dict={"metrics": metrics})

    @register(dispatch_mode=make_nd_compute_dataproto_dispatch_fn(mesh_name="actor"))
    def sft_step(self, data: TensorDict) -> TensorDict:
        """Learn demonstrations with the actor's own optimizer, as a phase of SFT alone does.

        Args:
            data: this rank's demonstrations, see `batches.sft_batch`.

        Returns:
            No tensors; `metrics` as a plain dict.
        """
        assert isinstance(self.settings, PhasesSettings)
        started = time.perf_counter()
        with self.actor.engine.train_mode():
            _, output = self._learn(data, None)
        seconds = time.perf_counter() - started
        metrics = {**phase_metrics(output), "interleave/seconds/sft": seconds}
        return tu.get_tensordict(tensor_dict={}, non_tensor_dict={"metrics": metrics})

    def _learn(
        self, data: TensorDict, hold: ParameterHold | None
    ) -> tuple[list[StepReport], dict[str, Any]]:
        """Verl's own loop over mini-batches with the demonstrations' loss, and RL's back after."""
        assert isinstance(self.settings, IntervalSettings | PhasesSettings)
        sft, engine, rl_loss = self.settings.sft, self.actor.engine, self.actor.loss_fn
        tu.assign_non_tensor(data, disable_auto_offload=True)
        if not engine.engine_config.use_dynamic_bsz:
            rows = tu.get(data, "mini_batch_size") // engine.get_data_parallel_size()
            limit = engine.engine_config.micro_batch_size_per_gpu
            tu.assign_non_tensor(data, micro_batch_size_per_gpu=micro_batch_size(rows, limit))
        try:
            self.actor.set_loss_fn(partial(demonstration_loss, settings=sft))
            with engine.sft_interval(hold, sft) as interval:
                output = self.actor.train_mini_batch(data)
        finally:
            self.actor.set_loss_fn(rl_loss)
        return interval.reports, tu.get(output, "metrics")

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)
    def forget_moments(self) -> None:
        """Begin the actor's optimizer anew, as between two runs; its schedule goes on."""
        self.actor.engine.optimizer.state.clear()

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)
    def save_hold(self, folder: str) -> None:
        """Write this rank's snapshot, history and SFT moments."""
        file = hold_file(folder, torch.distributed.get_rank(), torch.distributed.get_world_size())
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.save(self.hold.state_dict(), file)

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)
    def load_hold(self, folder: str) -> None:
        """Take up what `save_hold` wrote.

        Raises:
            FileNotFoundError: if this rank's file is missing.
        """
        file = hold_file(folder, torch.distributed.get_rank(), torch.distributed.get_world_size())
        if not file.exists():
            raise FileNotFoundError(
                f"`{file}` is missing: the checkpoint was written by another number of ranks or by "
                "a recipe without a hold. Resume with the same ones, or start afresh with "
                "trainer.resume_mode=disable."
            )
        self.hold.load_state_dict(torch.load(file, weights_only=True, mmap=True))

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)
    def publish(self, staged: str, final: str) -> None:
        """Move a whole checkpoint to its place, on whichever node its files lie."""
        checkpoints.publish_folder(Path(staged), Path(final))

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)
    def tidy(self, root: str, keep: int | None) -> None:
        """Remove interrupted and old checkpoints, on whichever node they lie."""
        checkpoints.tidy(Path(root), keep=keep)


def sft_optimizer(
    sft: SftSettings, rl_optimizer: torch.optim.Optimizer, rl_clip_norm: float | None
) -> SftOptimizerSettings:
    """SFT's optimizer: what the recipe leaves open is RL's."""
    rl = rl_optimizer.param_groups[0]
    return SftOptimizerSettings(
        adamw=AdamWSettings(
            betas=rl["betas"] if sft.betas is None else sft.betas,
            eps=rl["eps"] if sft.eps is None else sft.eps,
            weight_decay=rl["weight_decay"] if sft.weight_decay is None else sft.weight_decay,
        ),
        clip_norm=rl_clip_norm if sft.clip_norm is None else sft.clip_norm,
        moments=sft.moments,
    )


def micro_batch_size(rows: int, limit: int) -> int:
    """The largest micro-batch that divides `rows`, as verl asks, and is at most RL's."""
    return max(size for size in range(1, min(rows, limit) + 1) if rows % size == 0)
