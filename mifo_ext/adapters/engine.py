"""verl's FSDP engine with a second way to step: the SFT interval's, around held parameters.

Outside an SFT interval every method is verl's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from tensordict import TensorDict
from verl.utils import tensordict_utils as tu
from verl.workers.engine.base import EngineRegistry
from verl.workers.engine.fsdp.transformer_impl import FSDPEngineWithLMHead

from mifo_ext.adapters import mixed_loss
from mifo_ext.adapters.hold import ParameterHold
from mifo_ext.adapters.hold_settings import StepReport
from mifo_ext.adapters.register import ENGINE_VENDOR
from mifo_ext.core.entropy import token_entropy
from mifo_ext.core.tokens import kept_count
from mifo_ext.settings import SftBase


@dataclass
class SftInterval:
    """SFT under way.

    Attributes:
        hold: the parameters' hold, which also owns SFT's optimizer; None where the actor's own
            optimizer takes the steps.
        settings: the recipe's `interleave.sft`.
        reports: one report an optimizer step that the hold took.
    """

    hold: ParameterHold | None
    settings: SftBase
    reports: list[StepReport] = field(default_factory=list)


@EngineRegistry.register(
    model_type="language_model",
    backend=["fsdp", "fsdp2"],
    device=["cuda", "npu", "cpu"],
    vendor=ENGINE_VENDOR,
)
class InterleavedEngine(FSDPEngineWithLMHead):  # type: ignore[misc]
    """`FSDPEngineWithLMHead`, plus `sft_interval()`."""

    _sft: SftInterval | None = None

    @contextmanager
    def sft_interval(self, hold: ParameterHold | None, settings: SftBase) -> Iterator[SftInterval]:
        """Train on demonstrations while the context lasts; with a hold, by its optimizer."""
        self._sft = SftInterval(hold=hold, settings=settings)
        try:
            yield self._sft
        finally:
            self._sft = None

    def optimizer_step(self) -> float:
        """Step; in an SFT interval with SFT's moments, rate and clip norm, held entries left alone.

        Returns:
            Norm of the gradient before clipping (over live entries in an SFT interval).
        """
        if self._sft is None:
            return float(super().optimizer_step())
        ratio = self._sft.settings.learning_rate_ratio
        if self._sft.hold is None:
            with _scaled_rates(self.optimizer, ratio):
                return float(super().optimizer_step())
        report = self._sft.hold.step(lr=self.optimizer.param_groups[0]["lr"] * ratio)
        self._sft.reports.append(report)
        return report.gradient_norm

    def lr_scheduler_step(self) -> float:
        """Advance RL's schedule; an SFT interval between two RL steps does not."""
        if self._sft is None or self._sft.hold is None:
            return float(super().lr_scheduler_step())
        return float(self.optimizer.param_groups[0]["lr"])

    def forward_backward_batch(
        self, data: TensorDict, loss_function: Callable[..., Any], forward_only: bool = False
    ) -> Any:
        """Count a mini-batch over all ranks first: losses of demonstrations are global means."""
        if self._sft is not None:
            self._count_demonstrations(data, self._sft.settings)
        elif not forward_only and mixed_loss.IS_DEMONSTRATION in data.keys():  # noqa: SIM118
            rollouts, likelihood = self._summed(mixed_loss.global_counts(data))
            counts = {mixed_loss.ROLLOUT_TOKENS: rollouts, mixed_loss.LIKELIHOOD_TOKENS: likelihood}
            tu.assign_non_tensor(data, **counts)
        return super().forward_backward_batch(data, loss_function, forward_only)

    def _count_demonstrations(self, data: TensorDict, settings: SftBase) -> None:
        lengths = [int(mask.sum()) for mask in data["loss_mask"].unbind()]
        share = settings.fraction if settings.tokens == "high_entropy" else 1.0
        demonstrations, kept = self._summed(
            [sum(n > 0 for n in lengths), sum(kept_count(n, share) for n in lengths)]
        )
        tu.assign_non_tensor(data, sft_demonstrations=demonstrations, sft_tokens=kept)

    def _summed(self, counts: list[int]) -> list[int]:
        """Add up over the ranks that share a batch."""
        total = torch.tensor(counts, device=next(self.module.parameters()).device)
        torch.distributed.all_reduce(total, group=self.get_data_parallel_group())
        return [int(count) for count in total]

    def prepare_model_outputs(
        self, output: Any, output_args: Any, micro_batch: TensorDict, logits_processor_func: Any
    ) -> dict[str, Any]:
        """Add the entropy that chooses tokens: same forward pass, no gradient, a chunk at a time.

        verl's own `calculate_entropy` keeps the graph and (without padding removal) a second copy
        of the logits; neither is wanted here.
        """
        entropy = None
        chosen = self._sft is not None and self._sft.settings.tokens == "high_entropy"
        # Where the loss takes a gradient through verl's entropy, that chooses tokens as well.
        verls = tu.get_non_tensor_data(micro_batch, key="calculate_entropy", default=False)
        if chosen and not verls:
            entropy = self._entropy(output, output_args, micro_batch)
        outputs: dict[str, Any] = super().prepare_model_outputs(
            output, output_args, micro_batch, logits_processor_func
        )
        if entropy is not None:
            outputs["entropy"] = entropy
        return outputs

    def _entropy(self, output: Any, output_args: Any, micro_batch: TensorDict) -> torch.Tensor:
        offsets = micro_batch["input_ids"].offsets()
        if tu.get_non_tensor_data(data=micro_batch, key="use_remove_padding", default=True):
            entropy = token_entropy(output.logits.squeeze(0).detach())
            entropy = self._gather_and_unpad_packed(entropy, output_args["pad_size"])
        else:
            lengths = offsets.diff().tolist()
            rows = zip(output.logits.detach(), lengths, strict=True)
            entropy = torch.cat([token_entropy(row[:length]) for row, length in rows])
        return torch.nested.nested_tensor_from_jagged(entropy, offsets)


@contextmanager
def _scaled_rates(optimizer: torch.optim.Optimizer, ratio: float) -> Iterator[None]:
    """Multiply the learning rates while the context lasts; the schedule sees its own again."""
    rates = [group["lr"] for group in optimizer.param_groups]
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate * ratio
    try:
        yield
    finally:
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
