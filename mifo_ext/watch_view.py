"""What is known of a run while it goes on, and how it is shown."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from omegaconf import OmegaConf
from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mifo_ext.report_accuracy import mean_curve
from mifo_ext.report_read import METRICS_FILE, Curve, Run, read_run
from mifo_ext.report_tables import sparkline
from mifo_ext.watch_log import RunLog

CONFIG_FILE = "hydra/.hydra/config.yaml"
_RECENT = 20
_BAR = 28
_BUFFER_BAR = 24
_RIGHT = "interleave/outcomes/correct_"


@dataclass(frozen=True)
class Plan:
    """What the run's configuration says; None where it does not.

    Attributes:
        steps: training steps.
        buffer_size: hard questions of one SFT interval.
    """

    steps: int | None = None
    buffer_size: int | None = None


def read_plan(run_folder: Path) -> Plan:
    """Read what is watched for from the composed configuration in a run's folder."""
    file = run_folder / CONFIG_FILE
    if not file.is_file():
        return Plan()
    config = OmegaConf.load(file)
    steps = OmegaConf.select(config, "trainer.total_training_steps")
    size = OmegaConf.select(config, "interleave.buffer_size")
    return Plan(int(steps) if steps else None, int(size) if size else None)


def rollout_accuracy(run: Run) -> Curve:
    """Share of a step's rollouts that were right, from the histogram of rollout outcomes.

    Without one (a recipe that counts no outcomes), verl's mean score, which is the same share when
    a reward is 0 or 1.
    """
    steps, shares = [], []
    for step, row in run.metrics.items():
        counts = {int(key[len(_RIGHT) :]): row[key] for key in row if key.startswith(_RIGHT)}
        questions, most = sum(counts.values()), max(counts, default=0)
        if questions and most:
            steps.append(step)
            shares.append(sum(n * count for n, count in counts.items()) / (most * questions))
    return Curve(steps, shares) if steps else run.curve("critic/score/mean")


def step_seconds(run: Run) -> float | None:
    """Seconds that a step takes, validations spread over the newest steps; None before step 1."""
    rows = [row for row in run.metrics.values() if "timing_s/step" in row][-_RECENT:]
    spent = [row["timing_s/step"] + row.get("timing_s/testing", 0) for row in rows]
    return sum(spent) / len(spent) if spent else None


def clock(seconds: float) -> str:
    """A time as h:mm:ss."""
    whole = max(round(seconds), 0)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


