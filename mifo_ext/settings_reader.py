"""Reads the recipe's node, `interleave:`, into `settings`.

Every problem is reported at once, before anything expensive starts.
"""

from collections.abc import Mapping
from typing import Any

from mifo_ext.node_reader import (
    BETAS,
    NOT_NEGATIVE,
    POSITIVE,
    SHARE,
    SHARE_BELOW_ONE,
    SHARE_OR_STEPS,
    TEXT,
    Kind,
    NodeReader,
    is_number,
    one_of,
    or_null,
    whole,
)
from mifo_ext.settings import (
    Entries,
    HoldSettings,
    IntervalSettings,
    Loss,
    Mode,
    Moments,
    Normalise,
    Phase,
    PhaseSftSettings,
    PhasesSettings,
    RlSettings,
    Settings,
    SftSettings,
    Tokens,
)
from mifo_ext.settings_base import Kind as RecipeKind
from mifo_ext.settings_base import SettingsError
from mifo_ext.settings_demonstrations import DemonstrationSettings, read_demonstrations
from mifo_ext.settings_mixed import MixedSettings, read_mixed

ABOVE_ZERO_SHARE = Kind[float]("a number in (0, 1]", lambda x: is_number(x) and 0 < x <= 1, float)
ORDER = Kind[tuple[Phase, ...]](
    "[sft], [sft, rl] or [rl, sft]",
    lambda x: isinstance(x, list) and x in (["sft"], ["sft", "rl"], ["rl", "sft"]),
    tuple,
)
FILES = Kind[tuple[str, ...]](
    "a file or a list of files",
    lambda x: isinstance(x, str) or (isinstance(x, list) and all(isinstance(y, str) for y in x)),
    lambda x: (x,) if isinstance(x, str) else tuple(x),
)
_CLASSES: dict[str, type] = {
    "rl": RlSettings,
    "intervals": IntervalSettings,
    "phases": PhasesSettings,
    "mixed": MixedSettings,
}
_OF_INTERVALS = ("clip_norm", "betas", "eps", "weight_decay")


def _mapping(node: object) -> Mapping[str, Any]:
    if isinstance(node, Mapping):
        return node
    shown = "null" if node is None else repr(node)
    raise SettingsError(
        [f"`interleave` must be a mapping, but is {shown}. Choose a recipe: +recipe=mifo."]
    )


def parse_settings(
    node: Mapping[str, Any] | None,
    *,
    rollouts_per_question: int | None = None,
    train_rows: int | None = None,
    total_steps: int | None = None,
) -> Settings:
    """Read the `interleave:` node of a resolved config.

    Args:
        node: the node as plain Python containers.
        rollouts_per_question: verl's `actor_rollout_ref.rollout.n`, checked against the method.
        train_rows: questions in the training data, checked against `buffer_size`.
        total_steps: steps of the run, checked against schedules and phases.

    Returns:
        The settings of the recipe's `kind`.

    Raises:
        SettingsError: with everything that is wrong.
    """
    node = _mapping(node)
    problems: list[str] = []
    known = _class_of(node)
    # A scale gives every recipe its SFT batches.
    tolerated = ("sft",) if known in (RlSettings, MixedSettings) else ()
    reader = NodeReader("interleave", node, known, problems, tolerated=tolerated)
    recipe = reader.take("recipe", TEXT)
    reader.take("kind", one_of(RecipeKind), default="intervals")
    settings: Settings
    if known is RlSettings:
        settings = RlSettings(recipe=recipe)
    elif known is PhasesSettings:
        settings = _read_phases(reader, recipe, total_steps=total_steps)
    elif known is MixedSettings:
        settings = read_mixed(
            reader,
            recipe=recipe,
            rollouts_per_question=rollouts_per_question,
            total_steps=total_steps,
        )
    else:
        settings = _read_intervals(reader, recipe)
        problems += _interval_checks(settings.buffer_size, rollouts_per_question, train_rows)
    if problems:
        raise SettingsError(problems)
    return settings


def _class_of(node: Mapping[str, Any]) -> type:
    """The settings that a node asks for; of a kind that there is not, those of intervals."""
    kind = node.get("kind", "intervals")
    return _CLASSES.get(kind, IntervalSettings) if isinstance(kind, str) else IntervalSettings


def _read_intervals(reader: NodeReader, recipe: str) -> IntervalSettings:
    buffer_size = reader.take("buffer_size", whole(1))
    hard_at_most = reader.take("hard_at_most", SHARE)
    return IntervalSettings(
        recipe=recipe,
        hard_at_most=hard_at_most,
        buffer_size=buffer_size,
        sft=_read_sft(reader.below("sft", SftSettings), buffer_size=buffer_size),
        hold=_read_hold(reader.below("hold", HoldSettings)),
        demonstrations=_read_demonstrations(reader),
    )


def _read_phases(reader: NodeReader, recipe: str, *, total_steps: int | None) -> PhasesSettings:
    order = reader.take("order", ORDER)
    two = order is not None and len(order) == 2
    switch_at = reader.take_if(two, "switch_at", SHARE_OR_STEPS, otherwise=1.0)
    if two and switch_at is not None and total_steps is not None and switch_at >= total_steps:
        reader.problems.append(
            f"`interleave.switch_at` must be below the run's {total_steps} steps, but is "
            f"{switch_at:g}: the second phase would never begin. Give a share below 1."
        )
    below = reader.below("sft", SftSettings)
    loss = _read_loss(below)
    for name in _OF_INTERVALS:
        if below.has(name):
            below.problems.append(
                f"`interleave.sft.{name}` must be null in a phase of SFT alone: it is trained by "
                f"the actor's own optimizer. Set actor_rollout_ref.actor.optim."
            )
    rl_files = reader.take("rl_files", or_null(FILES), default=None)
    if rl_files and order is not None and "rl" not in order:
        reader.problems.append("`interleave.rl_files` must be null without a phase of RL.")
    return PhasesSettings(
        recipe=recipe,
        order=order,
        switch_at=switch_at,
        rl_files=rl_files,
        sft=PhaseSftSettings(
            **loss,
            mini_batch_size=below.take("mini_batch_size", or_null(whole(1)), default=None),
        ),
        demonstrations=_read_demonstrations(reader),
    )


def _read_demonstrations(reader: NodeReader) -> DemonstrationSettings:
    return read_demonstrations(reader.below("demonstrations", DemonstrationSettings))


def _read_loss(reader: NodeReader) -> dict[str, Any]:
    tokens = reader.take("tokens", one_of(Tokens))
    return {
        "tokens": tokens,
        "fraction": reader.take_if(tokens != "all", "fraction", ABOVE_ZERO_SHARE, otherwise=1.0),
        "normalise": reader.take("normalise", one_of(Normalise)),
        "loss": reader.take("loss", one_of(Loss), default="nll"),
        "entropy_coeff": reader.take("entropy_coeff", NOT_NEGATIVE, default=0.0),
        "learning_rate_ratio": reader.take("learning_rate_ratio", POSITIVE, default=1.0),
    }


def _read_sft(reader: NodeReader, *, buffer_size: int) -> SftSettings:
    loss = _read_loss(reader)
    mini_batch_size = reader.take("mini_batch_size", or_null(whole(1)), default=None)
    if mini_batch_size is None:
        mini_batch_size = buffer_size
    elif buffer_size and buffer_size % mini_batch_size:
        reader.problems.append(
            f"`interleave.sft.mini_batch_size` must divide `interleave.buffer_size` "
            f"({buffer_size}), but is {mini_batch_size}."
        )
    return SftSettings(
        **loss,
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


def _interval_checks(
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
