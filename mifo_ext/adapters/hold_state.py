"""What the hold keeps in host memory, and how it is saved with a checkpoint.

Dimensions:
    N  entries of a span
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from mifo_ext.adapters.hold_settings import SftOptimizerSettings
from mifo_ext.adapters.shards import Layout
from mifo_ext.core.differences import difference, undo_difference
from mifo_ext.core.packed_bits import unpack_bits
from mifo_ext.core.passes import Passes
from mifo_ext.settings import HoldSettings

_AT_ONCE = 1 << 22
"""Bytes of a mask that are compared at once."""
_NO_BITS = torch.empty(0, dtype=torch.uint8)


class HostMemory:
    """Snapshot, history and the last mask of every span, outside the device and the optimizer.

    Attributes:
        snapshot: weights when the RL phase began; None when none is under way.
        history: importance at the end of the last phase, of which entries of the last mask are
            carried over (`carried`); None at first.
        mask: the last mask of all spans, packed; None at first.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._spare: list[Tensor] | None = None
        self.snapshot: list[Tensor] | None = None
        self.history: list[Tensor] | None = None
        self.mask: Tensor | None = None

    def remember(self, values: list[Tensor], passes: Passes) -> None:
        """Copy the weights into the snapshot."""
        if self.snapshot is None:
            self.snapshot = self._layout.host_buffers() if self._spare is None else self._spare
            self._spare = None
        if passes.copy_of_ is not None and values:
            passes.copy_of_(self.snapshot, values, self._layout.spans_alone)
            return
        for kept_N, value_N in zip(self.snapshot, values, strict=True):
            kept_N.copy_(value_N, non_blocking=True)

    def end_phase(self, *, carry: bool) -> None:
        """Make what now lies in the snapshot's place the history, or drop it; free the place."""
        if carry:
            self.snapshot, self.history = self.history, self.snapshot
        self._spare, self.snapshot = self.snapshot, None

    def carried(self) -> tuple[list[Tensor], list[Tensor]] | None:
        """Each span's importance at the end of the last phase, and which of it is carried over.

        The latter is the last mask, packed. None when there is nothing to carry over.
        """
        if self.history is None or self.mask is None:
            return None
        return self.history, self._layout.masks(self.mask)

    def take_mask(self, packed_P: Tensor, passes: Passes) -> float | None:
        """Keep a new mask in the place of the last one, which nothing needs any more.

        Returns:
            Intersection over union of both, over all ranks; None when there was none, or when both
            are empty.
        """
        last, jaccard = self.mask, None
        if last is not None:
            pairs = zip(torch.split(packed_P, _AT_ONCE), torch.split(last, _AT_ONCE), strict=True)
            counts = passes.each(
                lambda pair: passes.overlap(pair[0], pair[1].to(pair[0].device, non_blocking=True)),
                pairs,
            )
            both, either = self._layout.sum_pairs([pair.double() for pair in counts])
            jaccard = both / either if either else None
        self.mask = self._layout.host_mask() if last is None else last
        self.mask.copy_(packed_P, non_blocking=True)
        return jaccard

    def state(self, values: list[Tensor]) -> dict[str, Any]:
        """What must be kept: no more of the snapshot than its difference from the weights.

        Nothing is copied but the history's held entries, the only ones that are carried over.

        Args:
            values: the weights now, which verl's part of the checkpoint has.
        """
        snapshot, history = None, None
        masks = None if self.mask is None else self._layout.masks(self.mask)
        if self.snapshot is not None:
            spans = zip(self.snapshot, values, strict=True)
            snapshot = [difference(kept_N, value_N.cpu()) for kept_N, value_N in spans]
        if self.history is not None and masks is not None:
            history = [
                values_N[unpack_bits(packed, values_N.numel())]
                for values_N, packed in zip(self.history, masks, strict=True)
            ]
        checksum = [_sum_of_bits(value_N) for value_N in values]
        return {"snapshot": snapshot, "weights": checksum, "history": history, "mask": masks}

    def load(self, state: dict[str, Any], values: list[Tensor]) -> None:
        """Take up what `state` gave.

        Args:
            state: its answer.
            values: the weights now, taken up from the same checkpoint.

        Raises:
            ValueError: if the weights are not those that the state was given.
        """
        snapshot, history, mask = state["snapshot"], state["history"], state["mask"]
        if state["weights"] != [_sum_of_bits(value_N) for value_N in values]:
            raise ValueError(
                "The hold must be taken up with the weights it was saved with, but these are "
                "others. Resume from a checkpoint as it was written, with the model in "
                "actor_rollout_ref.actor.checkpoint.load_contents; to go on with other weights, "
                "start another run from them (actor_rollout_ref.model.path)."
            )
        self._spare = self.snapshot = None
        if snapshot is not None:
            self.snapshot = self._layout.host_buffers()
            for kept_N, parts, value_N in zip(self.snapshot, snapshot, values, strict=True):
                kept_N.copy_(undo_difference(parts, value_N.cpu()))
        self.mask = None
        if mask is not None:
            self.mask = self._layout.host_mask().copy_(torch.cat([*mask, _NO_BITS]))
        self.history = None
        if history is not None and mask is not None:
            self.history = self._layout.host_buffers(zero=True)
            for whole_N, held, packed in zip(self.history, history, mask, strict=True):
                whole_N[unpack_bits(packed, whole_N.numel())] = held


def _sum_of_bits(value_N: Tensor) -> int:
    return int(value_N.view(torch.int32).sum(dtype=torch.int64))


def identity(layout: Layout, settings: HoldSettings, sft: SftOptimizerSettings) -> dict[str, Any]:
    """What a saved state and the hold that takes it up must have in common."""
    return {
        "number of ranks": layout.ranks,
        "rank": layout.rank,
        **asdict(settings),
        "moments": sft.moments,
        "trainable entries": layout.entries,
        "parameters and their sharding": [
            f"{span.name}[{span.start}:{span.start + span.length}]" for span in layout.spans
        ],
    }


def check_identity(ours: dict[str, Any], saved: dict[str, Any]) -> None:
    """Refuse a state of another run.

    Raises:
        ValueError: naming everything that differs.
    """
    found = []
    for key, mine in ours.items():
        theirs = saved.get(key)
        if mine != theirs:
            plain = not isinstance(mine, list)
            found.append(f"{key} ({theirs} then, {mine} now)" if plain else key)
    if found:
        raise ValueError(
            f"The saved hold must be of the same run, but differs in {', '.join(found)}. "
            "Resume with the ranks, model and recipe it was saved with."
        )
