"""Hold still what RL just moved, while SFT steps: the mask in the actor's FSDP optimizer.

Dimensions:
    N  entries of a span, at most `shards.SPAN`
"""

from __future__ import annotations

import math
import time
from typing import Any

import torch
from torch import Tensor, nn

from mifo_ext.adapters.hold_settings import (
    HoldReport,
    SftOptimizerSettings,
    StepReport,
)
from mifo_ext.adapters.hold_sft import SftMoments, sft_moments
from mifo_ext.adapters.hold_state import HostMemory, check_identity, identity
from mifo_ext.adapters.hold_step import HeldStep
from mifo_ext.adapters.hold_weigh import weigh
from mifo_ext.adapters.host_link import passes_where
from mifo_ext.adapters.shards import Layout
from mifo_ext.core.freezing import Selection, choose_held, held_count
from mifo_ext.core.importance import Chunk
from mifo_ext.core.kth_largest import alone
from mifo_ext.core.looks import FirstLook
from mifo_ext.core.masked_adamw import clip_scale
from mifo_ext.core.passes import Passes
from mifo_ext.settings import HoldSettings


class ParameterHold:
    """Remembers where an RL phase began, holds what it moved, and takes SFT's steps around it.

    One interval is `begin_phase`, RL's steps, `engage`, SFT's `step`s, `release`. All five are
    called on every rank alike, with the parameters on their device; in between they may be
    offloaded. Nothing is kept in `optimizer.state`, which verl moves, casts and saves by its own
    rules. Mask, threshold and held entries do not depend on how the model is sharded.

    Memory, for n trainable entries on this rank (HSDP's replicas each hold their own):
        device, always: nothing.
        device, from `engage` to `release`: the packed mask, n / 8 bytes.
        device, inside a call: under 64 MiB, whatever n is. By kernels, which read and write host
            memory where it lies: `engage`, a sample of keys, then entries set aside (24 MiB) and a
            sum for each block. By torch's operations and for orders other than `moved_most`:
            `step`, SFT's moments of three spans (24), copies to restore from (12), AdamW's own (up
            to 12), the clipped gradient (4), mask bits (2); `engage`, importance and history of
            three spans (27) beside the sample, then keys and their hashes (26).
        host, always: snapshot, 4 n bytes; history, 4 n (none if decay is 0); last mask, n / 8.
        host, with `moments=own`, from the first SFT step: exp_avg and exp_avg_sq, 8 n bytes.
    Without an accelerator `mifo_ext.loops` do the work in half a MiB a thread and, in `engage`, the
    sample and then entries set aside (16 MiB); orders other than by importance take 8 MiB and their
    keys, as above, for each thread.
    Host memory is page-locked where there is an accelerator, in pieces of one span, because
    torch's page-locked allocator rounds every piece up to a power of two.

    Args:
        module: a module under FSDP2 (also HSDP), FSDP1 or neither, with float32 masters. Its
            parameters that are not trainable are ignored.
        settings: which entries are held.
        sft: SFT's optimizer.
        rl_optimizer: RL's AdamW, needed for `moments=shared` only, and touched only then.

    Raises:
        ValueError: if the module cannot be held (LoRA, masters that are not float32, tensor
            parallelism, FSDP1 with use_orig_params), naming why and how to mend it.
    """

    def __init__(
        self,
        module: nn.Module,
        settings: HoldSettings,
        sft: SftOptimizerSettings,
        *,
        rl_optimizer: torch.optim.Optimizer | None = None,
    ) -> None:
        self.settings = settings
        self.sft = sft
        self.layout = Layout(module)
        self._moments: SftMoments = sft_moments(self.layout, sft, rl_optimizer)
        self._host = HostMemory(self.layout)
        # In device memory, all spans' masks.
        self._packed: Tensor | None = None
        self._engaged = False

    @property
    def engaged(self) -> bool:
        """Whether an SFT phase is under way."""
        return self._engaged

    @property
    def in_phase(self) -> bool:
        """Whether the start of an RL phase is remembered."""
        return self._host.snapshot is not None

    @property
    def _carries_history(self) -> bool:
        return self.settings.decay > 0 and self.settings.entries != "none"

    @torch.no_grad()
    def begin_phase(self) -> None:
        """Remember the weights: an RL phase begins here. A phase under way begins anew.

        Raises:
            RuntimeError: if the hold is engaged.
        """
        if self._engaged:
            raise RuntimeError("The hold must be released before a phase begins, but is engaged.")
        self._host.remember(self.layout.values(), passes_where(self.layout.device))
        self.layout.wait()

    @torch.no_grad()
    def engage(self) -> HoldReport:
        """End the RL phase: weigh every entry, choose those to hold, carry on the history.

        Returns:
            What was found, over the whole model.

        Raises:
            RuntimeError: if no phase is under way.
            ValueError: on every rank, if weights are not finite, naming the parameters.
        """
        if self._host.snapshot is None:
            raise RuntimeError("A phase must be under way to engage: call begin_phase() first.")
        started = time.perf_counter()
        values, passes = self.layout.values(), passes_where(self.layout.device)
        # Importance takes the snapshot's place span by span, so it costs no memory of its own.
        weighed = weigh(self.layout, self._host, self.settings, passes)
        chunks = self._chunks(values, self._host.snapshot)
        held, threshold, jaccard = 0, None, None
        if self.settings.entries != "none":
            selection, self._packed = self._choose(chunks, weighed.look, passes)
            held, threshold = selection.held, selection.threshold
            jaccard = self._host.take_mask(self._packed, passes)
        moved, update_norm = weighed.moved()
        self._host.end_phase(carry=self._carries_history)
        self._engaged = True
        self.layout.wait()
        return HoldReport(
            held=held,
            held_fraction=held / self.layout.entries,
            threshold=threshold,
            jaccard=jaccard,
            moved=moved,
            entries=self.layout.entries,
            update_norm=update_norm,
            seconds=time.perf_counter() - started,
        )

    @torch.no_grad()
    def step(self, *, lr: float) -> StepReport:
        """Take one SFT step with the gradients in `.grad`, in place of the optimizer's.

        RL's optimizer is not touched, unless its moments are shared. The gradients are neither
        changed nor cleared.

        Args:
            lr: SFT's learning rate.

        Returns:
            What was done. If a gradient was not finite on any rank, nothing was.

        Raises:
            RuntimeError: if entries are to be held, but the hold is not engaged.
        """
        if not self._engaged and self.settings.entries != "none":
            raise RuntimeError("The hold must be engaged for an SFT step: call engage() first.")
        started = time.perf_counter()
        passes = passes_where(self.layout.device)
        step = HeldStep(
            self.layout, passes, self._packed, self._moments, self.sft, self.settings.mode
        )
        live, held = step.squared_norms()
        applied = live + held < float("inf")  # False for NaN, too.
        scale = clip_scale(live**0.5, self.sft.clip_norm) if applied else 1.0
        update_norm = math.sqrt(step.update(lr=lr, scale=scale)) if applied else 0.0
        self.layout.wait()
        return StepReport(
            applied=applied,
            gradient_norm=live**0.5,
            held_gradient_share=held / (live + held) if applied and live + held > 0 else 0.0,
            clip_scale=scale,
            update_norm=update_norm,
            seconds=time.perf_counter() - started,
        )

    def release(self) -> None:
        """End the SFT phase: every entry is free again, and the mask's device memory, too."""
        self._packed, self._engaged = None, False

    def device_tensors(self) -> list[Tensor]:
        """What the hold keeps on the device between calls: the packed mask while engaged."""
        return [] if self._packed is None else [self._packed]

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to go on, for this rank: tensors and plain values only.

        The tensors are the hold's own, not copies: save them before it is used again. Of the
        snapshot only its difference from the weights is kept, and of the history only the held
        entries; so the weights must be saved, too.

        Raises:
            RuntimeError: if the hold is engaged.
        """
        if self._engaged:
            raise RuntimeError("The hold must be released before it is saved, but is engaged.")
        return {
            "identity": identity(self.layout, self.settings, self.sft),
            "host": self._host.state(self.layout.values()),
            "sft": self._moments.state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state_dict`'s answer, which this rank must have given, with these weights.

        Raises:
            ValueError: if it comes from another number of ranks, another rank, other settings or
                another model; all differences are named. Also if the weights are others.
        """
        saved = state.get("identity", {})
        check_identity(identity(self.layout, self.settings, self.sft), saved)
        self.release()
        self._host.load(state["host"], self.layout.values())
        self._moments.load(state["sft"])

    def _choose(
        self, chunks: list[Chunk], first_look: FirstLook, passes: Passes
    ) -> tuple[Selection, Tensor]:
        return choose_held(
            chunks,
            names=self.layout.names,
            total=self.layout.entries,
            count=held_count(self.settings.fraction, self.layout.entries),
            entries=self.settings.entries,
            seed=self.settings.seed,
            sum_over_ranks=alone if self.layout.ranks == 1 else self.layout.sum_over_ranks,
            passes=passes,
            first_look=first_look,
        )

    def _chunks(self, values: list[Tensor], importance: list[Tensor]) -> list[Chunk]:
        spans = zip(self.layout.spans, importance, values, strict=True)
        return [Chunk(span.name, span.start, kept_N, value_N) for span, kept_N, value_N in spans]
