"""A run's folder: everything about one checkpoint under one plan.

```
run.json              plan, checkpoint, and every sitting: engine, versions, hardware, time
problems.jsonl        every question with its gold
samples.jsonl         every response
grades-GRADER.jsonl   every verdict, a file for each grader
metrics-GRADER.json   the figures
report.html, report.md, *.png
```
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mifo_ext.eval.grading import grades_path
from mifo_ext.eval.record import GradeLine, Problem, Sample
from mifo_ext.eval.store import read_records

RUN, PROBLEMS, SAMPLES, LOCK = "run.json", "problems.jsonl", "samples.jsonl", ".lock"


@dataclass(frozen=True)
class StoredRun:
    """What a run's folder holds.

    Attributes:
        folder: where it lies.
        record: `run.json`.
        problems: every question, in order.
        samples: every response that is there.
    """

    folder: Path
    record: dict[str, Any]
    problems: list[Problem]
    samples: list[Sample]

    @property
    def name(self) -> str:
        """What the run is called."""
        return str(self.record["name"])

    @property
    def planned(self) -> dict[str, int]:
        """Samples for each problem, by benchmark."""
        return {name: int(entry["samples"]) for name, entry in self.record["plan"].items()}

    @property
    def private(self) -> frozenset[str]:
        """Benchmarks whose questions are not to be shown."""
        return frozenset(name for name, entry in self.record["plan"].items() if entry["private"])

    @property
    def golds(self) -> dict[tuple[str, str], str]:
        """By benchmark and problem."""
        return {(problem.benchmark, problem.id): problem.gold for problem in self.problems}

    def thinks(self, benchmark: str) -> bool:
        """Whether a response of this benchmark starts inside a thinking part."""
        return bool(self.record["plan"][benchmark]["template"]["thinking"])

    def grades(self, grader: str) -> list[GradeLine]:
        """Every verdict of a grader.

        Raises:
            FileNotFoundError: when this grader has not been asked.
        """
        path = grades_path(self.folder, grader)
        if not path.is_file():
            raise FileNotFoundError(
                f"{self.folder} has no verdicts of {grader!r}. Make them with "
                f"`mifo regrade {self.folder} --grader {grader}`."
            )
        return read_records(path, GradeLine)


def read_run(folder: Path) -> StoredRun:
    """Read a run's folder.

    Raises:
        FileNotFoundError: when it is none.
        ValueError: when a file of it cannot be read.
    """
    if not (folder / RUN).is_file():
        raise FileNotFoundError(
            f"{folder} must be the folder of an evaluation, but has no {RUN}. "
            "`mifo eval CHECKPOINT --out FOLDER` makes FOLDER/NAME."
        )
    try:
        record = json.loads((folder / RUN).read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"`{folder / RUN}` must be JSON, but is not ({error}).") from error
    return StoredRun(
        folder,
        record,
        problems=read_records(folder / PROBLEMS, Problem),
        samples=read_records(folder / SAMPLES, Sample),
    )


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Keep every other process out of a run's folder.

    Raises:
        ValueError: when another one is at work there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(
                f"{folder} must be used by one process, but another one is at work there."
            ) from error
        yield
