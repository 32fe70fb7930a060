"""The recipe's node, `interleave:`, as frozen dataclasses.

Every problem is reported at once, before anything expensive starts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from mifo_ext.node_reader import (
    BETAS,
    NOT_NEGATIVE,
    POSITIVE,
    SHARE,
    SHARE_BELOW_ONE,
    SWITCH,
    TEXT,
    Kind,
    NodeReader,
    is_number,
    one_of,
    or_null,
    whole,
)

Tokens: TypeAlias = Literal["high_entropy", "all"]
Normalise: TypeAlias = Literal["full_length", "token_mean"]
Loss: TypeAlias = Literal["nll"]
Moments: TypeAlias = Literal["own", "shared"]
Entries: TypeAlias = Literal["moved_most", "moved_least", "random", "largest_weight", "none"]
Mode: TypeAlias = Literal["exact", "gradient_mask"]


class SettingsError(ValueError):
    """Settings that cannot be run.

    Attributes:
        problems: one sentence for each problem, all of them.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        count = "1 problem" if len(self.problems) == 1 else f"{len(self.problems)} problems"
        mend = "change the recipe, or override on the command line: key=value"
        super().__init__("\n  - ".join([f"{count} in the settings ({mend}):", *self.problems]))

    def __reduce__(self) -> tuple[type["SettingsError"], tuple[tuple[str, ...]]]:
        # Ray pickles errors between processes; the default would pass the message as `problems`.
        return type(self), (self.problems,)


@dataclass(frozen=True, kw_only=True)
class SftSettings:
    """How an SFT interval trains on its demonstrations."""

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
    """Loss of one token: `nll`, its negative log-likelihood."""

    learning_rate_ratio: float
    """SFT's learning rate as a multiple of RL's current one, above 0. The paper has 1e-6 for
    both: 1."""

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
class InterleaveSettings:
    """A recipe that interleaves RL with SFT on hard questions."""

    recipe: str
    """Name of the recipe."""

    enabled: Literal[True] = True
    """True: SFT intervals are run."""

    hard_at_most: float
    """Highest accuracy of a question's rollouts that counts as hard, in [0, 1]; p in the paper
    (0.125). With 1 every question is hard."""

    buffer_size: int
    """Demonstrations of one SFT interval, at least 1; S in the paper (64)."""

    sft: SftSettings
    """How an SFT interval trains."""

    hold: HoldSettings
    """What an SFT interval holds still."""


@dataclass(frozen=True, kw_only=True)
class PlainSettings:
    """A recipe without SFT intervals: `enabled: false`."""

    recipe: str
    """Name of the recipe."""

    enabled: Literal[False] = False
    """False: RL only."""


Settings: TypeAlias = InterleaveSettings | PlainSettings
"""`if settings.enabled:` tells type checkers which of the two it is."""


def parse_settings(
    node: Mapping[str, Any] | None,
    *,
    rollouts_per_question: int | None = None,
    train_rows: int | None = None,
) -> Settings:
    """Read the `interleave:` node of a resolved config.

    Args:
        node: the node as plain Python containers.
        rollouts_per_question: verl's `actor_rollout_ref.rollout.n`, checked against the method.
        train_rows: questions in the training data, checked against `buffer_size`.

    Returns:
        The settings; `PlainSettings` where the recipe has `enabled: false`, which needs no other
        key than `recipe`.

    Raises:
        SettingsError: with everything that is wrong.
    """
    if not isinstance(node, Mapping):
        shown = "null" if node is None else repr(node)
        raise SettingsError(
            [f"`interleave` must be a mapping, but is {shown}. Choose a recipe: +recipe=mifo."]
        )
    problems: list[str] = []
    reader = NodeReader("interleave", node, InterleaveSettings, problems)
    recipe = reader.take("recipe", TEXT)
    enabled = reader.take("enabled", SWITCH, default=True)
    if enabled is False:
        if problems:
            raise SettingsError(problems)
        return PlainSettings(recipe=recipe)

    buffer_size = reader.take("buffer_size", whole(1))
    settings = InterleaveSettings(
        recipe=recipe,
        hard_at_most=reader.take("hard_at_most", SHARE),
        buffer_size=buffer_size,
        sft=_read_sft(reader.below("sft", SftSettings), buffer_size=buffer_size),
        hold=_read_hold(reader.below("hold", HoldSettings)),
    )
    problems += _cross_checks(buffer_size, rollouts_per_question, train_rows)
    if problems:
        raise SettingsError(problems)
    return settings


def _read_sft(reader: NodeReader, *, buffer_size: int) -> SftSettings:
    tokens = reader.take("tokens", one_of(Tokens))
    share = Kind[float]("a number in (0, 1]", lambda x: is_number(x) and 0 < x <= 1, float)
    fraction = reader.take_if(tokens != "all", "fraction", share, otherwise=1.0)
    mini_batch_size = reader.take("mini_batch_size", or_null(whole(1)), default=None)
    if mini_batch_size is None:
        mini_batch_size = buffer_size
    elif buffer_size and buffer_size % mini_batch_size:
        reader.problems.append(
            f"`interleave.sft.mini_batch_size` must divide `interleave.buffer_size` "
            f"({buffer_size}), but is {mini_batch_size}."
        )
    return SftSettings(
        tokens=tokens,
        fraction=fraction,
        normalise=reader.take("normalise", one_of(Normalise)),
        loss=reader.take("loss", one_of(Loss), default="nll"),
        learning_rate_ratio=reader.take("learning_rate_ratio", POSITIVE, default=1.0),
        epochs=reader.take("epochs", whole(1), default=1),
        mini_batch_size=mini_batch_size,
        clip_norm=reader.take("clip_norm", or_null(POSITIVE), default=None),
        betas=reader.take("betas", or_null(BETAS), default=None),
        eps=reader.take("eps", or_null(POSITIVE), default=None),
        weight_decay=reader.take("weight_decay", or_null(NOT_NEGATIVE), default=None),
        moments=reader.take("moments", one_of(Moments), default="own"),
    )


def _read_hold(reader: NodeReader) -> HoldSettings:
    entries = reader.take("entries", one_of(Entries))
    holds = entries != "none"
    return HoldSettings(
        entries=entries,
        fraction=reader.take_if(holds, "fraction", SHARE, otherwise=0.0),
        decay=reader.take_if(holds, "decay", SHARE_BELOW_ONE, otherwise=0.0),
        mode=reader.take("mode", one_of(Mode), default="exact"),
        seed=reader.take("seed", whole(0), default=0),
    )


def _cross_checks(
    buffer_size: int | None, rollouts_per_question: int | None, train_rows: int | None
) -> list[str]:
    """Check what the method needs from the rest of the config."""
    problems = []
    if rollouts_per_question is not None and rollouts_per_question < 2:
        problems.append(
            "`actor_rollout_ref.rollout.n` must be at least 2, but is "
            f"{rollouts_per_question}: a question's accuracy is measured over its rollouts."
        )
    if buffer_size is not None and train_rows is not None and buffer_size > train_rows:
        problems.append(
            f"`interleave.buffer_size` must be at most the {train_rows} questions of the training "
            f"data, but is {buffer_size}: a question waits once, so the buffer would never fill."
        )
    return problems
