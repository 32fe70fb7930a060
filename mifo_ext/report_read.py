"""A run's metrics, as verl's file logger wrote them: one JSON object per line and step."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

METRICS_FILE = "metrics.jsonl"
_ACCURACY = re.compile(r"val-core/(?P<source>.+)/(?P<variable>acc|reward)/mean@(?P<samples>\d+)")
_NAMED_RUN = re.compile(r"(?P<recipe>.+)-seed(?P<seed>\d+)")


class Curve(NamedTuple):
    """A metric over the steps that recorded it, steps ascending."""

    steps: list[int]
    values: list[float]


class Group(NamedTuple):
    """The questions of one `data_source`.

    Attributes:
        source: verl's data source, "world/sum/6".
        skill: its name without what all sources of the run begin with and without the level: "sum".
        level: its difficulty when the last part is a whole number, here 6; otherwise None.
    """

    source: str
    skill: str
    level: int | None


class Accuracy(NamedTuple):
    """Validation accuracy of one group over the run.

    Attributes:
        group: whose accuracy.
        curve: mean over questions and their samples, in [0, 1].
        samples: answers sampled for each question.
        questions: number of questions, when the run recorded `val-aux/<source>/questions`.
    """

    group: Group
    curve: Curve
    samples: int
    questions: int | None


@dataclass(frozen=True)
class Run:
    """Everything that one run recorded.

    Attributes:
        folder: the run's folder.
        recipe: from a folder called `<recipe>-seed<n>`; otherwise the folder's whole name.
        seed: that n; otherwise None.
        metrics: finite numbers by step, steps ascending.
        notes: what was odd about the files, one sentence each.
    """

    folder: Path
    recipe: str
    seed: int | None
    metrics: Mapping[int, Mapping[str, float]]
    notes: tuple[str, ...] = ()

    @property
    def last_step(self) -> int:
        """The newest step."""
        return max(self.metrics)

    def curve(self, name: str) -> Curve:
        """The metric `name` over the steps that have it; empty when none has."""
        found = [(step, row[name]) for step, row in self.metrics.items() if name in row]
        return Curve([step for step, _ in found], [value for _, value in found])

    @property
    def flushes(self) -> list[int]:
        """Steps that ended with an SFT interval."""
        flush = self.curve("interleave/sft/flush")
        return [step for step, happened in zip(*flush, strict=True) if happened]

    def accuracies(self) -> list[Accuracy]:
        """Validation accuracy by group, skills in alphabetical order, levels ascending."""
        names: dict[str, tuple[int, str]] = {}
        for key in sorted({key for row in self.metrics.values() for key in row}):
            if match := _ACCURACY.fullmatch(key):
                source, samples = match["source"], int(match["samples"])
                names[source] = max(names.get(source, (0, "")), (samples, key))
        return [
            Accuracy(
                group=group,
                curve=self.curve(names[group.source][1]),
                samples=names[group.source][0],
                questions=self._questions(group.source),
            )
            for group in groups(names)
        ]

    def _questions(self, source: str) -> int | None:
        counts = self.curve(f"val-aux/{source}/questions").values
        return round(counts[-1]) if counts else None


def groups(sources: Iterable[str]) -> list[Group]:
    """Split data sources into skill and level, and sort them so.

    Args:
        sources: verl's data sources, of one run.
    """
    parts = {source: source.split("/") for source in sources}
    shared = 0
    while len({tuple(part[: shared + 1]) for part in parts.values()}) == 1 and all(
        len(part) > shared + 2 for part in parts.values()
    ):
        shared += 1
    found = []
    for source, part in parts.items():
        names = part[shared:]
        level = int(names[-1]) if len(names) > 1 and names[-1].isdecimal() else None
        found.append(Group(source, "/".join(names if level is None else names[:-1]), level))
    return sorted(found, key=lambda group: (group.skill, group.level is not None, group.level or 0))


def read_run(folder: Path) -> Run:
    """Read a run's metrics files.

    A run that was resumed continues in a new `metrics.jsonl` (the earlier ones are
    `metrics-<n>.jsonl`) or in the same file. Where its steps go back, what the interrupted attempt
    had recorded after that step is dropped: those steps were trained again.

    Args:
        folder: the run's folder.

    Raises:
        FileNotFoundError: the folder or its metrics are missing.
        ValueError: there is not one readable step.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"`{folder}` must be a run's folder, but there is none.")
    files = [*sorted(folder.glob("metrics-*.jsonl")), folder / METRICS_FILE]
    files = [file for file in files if file.is_file()]
    if not files:
        raise FileNotFoundError(
            f"`{folder}` must hold {METRICS_FILE}, but does not. verl writes it with "
            "trainer.logger=[console,file]; a run that stopped before its first step has none."
        )
    metrics: dict[int, dict[str, float]] = {}
    notes: list[str] = []
    for file in files:
        for step, row in _rows(file, notes):
            metrics = {known: metrics[known] for known in metrics if known <= step}
            metrics.setdefault(step, {}).update(row)
    if not metrics:
        raise ValueError(
            f"`{files[-1]}` must hold at least one step, but holds none. Was the run stopped "
            "before its first validation?"
        )
    name = folder.resolve().name
    named = _NAMED_RUN.fullmatch(name)
    return Run(
        folder=folder,
        recipe=named["recipe"] if named else name,
        seed=int(named["seed"]) if named else None,
        metrics=metrics,
        notes=tuple(notes),
    )


def _rows(file: Path, notes: list[str]) -> Iterator[tuple[int, dict[str, float]]]:
    """Steps in the order written; a line that cannot be read leaves a note."""
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        row = _row(line)
        if row is None:
            why = "torn: the run was stopped while it wrote" if number == len(lines) else "torn"
            notes.append(f"{file.name}, line {number}, is {why}; it is left out.")
            # What a resumed run appended to a torn line is whole again from its own start.
            row = _row(line[line.rfind('{"step":') :])
        if row is not None:
            yield row


def _row(line: str) -> tuple[int, dict[str, float]] | None:
    try:
        record = json.loads(line)
    except json.JSONDecodeError:
        return None
    if not isinstance(record, dict) or not isinstance(record.get("data"), dict):
        return None
    step = record.get("step")
    if not isinstance(step, int):
        return None
    numbers = {
        key: value for key, value in record["data"].items() if isinstance(value, int | float)
    }
    return step, {key: float(value) for key, value in numbers.items() if math.isfinite(value)}
