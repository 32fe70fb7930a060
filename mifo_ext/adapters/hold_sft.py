"""Where SFT's AdamW moments are kept: its own in host memory, or RL's in its optimizer."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn

from mifo_ext.adapters.hold_settings import SftOptimizerSettings
from mifo_ext.adapters.shards import Layout, Part, WithGradient
from mifo_ext.adapters.wholes import flat
from mifo_ext.core.adamw import Moments
from mifo_ext.core.pieces import Pieces, each_alone


class SftMoments(Protocol):
    """AdamW's moments of every span, and how many updates they contain."""

    def begin(self, parameters: list[nn.Parameter]) -> None:
        """Prepare an update of these parameters, and count it."""

    def step(self, i: int) -> int:
        """The number of the update under way for span i, from 1."""

    def of(self, part: Part) -> Moments:
        """A part's moments where they lie, to be updated in place."""

    def together(self, having: WithGradient) -> tuple[list[Moments], Pieces]:
        """Moments where they lie, flat, to be updated in place, and where in them the spans do."""

    def steps(self, parameters: list[nn.Parameter]) -> list[int]:
        """The number of the update under way for each parameter, from 1."""

    def state(self) -> dict[str, Any]:
        """What must be saved: tensors and plain values."""

    def load(self, state: dict[str, Any]) -> None:
        """Take up what `state` saved."""


def sft_moments(
    layout: Layout, sft: SftOptimizerSettings, rl_optimizer: torch.optim.Optimizer | None
) -> SftMoments:
    """The moments that the settings ask for.

    Raises:
        ValueError: if RL's moments are to be shared and its optimizer is missing.
    """
    if sft.moments == "own":
        return OwnMoments(layout)
    if rl_optimizer is None:
        raise ValueError("`rl_optimizer` must be given for moments=shared, but is None.")
    return SharedMoments(layout, rl_optimizer)


class OwnMoments:
    """SFT's own moments, float32 in host memory."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._exp_avg: list[Tensor] | None = None
        self._exp_avg_sq: list[Tensor] | None = None
        # By parameter, as torch counts, because one without a gradient takes no step.
        self._steps: dict[str, int] = {}

    def begin(self, parameters: list[nn.Parameter]) -> None:
        """Make the moments at the first update, and count this one."""
        if self._exp_avg is None or self._exp_avg_sq is None:
            self._exp_avg = self._layout.host_buffers(zero=True)
            self._exp_avg_sq = self._layout.host_buffers(zero=True)
        updated = set(parameters)
        for name in {span.name for span in self._layout.spans if span.parameter in updated}:
            self._steps[name] = self._steps.get(name, 0) + 1

    def step(self, i: int) -> int:
        """The number of the update under way for span i, from 1."""
        return self._steps[self._layout.spans[i].name]

    def of(self, part: Part) -> Moments:
        """A part's moments, in host memory."""
        assert self._exp_avg is not None
        assert self._exp_avg_sq is not None
        return Moments(part.of(self._exp_avg), part.of(self._exp_avg_sq))

    def together(self, having: WithGradient) -> tuple[list[Moments], Pieces]:
        """Each span's, in host memory."""
        assert self._exp_avg is not None
        assert self._exp_avg_sq is not None
        moments = [Moments(self._exp_avg[i], self._exp_avg_sq[i]) for i in having.spans]
        return moments, each_alone(having.pieces)

    def steps(self, parameters: list[nn.Parameter]) -> list[int]:
        """The number of the update under way for each, from 1."""
        names = {span.parameter: span.name for span in self._layout.spans}
        return [self._steps[names[parameter]] for parameter in parameters]

    def state(self) -> dict[str, Any]:
        """Moments and counters; no moments before the first update."""
        return {
            "exp_avg": self._exp_avg,
            "exp_avg_sq": self._exp_avg_sq,
            "steps": dict(self._steps),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Take them up."""
        first, second = state["exp_avg"], state["exp_avg_sq"]
        self._exp_avg = None if first is None else self._layout.host_copy(first)
        self._exp_avg_sq = None if second is None else self._layout.host_copy(second)
        self._steps = dict(state["steps"])


class SharedMoments:
    """RL's moments, updated by SFT as well.

    RL's step counter goes on with each SFT update, because it corrects the moments' bias by the
    number of updates they contain. RL's learning-rate schedule is not concerned.
    """

    def __init__(self, layout: Layout, optimizer: torch.optim.Optimizer) -> None:
        self._layout = layout
        self._optimizer = optimizer
        self._moments: dict[nn.Parameter, Moments] = {}

    def begin(self, parameters: list[nn.Parameter]) -> None:
        """Find the moments where they are now, and count this update."""
        state = self._optimizer.state
        missing = [p for p in self._layout.parameters if "exp_avg" not in state[p]]
        if missing:
            name = next(span.name for span in self._layout.spans if span.parameter is missing[0])
            raise RuntimeError(
                f"RL's moments must exist to be shared, but `{name}` has none. "
                "Take an RL step with AdamW first, or set moments=own."
            )
        self._moments = {p: self._of(p) for p in self._layout.parameters}
        for parameter in parameters:
            state[parameter]["step"] += 1

    def step(self, i: int) -> int:
        """The number of the update under way for span i, RL's updates included."""
        return int(self._optimizer.state[self._layout.spans[i].parameter]["step"])

    def of(self, part: Part) -> Moments:
        """A part's moments, in RL's optimizer."""
        span = self._layout.spans[part.span]
        inside = slice(span.offset + part.inside.start, span.offset + part.inside.stop)
        inside = slice(inside.start, min(inside.stop, span.offset + span.length))
        return Moments(*(moment[inside] for moment in self._moments[span.parameter]))

    def together(self, having: WithGradient) -> tuple[list[Moments], Pieces]:
        """Each parameter's, in RL's optimizer."""
        return [self._moments[parameter] for parameter in having.parameters], having.pieces

    def steps(self, parameters: list[nn.Parameter]) -> list[int]:
        """The number of the update under way for each, RL's updates included."""
        return [int(self._optimizer.state[parameter]["step"]) for parameter in parameters]

    def _of(self, parameter: nn.Parameter) -> Moments:
        state = self._optimizer.state[parameter]
        return Moments(flat(state["exp_avg"]), flat(state["exp_avg_sq"]))

    def state(self) -> dict[str, Any]:
        """Nothing: RL's optimizer saves them."""
        return {}

    def load(self, state: dict[str, Any]) -> None:
        """Nothing to take up."""
