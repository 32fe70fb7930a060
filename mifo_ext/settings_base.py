"""What the settings of every recipe have in common."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

Kind: TypeAlias = Literal["rl", "intervals", "phases", "mixed"]


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
class RecipeSettings:
    """What every recipe says."""

    recipe: str
    """Name of the recipe."""

    kind: Kind
    """How demonstrations come in: not at all (`rl`); in SFT intervals on hard questions between
    RL steps (`intervals`); in phases of SFT alone (`phases`); among the rollouts (`mixed`)."""
