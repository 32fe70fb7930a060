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

from mifo_ext.adapters.hold import ParameterHold
from mifo_ext.adapters.hold_settings import StepReport
from mifo_ext.adapters.register import ENGINE_VENDOR
from mifo_ext.core.entropy import token_entropy
from mifo_ext.core.tokens import kept_count
from mifo_ext.settings import SftSettings


@dataclass
class SftInterval:
    """One SFT interval under way.

    Attributes:
        hold: the parameters' hold; also owns SFT's optimizer.
        settings: the recipe's `interleave.sft`.
        reports: one report an optimizer step.
    """

    hold: ParameterHold
    settings: SftSettings
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
    def sft_interval(self, hold: ParameterHold, settings: SftSettings) -> Iterator[SftInterval]:
        """Route optimizer steps to SFT's own optimizer while the context lasts."""
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
        rate = self.optimizer.param_groups[0]["lr"] * self._sft.settings.learning_rate_ratio
        report = self._sft.hold.step(lr=rate)
        self._sft.reports.append(report)
        return report.gradient_norm

    def lr_scheduler_step(self) -> float:
        """Advance RL's schedule; an SFT interval does not."""
        if self._sft is None:
            return float(super().lr_scheduler_step())
        return float(self.optimizer.param_groups[0]["lr"])

    def forward_backward_batch(
        self, data: TensorDict, loss_function: Callable[..., Any], forward_only: bool = False
    ) -> Any:
        """Count an SFT mini-batch over all ranks first: its losses are normalised globally."""
        if self._sft is not None:
            self._count_demonstrations(data, self._sft.settings)
        return super().forward_backward_batch(data, loss_function, forward_only)

    def _count_demonstrations(self, data: TensorDict, settings: SftSettings) -> None:
        lengths = [int(mask.sum()) for mask in data["loss_mask"].unbind()]
        share = settings.fraction if settings.tokens == "high_entropy" else 1.0
        counts = torch.tensor(
            [sum(n > 0 for n in lengths), sum(kept_count(n, share) for n in lengths)],
            device=next(self.module.parameters()).device,
        )
        torch.distributed.all_reduce(counts, group=self.get_data_parallel_group())
        demonstrations, kept = counts.tolist()
        tu.assign_non_tensor(data, sft_demonstrations=demonstrations, sft_tokens=kept)

    def prepare_model_outputs(
        self, output: Any, output_args: Any, micro_batch: TensorDict, logits_processor_func: Any
    ) -> dict[str, Any]:
        """Add the entropy that chooses tokens: same forward pass, no gradient, a chunk at a time.

        verl's own `calculate_entropy` keeps the graph and (without padding removal) a second copy
        of the logits; neither is wanted here.
        """
        entropy = None
        if self._sft is not None and self._sft.settings.tokens == "high_entropy":
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