class Watch:
    """What is known of a run, and how it is shown.

    Args:
        run_folder: the run's; it need not be there yet.
        log: the run's log.
        now: a clock, in seconds.
    """

    def __init__(
        self, run_folder: Path, log: RunLog, *, now: Callable[[], float] = time.monotonic
    ) -> None:
        self.folder, self.log, self._now = run_folder, log, now
        self.run: Run | None = None
        self.plan = Plan()
        self.started = now()
        self.begun: dict[str, float] = {}
        self._seen: list[tuple[str, int]] = []

    def look(self) -> list[str]:
        """Read what is new.

        Returns:
            Lines of the log that are meant for the user.
        """
        notes = self.log.read()
        self.begun = {phase: self.begun.get(phase, self._now()) for phase in self.log.phases}
        files = [(file.name, file.stat().st_size) for file in self.folder.glob("metrics*.jsonl")]
        if sorted(files) != self._seen and (self.folder / METRICS_FILE).is_file():
            self._seen = sorted(files)
            self.plan = read_plan(self.folder)
            try:
                self.run = read_run(self.folder)
            except ValueError:
                self.run = None  # created, nothing written yet
        return notes

    @property
    def step(self) -> int:
        """The newest step with metrics."""
        return self.run.last_step if self.run else 0

    @property
    def steps(self) -> int | None:
        """Steps that the run is to take; None until it is known."""
        return self.log.total_steps or self.plan.steps

    @property
    def trains(self) -> bool:
        """Whether the first step of this start is taken; without a log, whether any ever was."""
        if self.log.phases:
            return bool(self.log.step) and self.step > 0
        return self.step > 0

    @property
    def elapsed(self) -> str:
        """Time since the watch began."""
        return clock(self._now() - self.started)

    def facts(self) -> list[tuple[str, str, str]]:
        """Name, drawing and words of each thing that is shown while training."""
        if self.run is None:
            return []
        run, found = self.run, []
        right = rollout_accuracy(run)
        if right.values:
            found.append(("rollouts right", sparkline(right, low=0, high=1), _share(right, -1)))
        checked = mean_curve([one.curve for one in run.accuracies() if one.curve.values])
        if checked.values:
            words = _share(checked, 0)
            if len(checked.values) > 1:
                words += f" → {_share(checked, -1)} (step {checked.steps[-1]})"
            found.append(("validation", sparkline(checked, low=0, high=1), words))
        size = run.curve("interleave/buffer/size").values
        if size:
            found.append(("buffer", *self._buffer(size[-1])))
            found.append(("SFT intervals", "", self._intervals(run)))
        phase = run.curve("interleave/phase/sft").values
        if phase:
            found.append(("phase", "", "SFT" if phase[-1] else "RL"))
        taught = run.curve("interleave/mixed/taught_share")
        if taught.values:
            line = sparkline(taught, low=0, high=1)
            found.append(("taught by demonstration", line, _share(taught, -1)))
        return found

    @staticmethod
    def _intervals(run: Run) -> str:
        if not run.flushes:
            return "none yet"
        held = run.curve("interleave/hold/held_fraction").values
        still = f"; {held[-1]:.1%} held still" if held else ""
        return f"{len(run.flushes)}, last in step {run.flushes[-1]}{still}"

    def _buffer(self, waiting: float) -> tuple[str, str]:
        if not self.plan.buffer_size:
            return "", f"{waiting:.0f} hard questions"
        full = min(round(_BUFFER_BAR * waiting / self.plan.buffer_size), _BUFFER_BAR)
        return "█" * full + "░" * (_BUFFER_BAR - full), f"{waiting:.0f} of {self.plan.buffer_size}"

    def pace(self) -> str:
        """Seconds a step and the time left, as far as known."""
        seconds = step_seconds(self.run) if self.run else None
        if seconds is None:
            return ""
        left = ""
        if self.steps and self.steps > self.step:
            left = f", about {clock(seconds * (self.steps - self.step))} left"
        return f"{seconds:.1f} s a step{left}"

    def place(self) -> str:
        """Which step of how many."""
        return f"step {self.step}" + (f" of {self.steps}" if self.steps else "")

    def view(self) -> RenderableType:
        """What a terminal shows."""
        where = f", log: {self.log.path}" if self.log.path.is_file() else ""
        below = Text(f"{self.elapsed} so far{where}", style="dim", overflow="ellipsis")
        return Group(self._training_view() if self.trains else self._starting_view(), below)

    def _starting_view(self) -> RenderableType:
        table = Table.grid(padding=(0, 2))
        times = [*list(self.begun.values())[1:], self._now()]
        for number, (phase, end) in enumerate(zip(self.begun, times, strict=False), 1):
            done = number < len(self.begun)
            mark = Text("✓", style="green") if done else Text("…", style="bold")
            taken = f"{end - self.begun[phase]:.0f} s"
            table.add_row(mark, Text(phase, style="" if done else "bold"), Text(taken, "dim"))
        said = Text(self.log.latest, style="dim", no_wrap=True, overflow="ellipsis")
        return Group(table, said)

    def _training_view(self) -> RenderableType:
        top = Table.grid(padding=(0, 2))
        bar = ProgressBar(total=self.steps or None, completed=self.step, width=_BAR)
        top.add_row(Text(self.place(), style="bold"), bar, Text(self.pace()))
        facts = Table.grid(padding=(0, 2))
        for name, drawing, words in self.facts():
            facts.add_row(Text(name), Text(drawing, style="cyan"), Text(words))
        return Group(top, facts)

    def line(self) -> str:
        """What a log shows of a step."""
        words = [f"{name} {words}" for name, _, words in self.facts()]
        return f"{self.place()}: " + "; ".join([*words, self.pace()])

    def ending(self) -> list[str]:
        """How the run ended, with the reason when it did not end as it should."""
        if self.log.stopped:
            return [f"Stopped after {self.place()}; the same command goes on from here."]
        reasons = self.log.why()
        finished = self.steps is not None and self.step >= self.steps
        if finished and not any(line.startswith("Traceback") for line in reasons):
            return [f"Trained: {self.place()}."]
        when = f"after {self.place()}" if self.trains else "before step 1"
        if reasons and reasons[-1].startswith("KeyboardInterrupt"):
            return [f"Interrupted {when}; the same command goes on from the last checkpoint."]
        return [f"The run ended {when}.", *(f"    {line}" for line in reasons)]


def _share(curve: Curve, at: int) -> str:
    return f"{curve.values[at]:.0%}"
