"""How far an evaluation is: bars in a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

EVERY_S = 60.0
"""Outside a terminal: seconds between two lines."""


@dataclass
class Meter:
    """Counts what is done and shows it.

    Attributes:
        console: where to show.
        totals: what there is to do, by name.
        done: what is done, by name.
        tokens: of what was done since the start.
    """

    console: Console
    totals: Mapping[str, int]
    done: dict[str, int]
    tokens: int = 0
    _bars: dict[str, TaskID] = field(default_factory=dict)
    _progress: Progress | None = None
    _started: float = field(default_factory=time.monotonic)
    _said: float = field(default_factory=time.monotonic)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show bars while the block runs."""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[speed]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(
            *columns, console=self.console, disable=not self.console.is_terminal
        ) as progress:
            self._progress = progress
            for name, total in self.totals.items():
                self._bars[name] = progress.add_task(
                    name, total=total, completed=self.done[name], speed=""
                )
            yield

    def advance(self, name: str, count: int, *, tokens: int = 0) -> None:
        """Take more that is done into account.

        Args:
            name: a key of `totals`.
            count: how many more are done.
            tokens: that they have.
        """
        self.done[name] += count
        self.tokens += tokens
        seconds = max(time.monotonic() - self._started, 1e-9)
        speed = f"{self.tokens / seconds:,.0f} tokens/s" if self.tokens else ""
        if self._progress is not None:
            self._progress.update(self._bars[name], completed=self.done[name], speed=speed)
        if not self.console.is_terminal and time.monotonic() - self._said > EVERY_S:
            self._said = time.monotonic()
            done, total = sum(self.done.values()), sum(self.totals.values())
            self.console.print(f"{done:,} of {total:,} {speed}".rstrip(), highlight=False)
