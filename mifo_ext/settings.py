"""The recipe's node, `interleave:`, as frozen dataclasses; `settings_reader` reads it."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from mifo_ext.settings_base import RecipeSettings
from mifo_ext.settings_demonstrations import DemonstrationSettings
from mifo_ext.settings_mixed import MixedSettings

Tokens: TypeAlias = Literal["high_entropy", "all"]
Normalise: TypeAlias = Literal["full_length", "token_mean"]
Loss: TypeAlias = Literal["nll", "dft"]
Moments: TypeAlias = Literal["own", "shared"]
Entries: TypeAlias = Literal["moved_most", "moved_least", "random", "largest_weight", "none"]
Mode: TypeAlias = Literal["exact", "gradient_mask"]
Phase: TypeAlias = Literal["sft", "rl"]


@dataclass(frozen=True, kw_only=True)
class SftBase:
    """What all SFT on demonstrations has in common: the loss, and how fast it learns."""

    tokens: Tokens
    """Which response tokens carry loss: the most uncertain ones (MIFO, section 3.1), or all."""

    fraction: float
    """Share of each response's tokens that carry loss, in (0, 1]; rho in the paper (0.2).
    With `tokens: all` it is not asked for, and 1."""

    normalise: Normalise
    """What a token's loss is divided by: `full_length`, its demonstration's whole length and the
    number of demonstrations (MIFO, section 3.1); `token_mean`, all tokens of the global batch
    (ReLIFT, stand-alone SFT)."""

    loss: Loss
    """Loss of one token: `nll`, its negative log-likelihood, or `dft`, the same times the token's
    own probability, through which no gradient flows (DFT, arXiv 2508.05629)."""

    entropy_coeff: float
    """What the mean entropy of the tokens that carry loss is multiplied with before it is taken
    off the loss, 0 or more (ReLIFT: 0.001)."""

    learning_rate_ratio: float
    """SFT's learning rate as a multiple of RL's current one, above 0. The paper has 1e-6 for
    both: 1."""


@dataclass(frozen=True, kw_only=True)
class PhaseSftSettings(SftBase):
    """How a phase of SFT alone trains, by RL's optimizer and with its clip norm."""

    mini_batch_size: int | None
    """Demonstrations in one optimizer step. Null: all of a step's."""


@dataclass(frozen=True, kw_only=True)
class SftSettings(SftBase):
    """How an SFT interval trains on its demonstrations."""

    epochs: int
    """Passes over the interval's demonstrations, at least 1 (docs/method.md: 1)."""

    mini_batch_size: int
    """Demonstrations in one optimizer step; divides `buffer_size`. Null is `buffer_size`: one
    step an interval (docs/method.md)."""

    clip_norm: float | None
    """Limit of the gradient norm, above 0, over live entries. Null is RL's."""

    betas: tuple[float, float] | None
    """AdamW's betas, both in [0, 1). Null is RL's."""

    eps: float | None
    """AdamW's epsilon, above 0. Null is RL's."""

    weight_decay: float | None
    """AdamW's weight decay, at least 0. Null is RL's."""

    moments: Moments
    """AdamW's moments: `own`, so that RL's stay clean (ReLIFT's way), or `shared` with RL, which
    saves 8 bytes a parameter (docs/method.md)."""


@dataclass(frozen=True, kw_only=True)
class HoldSettings:
    """Which parameter entries an SFT interval holds still."""

    entries: Entries
    """Which entries are held: those that RL moved most (MIFO, section 3.2), or, to compare,
    moved least, at random, the largest weights, or none."""

    fraction: float
    """Share of all trainable entries to hold, in [0, 1]; k in the paper (0.5). With
    `entries: none` it is not asked for, and 0."""

    decay: float
    """How much of the history stays in the importance, in [0, 1); alpha in the paper (0.5).
    With 0 there is no history. With `entries: none` it is not asked for, and 0."""

    mode: Mode
    """`exact` keeps held entries bit-identical; `gradient_mask` only zeroes their gradient, as
    the paper's text says, so momentum and weight decay still move them (docs/method.md)."""

    seed: int
    """Chooses the entries of `entries: random`, at least 0."""


@dataclass(frozen=True, kw_only=True)
class RlSettings(RecipeSettings):
    """A recipe of RL alone."""

    kind: Literal["rl"] = "rl"


@dataclass(frozen=True, kw_only=True)
class IntervalSettings(RecipeSettings):
    """A recipe that interleaves RL with SFT on hard questions."""

    kind: Literal["intervals"] = "intervals"

    hard_at_most: float
    """Highest accuracy of a question's rollouts that counts as hard, in [0, 1]; p in the paper
    (0.125). With 1 every question is hard."""

    buffer_size: int
    """Demonstrations of one SFT interval, at least 1; S in the paper (64)."""

    sft: SftSettings
    """How an SFT interval trains."""

    hold: HoldSettings
    """What an SFT interval holds still."""

    demonstrations: DemonstrationSettings
    """Where demonstrations come from."""


@dataclass(frozen=True, kw_only=True)
class PhasesSettings(RecipeSettings):
    """A recipe of whole phases: SFT on demonstrations alone, RL alone."""

    kind: Literal["phases"] = "phases"

    order: tuple[Phase, ...]
    """The phases, one or two different ones: [sft], [sft, rl] or [rl, sft]."""

    switch_at: float
    """Where the second phase begins: below 1 a share of the run's steps, else after so many
    steps. Null, and 1, with one phase."""

    rl_files: tuple[str, ...] | None
    """Parquet files with RL's questions, for RL on other prompts than SFT's (LUFFY's SFT->RL).
    Null: `data.train_files`."""

    sft: PhaseSftSettings
    """How the SFT phase trains."""

    demonstrations: DemonstrationSettings
    """Where demonstrations come from."""


Settings: TypeAlias = RlSettings | IntervalSettings | PhasesSettings | MixedSettings
"""`settings.kind` says which of them it is."""
