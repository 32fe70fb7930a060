"""The real command in a process of its own, and what it logged."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
WORLD = Path(os.environ.get("MIFO_WORLD", REPOSITORY / "world"))
LAUNCH_S = 900
"""A whole launch takes 100 to 150 s on two free cores; a busy machine gets its time."""


@dataclass
class Launch:
    """`python -m verl.trainer.main_ppo WORDS` in a run folder.

    Attributes:
        root: the run's folder.
        words: the command's words, the run's folder left out.
        environment: variables beside the test's own.
    """

    root: Path
    words: list[str]
    environment: dict[str, str] = field(default_factory=dict)

    def start(self, **environment: str) -> subprocess.Popen[bytes]:
        """Launch it; its output goes to `root/log.txt`."""
        self.root.mkdir(parents=True, exist_ok=True)
        everything = {**os.environ, "MIFO_WORLD": str(WORLD), **self.environment, **environment}
        command = [*self.words, f"trainer.default_local_dir={self.root}"]
        with (self.root / "log.txt").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "verl.trainer.main_ppo", *command],
                cwd=self.root,
                env=everything,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def run(self, **environment: str) -> int:
        """Launch it and wait for its end."""
        return self.start(**environment).wait(timeout=LAUNCH_S)

    def log(self) -> str:
        """What it printed so far."""
        return (self.root / "log.txt").read_text(encoding="utf-8", errors="replace")

    def metrics(self) -> dict[int, dict[str, float]]:
        """What it logged by step; a replayed step's later entry counts."""
        steps: dict[int, dict[str, float]] = {}
        for file in [*sorted(self.root.glob("metrics-*.jsonl")), self.root / "metrics.jsonl"]:
            for line in file.read_text().splitlines():
                entry = json.loads(line)
                steps.setdefault(entry["step"], {}).update(entry["data"])
        return steps
