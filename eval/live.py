"""The figures of each benchmark as soon as its last sample is there, while others are drawn."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.text import Text

from mifo_ext.eval.grading import grade_samples, grades_path
from mifo_ext.eval.metrics import run_result
from mifo_ext.eval.plan import Plan
from mifo_ext.eval.record import GradeLine, Sample
from mifo_ext.eval.store import Log


class LiveFigures:
    """Grades finished benchmarks, and prints a line for each.

    An unfinished one gets no figure: short responses end first, so it would be biased.
    """

    def __init__(self, plan: Plan, folder: Path, *, grader: str, console: Console) -> None:
        """Prepare.

        Args:
            plan: what is asked.
            folder: the run's; verdicts are kept there.
            grader: whose verdicts count.
            console: where lines are printed.
        """
        self._plan, self._folder = plan, folder
        self._grader, self._console = grader, console

    def show(self, benchmark: str, samples: Log[Sample]) -> None:
        """Grade a benchmark whose every sample is there, and print its figure.

        Args:
            benchmark: its name.
            samples: of the whole run.
        """
        problems = self._plan.askings[benchmark].loaded.problems
        drawn = [one for one in samples.records.values() if one.benchmark == benchmark]
        with Log(grades_path(self._folder, self._grader), GradeLine) as log:
            grade_samples(
                log,
                drawn,
                grader=self._grader,
                golds={(one.benchmark, one.id): one.gold for one in problems},
                thinks=self._plan.thinks,
            )
            grades = [log.records[sample.place] for sample in drawn]
        (result,) = run_result(
            benchmark,
            grader=self._grader,
            problems=problems,
            samples=drawn,
            grades=grades,
            planned={benchmark: self._plan.samples[benchmark]},
        ).benchmarks
        value, low, high = (100 * share for share in result.accuracy)
        self._console.print(
            Text(f"{benchmark}: avg@{result.samples} {value:.1f} [{low:.1f}, {high:.1f}]")
        )
