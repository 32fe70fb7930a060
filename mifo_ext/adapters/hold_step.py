"""An SFT step around held entries: norms of the gradient, then AdamW on what is live."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from mifo_ext.adapters.hold_settings import SftOptimizerSettings
from mifo_ext.adapters.hold_sft import SftMoments
from mifo_ext.adapters.host_link import HostLink
from mifo_ext.adapters.shards import SPAN, Layout, Part, WithGradient
from mifo_ext.adapters.wholes import flat
from mifo_ext.core.passes import Passes


@dataclass(frozen=True)
class HeldStep:
    """One step; its gradients and weights lie where they are for as long as it lasts.

    Attributes:
        layout: where the entries lie.
        passes: how they are gone through.
        packed: mask of all spans, packed; None when all are live.
        moments: SFT's moments.
        sft: SFT's optimizer.
        mode: a word of `mifo_ext.core.masked_adamw.MODES`.
    """

    layout: Layout
    passes: Passes
    packed: Tensor | None
    moments: SftMoments
    sft: SftOptimizerSettings
    mode: str

    def squared_norms(self) -> tuple[float, float]:
        """Of the gradient over live and over held entries of the whole model."""
        together = self.passes.squared_norms_of
        if together is not None:
            gradients = _in_float32(self._having.gradients)
            pairs = [together(gradients, self.packed, self._having.pieces)] if gradients else []
            return self.layout.sum_pairs(pairs)

        def norms(entry: tuple[Part, Tensor]) -> Tensor:
            part, gradient_N = entry
            return self.passes.squared_norms(gradient_N.float(), _of_mask(self._masks, part))

        return self.layout.sum_pairs(self.passes.each(norms, self._parts))

    def update(self, *, lr: float, scale: float) -> float:
        """Change weights and moments; the squared norm of the weights' change, over all ranks.

        Args:
            lr: learning rate.
            scale: factor on the gradient.
        """
        options = {
            "lr": lr,
            "settings": self.sft.adamw,
            "gradient_scale": scale,
            "mode": self.mode,
        }
        self.moments.begin([p for p in self.layout.parameters if p.grad is not None])
        at_once = self.passes.masked_adamw_of_ is not None
        changes = self._at_once(options) if at_once else self._by_parts(options)
        pairs = [torch.stack([change, torch.zeros_like(change)]) for change in changes]
        return self.layout.sum_pairs(pairs)[0]

    def _at_once(self, options: dict[str, object]) -> list[Tensor]:
        """Of all entries together."""
        assert self.passes.masked_adamw_of_ is not None
        having = self._having
        if not having.parameters:
            return []
        moments, moments_at = self.moments.together(having)
        change = self.passes.masked_adamw_of_(
            [flat(parameter) for parameter in having.parameters],
            _in_float32(having.gradients),
            moments,
            self.packed,
            having.pieces,
            moments_at=moments_at,
            steps=self.moments.steps(having.parameters),
            **options,
        )
        return [change]

    def _by_parts(self, options: dict[str, object]) -> list[Tensor]:
        """Of one part after the other, whose moments come and go."""
        values = self.layout.values()
        link = HostLink(self.layout.device, SPAN)

        def update(entry: tuple[Part, Tensor]) -> Tensor:
            part, gradient_N = entry
            home = self.moments.of(part)
            brought = type(home)(*link.bring(*home))
            change = self.passes.masked_adamw_(
                part.of(values),
                gradient_N.float(),
                brought,
                held=_of_mask(self._masks, part),
                step=self.moments.step(part.span),
                **options,
            )
            link.put_back(*zip(home, brought, strict=True))
            return change

        changes = self.passes.each(update, self._parts)
        self.layout.wait()
        return changes

    @cached_property
    def _having(self) -> WithGradient:
        return self.layout.with_gradient()

    @cached_property
    def _parts(self) -> list[tuple[Part, Tensor]]:
        """The parts that have a gradient, with it."""
        gradients = self.layout.gradients()
        return [
            (part, gradient[part.inside])
            for part in self.layout.parts(self.passes.piece)
            if (gradient := gradients[part.span]) is not None
        ]

    @cached_property
    def _masks(self) -> list[Tensor] | None:
        return None if self.packed is None else self.layout.masks(self.packed)


def _of_mask(masks: list[Tensor] | None, part: Part) -> Tensor | None:
    return None if masks is None else part.of_mask(masks)


def _in_float32(gradients: list[Tensor]) -> list[Tensor]:
    """As FSDP keeps them beside float32 masters, so that this copies nothing."""
    return [gradient.float() for gradient in gradients]
