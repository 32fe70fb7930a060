"""Reads a node of a config value by value and collects everything that is wrong with it."""

import difflib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Generic, TypeVar, cast, get_args

_T = TypeVar("_T")


@dataclass(frozen=True)
class Kind(Generic[_T]):
    """Values that a setting takes: how to say it, how to tell, how to convert."""

    expected: str
    accepts: Callable[[Any], bool]
    convert: Callable[[Any], _T]


def is_number(value: object) -> bool:
    """Tell finite numbers from the rest."""
    # bool is an int to Python, but `fraction: true` is a mistake. NaN is below nothing.
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= sys.float_info.max


def _is_beta_pair(value: object) -> bool:
    return (
        isinstance(value, Sequence)
        and len(value) == 2
        and all(is_number(beta) and 0 <= beta < 1 for beta in value)
    )


def whole(least: int) -> Kind[int]:
    """Take whole numbers from `least` up."""
    return Kind(f"a whole number, at least {least}", lambda x: type(x) is int and x >= least, int)


def one_of(choices: Any) -> Kind[Any]:
    """Take the words of a `Literal` type."""
    names = get_args(choices)
    listed = ", ".join(f"`{name}`" for name in names)
    expected = f"one of {listed}" if len(names) > 1 else f"{listed}, the only choice"
    return Kind(expected, lambda x: x in names, lambda x: x)


def or_null(kind: Kind[_T]) -> "Kind[_T | None]":
    """Take what `kind` takes, or null."""
    return Kind(
        f"{kind.expected}, or null",
        lambda x: x is None or kind.accepts(x),
        lambda x: None if x is None else kind.convert(x),
    )


TEXT = Kind[str]("a name", lambda x: isinstance(x, str) and bool(x.strip()), str)
SWITCH = Kind[bool]("true or false", lambda x: isinstance(x, bool), bool)
SHARE = Kind[float]("a number in [0, 1]", lambda x: is_number(x) and 0 <= x <= 1, float)
SHARE_BELOW_ONE = Kind[float]("a number in [0, 1)", lambda x: is_number(x) and 0 <= x < 1, float)
POSITIVE = Kind[float]("a number above 0", lambda x: is_number(x) and x > 0, float)
NOT_NEGATIVE = Kind[float]("a number, at least 0", lambda x: is_number(x) and x >= 0, float)
SHARE_OR_STEPS = Kind[float](
    "a share of the run's steps in (0, 1), or a whole number of steps from 1",
    lambda x: is_number(x) and (0 < x < 1 or (x >= 1 and x == int(x))),
    float,
)
BETAS = Kind[tuple[float, float]](
    "two numbers in [0, 1)", _is_beta_pair, lambda x: (float(x[0]), float(x[1]))
)
_REQUIRED = object()


class NodeReader:
    """Reads one mapping's settings and collects what is wrong with them.

    After a problem a value is None in spite of its type; the settings are then never returned.
    """

    def __init__(
        self,
        path: str,
        node: Mapping[Any, Any],
        known: type,
        problems: list[str],
        *,
        tolerated: Sequence[str] = (),
    ) -> None:
        self.problems = problems
        self._path = path
        self._node = node
        names = [field.name for field in fields(known)]
        for key in node:
            if key not in names and key not in tolerated:
                close = difflib.get_close_matches(str(key), names, n=1)
                hint = f"Did you mean `{close[0]}`? " if close else ""
                problems.append(
                    f"`{path}.{key}` is not a setting. {hint}Settings here: {', '.join(names)}."
                )

    def has(self, name: str) -> bool:
        """Whether a setting is given, and is not null."""
        return self._node.get(name) is not None

    def take(self, name: str, kind: Kind[_T], *, default: object = _REQUIRED) -> _T:
        """Read a setting, or take its default where the key is absent."""
        value = self._node.get(name, default)
        if value is _REQUIRED:
            self.problems.append(f"`{self._path}.{name}` must be {kind.expected}, but is missing.")
        elif not kind.accepts(value):
            self.problems.append(
                f"`{self._path}.{name}` must be {kind.expected}, but is {_show(value)}."
            )
        else:
            return kind.convert(value)
        return cast(_T, None)

    def take_if(self, matters: bool, name: str, kind: Kind[_T], *, otherwise: _T) -> _T:
        """Read a setting that another one can make meaningless; it is checked all the same."""
        if matters:
            return self.take(name, kind)
        self.take(name, or_null(kind), default=None)
        return otherwise

    def take_or_none(self, matters: bool, name: str, kind: Kind[_T]) -> _T | None:
        """Read a setting that is None where another one makes it meaningless."""
        if matters:
            return self.take(name, kind)
        self.take(name, or_null(kind), default=None)
        return None

    def below(self, name: str, known: type) -> "NodeReader":
        """Read the mapping under `name`."""
        path = f"{self._path}.{name}"
        node = self._node.get(name, {})
        if not isinstance(node, Mapping):
            self.problems.append(f"`{path}` must be a mapping, but is {_show(node)}.")
            # Its keys are unknown, not missing: one problem is enough.
            return NodeReader(path, {}, known, [])
        return NodeReader(path, node, known, self.problems)


def _show(value: object) -> str:
    return "null" if value is None else repr(value)
