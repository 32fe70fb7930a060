"""What a run's log says: how far its start is, what is meant for the user, why it ended."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ATTEMPT = "$ python -m verl.trainer.main_ppo"
"""Begins the line that `scripts/train.sh` writes before each start into the same log."""

LINES_KEPT = 4000
ERROR_LINES = 20
LAST_LINES = 8

_COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_ACTOR = re.compile(r"^\((?:\w+ )?(?:pid|ip)=[^)]*\) ")
_INFO = re.compile(r"^INFO:\d{4}-\d\d-\d\d [\d:,]+:")
_RULE = re.compile(r"^[┏┃┡│└├╭╰]")
_STEP = re.compile(r"^step:(\d+) -")
_TOTAL = re.compile(r"Total training steps: (\d+)")
_EXCEPTION = re.compile(r"^[\w.]*(?:Error|Exception|Interrupt|Exit)\b")
_FOR_THE_USER = re.compile(r"^(?:mifo: |SIGTERM: |Resuming from |Stopped on request after step )")
_TABLE_TITLE = "Before step 1"
_NOISE = re.compile(
    r"""^\s*$ | ^\s | ^[\[{('"] | ^step:\d | ^\$\s | \d+%\| | examples/s\] | it/s\]
    | \bWARNING\b | Warning: | warnings\.warn | \[repeated\ \d+x | \[transformers\]
    | ^Using\ blocking\ ray\.get | ^ray\ init\ kwargs | [┏┃┡│└]""",
    re.VERBOSE,
)
# What a run does from the first line that matches on. verl's own wording: see docs/verl-seams.md.
_PHASES = tuple(
    (text, re.compile(pattern))
    for text, pattern in (
        ("loading verl", re.escape(ATTEMPT)),
        ("checking settings and files", r"^mifo: recipe "),
        ("building the embedded world (once)", r"^mifo: building the embedded world"),
        ("starting Ray", r"^ray init kwargs"),
        ("starting the trainer", r"Started a local Ray instance"),
        ("reading the questions", r"Using dataset class|^Filtering prompts|^dataset len"),
        ("loading the model", r"worker group kwargs|create worker group"),
        ("starting vLLM", r"actor and ref model engine initialized"),
        ("handing the weights to vLLM", r"checkpoint engine manager initialized"),
        ("first validation", r"all initialize finished"),
        ("first step", r"^Training Progress:"),
    )
)


class Line(NamedTuple):
    """One line without colours: who of Ray's actors said it ("" for the driver), and what."""

    actor: str
    text: str


class RunLog:
    """A log read while it grows; a new start in the same file begins it afresh.

    Attributes:
        path: the log; it need not be there yet.
        phases: what the run has begun to do before its first step, in order.
        total_steps: how many steps verl means to take, once it has said so.
        step: the newest step in the log; None before the first validation or step.
        stopped: whether the run ended because it was asked to.
        latest: the last line that says something.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._offset = 0
        self._torn = b""
        self._forget()

    def _forget(self) -> None:
        self.phases: list[str] = []
        self.total_steps: int | None = None
        self.step: int | None = None
        self.stopped = False
        self.latest = ""
        self._lines: deque[Line] = deque(maxlen=LINES_KEPT)
        self._in_note = self._in_table = False

    def read(self) -> list[str]:
        """Read what was written since the last call.

        Returns:
            The lines among it that are meant for the user: those of mifo and its table.
        """
        if not self.path.is_file():
            return []
        with self.path.open("rb") as file:
            file.seek(self._offset)
            new = file.read()
        self._offset += len(new)
        *whole, self._torn = (self._torn + new).split(b"\n")
        notes: list[str] = []
        for line in map(cleaned, whole):
            if line.text.startswith(ATTEMPT):
                self._forget()
                notes.clear()
            notes += self._note(line)
        return notes

    def _note(self, line: Line) -> list[str]:
        text = line.text
        self._lines.append(line)
        self._follow(text)
        if not _NOISE.search(text):
            self.latest = text.strip()
        if text.strip() == _TABLE_TITLE:
            self._in_table = True
            return [text]
        if self._in_table and _RULE.match(text):
            self._in_table = not text.startswith("└")
            return [text]
        # A message of several lines goes on indented.
        self._in_note = bool(_FOR_THE_USER.match(text)) or (self._in_note and text[:1] == " ")
        return [text] if self._in_note else []

    def _follow(self, text: str) -> None:
        self.stopped = self.stopped or text.startswith("Stopped on request after step ")
        if match := _STEP.match(text):
            self.step = int(match[1])
        if match := _TOTAL.search(text):
            self.total_steps = int(match[1])
        begun = [name for name, pattern in _PHASES if pattern.search(text)]
        names = [name for name, _ in _PHASES]
        reached = names.index(self.phases[-1]) if self.phases else -1
        if begun and names.index(begun[-1]) > reached:
            self.phases.append(begun[-1])

    def why(self) -> list[str]:
        """Why the run ended, as the log tells it; empty when its last word was for the user.

        Returns:
            The last traceback, the driver's before an actor's; without one, the last lines.
        """
        lines = list(self._lines)
        starts = [n for n, line in enumerate(lines) if line.text.startswith("Traceback (most rec")]
        by_driver = [n for n in starts if not lines[n].actor]
        if starts:
            return _traceback(lines, (by_driver or starts)[-1])
        if self._in_note:
            return []
        known = (_NOISE.search, _FOR_THE_USER.match)
        said = [line.text for line in lines if not any(is_so(line.text) for is_so in known)]
        return said[-LAST_LINES:]


def cleaned(line: bytes) -> Line:
    """A line as a person reads it: the last state of a progress bar, no colours, no actor."""
    text = _COLOUR.sub("", line.decode("utf-8", errors="replace")).rstrip().split("\r")[-1]
    actor = ""
    while match := _ACTOR.match(text):  # an actor's own subprocess says so, too
        actor, text = actor + match[0], text[match.end() :]
    return Line(actor, _INFO.sub("", text))


def _traceback(lines: Sequence[Line], start: int) -> list[str]:
    """One speaker's traceback up to its exception, with Ray's cause; its end when it is long."""
    said = [line.text for line in lines[start:] if line.actor == lines[start].actor]
    ends = [n for n, text in enumerate(said) if _EXCEPTION.match(text)]
    said = said[: ends[-1] + 1] if ends else said
    return said if len(said) <= ERROR_LINES else ["…", *said[-ERROR_LINES:]]
