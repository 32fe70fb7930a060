"""The SFT phase's optimizer, and what the hold tells of itself."""

from __future__ import annotations

from dataclasses import dataclass

from mifo_ext.core.adamw import AdamWSettings

MOMENTS = ("own", "shared")


@dataclass(frozen=True, kw_only=True)
class SftOptimizerSettings:
    """The optimizer of the SFT phase; its learning rate comes with each step."""

    adamw: AdamWSettings = AdamWSettings()  # noqa: RUF009 (frozen)
    """Betas, epsilon and weight decay."""
    clip_norm: float | None = 1.0
    """Largest norm of the gradient over live entries, above 0; None never clips."""
    moments: str = "own"
    """`own`: SFT's moments, 8 bytes an entry of host memory. `shared`: RL's moments, which SFT
    then changes, with their step counter: it counts the updates that are in the moments."""

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise ValueError(f"`clip_norm` must be above 0 or None, but is {self.clip_norm}.")
        _one_of("moments", self.moments, MOMENTS)


@dataclass(frozen=True, kw_only=True)
class HoldReport:
    """What `ParameterHold.engage` found; the same on all ranks but for `seconds`."""

    held: int
    """Entries held, over the whole model."""
    held_fraction: float
    """Share of all trainable entries that is held."""
    threshold: float | None
    """Score of the last entry held; None when nothing is held."""
    jaccard: float | None
    """Overlap with the mask before, intersection over union; None for the first mask or when both
    are empty."""
    moved: int
    """Entries that the RL phase changed."""
    entries: int
    """All trainable entries."""
    update_norm: float
    """Euclidean norm of the RL phase's change of the weights."""
    seconds: float
    """Time this took."""


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """What one SFT step did; the same on all ranks but for `seconds`."""

    applied: bool
    """False when the gradient was not finite: then nothing was changed."""
    gradient_norm: float
    """Norm of the gradient over live entries before clipping; not finite if not `applied`."""
    held_gradient_share: float
    """Share of the squared gradient, over all entries, that fell on held ones."""
    clip_scale: float
    """Factor that clipping put on the gradient, at most 1."""
    update_norm: float
    """Euclidean norm of the step's change of the weights."""
    seconds: float
    """Time this took."""


def _one_of(name: str, word: str, words: tuple[str, ...]) -> None:
    if word not in words:
        raise ValueError(f"`{name}` must be one of {', '.join(words)}, but is {word!r}.")
