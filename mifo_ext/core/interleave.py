"""When RL pauses for SFT, and on which questions: the hard-example buffer.

Plain Python. The buffer holds question ids; whoever trains looks the demonstrations up.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

from mifo_ext.core.outcomes import Observation, Outcome, is_hard

_STATE_VERSION = 1


class WaitingQuestion(NamedTuple):
    """A hard question in the buffer.

    Attributes:
        question_id: names the question.
        correct: right rollouts when last seen complete.
        received: rollouts when last seen complete.
        first_step: step that put it into the buffer; its age counts from here.
        newest_step: step of the newest accuracy.
    """

    question_id: str
    correct: int
    received: int
    first_step: int
    newest_step: int


@dataclass(frozen=True)
class Totals:
    """Counts since the run began, resumes included.

    Attributes:
        questions: rollout groups seen: RL samples.
        hard, incomplete, added, repeated, eased, without_demonstration, returned,
            twice_in_batch: sums of what the steps' `Observation`s count.
        flushes: SFT intervals that used at least one demonstration.
        skipped_flushes: SFT intervals whose demonstrations were all given back.
        demonstrations: demonstrations used: SFT samples.
    """

    questions: int = 0
    hard: int = 0
    incomplete: int = 0
    added: int = 0
    repeated: int = 0
    eased: int = 0
    without_demonstration: int = 0
    returned: int = 0
    twice_in_batch: int = 0
    flushes: int = 0
    skipped_flushes: int = 0
    demonstrations: int = 0

    def plus(self, **counts: int) -> "Totals":
        """Add to the named counts."""
        return replace(self, **{name: getattr(self, name) + n for name, n in counts.items()})


class WaitingAge(NamedTuple):
    """How long questions have waited, in steps."""

    mean: float
    oldest: int


def waiting_age(items: Sequence[WaitingQuestion], *, step: int) -> WaitingAge | None:
    """Summarise how long the questions have waited at `step`; None if there are none."""
    ages = [step - item.first_step for item in items]
    return WaitingAge(sum(ages) / len(ages), max(ages)) if ages else None


class HardExampleBuffer:
    """Hard questions waiting for the next SFT interval (MIFO, algorithm 1).

    A question waits once, oldest first. Nothing is lost: what exceeds one interval waits for
    the next, and what an interval could not use is given back to the front.

    Args:
        size: questions of one SFT interval, at least 1; S in the paper.
        hard_at_most: highest accuracy that counts as hard, in [0, 1]; p in the paper.
        has_demonstration: whether a question id has a verified demonstration; a mapping's
            `__contains__` will do.

    Raises:
        ValueError: if `size` or `hard_at_most` is out of range.
    """

    def __init__(
        self, *, size: int, hard_at_most: float, has_demonstration: Callable[[str], bool]
    ) -> None:
        if size < 1:
            raise ValueError(f"`size` must be at least 1, but is {size}.")
        if not 0 <= hard_at_most <= 1:
            raise ValueError(f"`hard_at_most` must be in [0, 1], but is {hard_at_most}.")
        self._size = size
        self._hard_at_most = hard_at_most
        self._has_demonstration = has_demonstration
        self._waiting: dict[str, WaitingQuestion] = {}  # a dict keeps the order of entry
        self._taken: dict[str, WaitingQuestion] = {}  # by the last `take`; may be given back
        self._times_flushed: Counter[str] = Counter()
        self._totals = Totals()
        self._last_step: int | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def waiting(self) -> tuple[WaitingQuestion, ...]:
        """The questions that wait, oldest first."""
        return tuple(self._waiting.values())

    @property
    def ready(self) -> bool:
        """Whether enough questions wait for an SFT interval."""
        return len(self._waiting) >= self._size

    @property
    def totals(self) -> Totals:
        """Counts since the run began."""
        return self._totals

    @property
    def distinct(self) -> int:
        """Different questions that have ever been in the buffer."""
        return len(self._waiting.keys() | self._times_flushed.keys())

    def observe(self, outcomes: Iterable[Outcome], *, step: int) -> Observation:
        """Take in one step's rollout groups, padding and filtered ones sorted out by the caller.

        Args:
            outcomes: one per group, in the order in which new questions shall queue.
            step: the RL step; each step is observed once.

        Returns:
            What the outcomes held.

        Raises:
            ValueError: if `step` was observed before, or groups expect different numbers of
                rollouts. The buffer is then unchanged.
        """
        outcomes = list(outcomes)
        if self._last_step is not None and step <= self._last_step:
            raise ValueError(
                f"`step` must be after {self._last_step}, but is {step}. Observe a step once, "
                "with all its groups; a replayed step needs the buffer's state from before it."
            )
        sizes = {outcome.expected for outcome in outcomes}
        if len(sizes) > 1:
            raise ValueError(f"`expected` must be the same for all groups, but is {sorted(sizes)}.")
        counts = Counter(name for outcome in outcomes for name in self._judge(outcome, step))
        counts["questions"] = len(outcomes)
        counts["twice_in_batch"] = len(outcomes) - len({o.question_id for o in outcomes})
        self._totals = self._totals.plus(**counts)
        self._last_step = step
        self._taken = {}
        right = Counter(outcome.correct for outcome in outcomes if outcome.complete)
        histogram = tuple(right[n] for n in range(max(sizes) + 1)) if sizes else ()
        names = (name for name in Observation._fields if name != "histogram")
        return Observation(**{name: counts[name] for name in names}, histogram=histogram)

    def take(self) -> tuple[WaitingQuestion, ...]:
        """Take the oldest `size` questions out for an SFT interval; the rest stays.

        Raises:
            RuntimeError: if fewer wait.
        """
        if not self.ready:
            raise RuntimeError(
                f"`take` must find {self._size} waiting questions, but there are {len(self)}. "
                "Ask `ready` first."
            )
        items = self.waiting[: self._size]
        self._taken = {item.question_id: item for item in items}
        for item in items:
            del self._waiting[item.question_id]
        self._times_flushed.update(self._taken.keys())
        self._totals = self._totals.plus(flushes=1, demonstrations=len(items))
        return items

    def give_back(self, items: Iterable[WaitingQuestion]) -> None:
        """Return questions of the last `take` that SFT could not use, to the front, in order.

        For a skipped optimizer step (its gradient was not finite). Samples and flushes are
        counted as if these had never been taken.

        Args:
            items: some or all of what the last `take` returned, before the next `observe`.

        Raises:
            ValueError: if an item was not part of the last `take`, or was given back already.
        """
        back = {item.question_id for item in items}
        if foreign := sorted(back - (self._taken.keys() - self._waiting.keys())):
            raise ValueError(
                f"`items` must come from the last `take`, but {foreign} did not, or were given "
                "back already."
            )
        self._times_flushed -= Counter(back)  # drops the names that fall to zero
        # In the order of entry, also when one interval gives back in several parts.
        front = {
            name: item
            for name, item in self._taken.items()
            if name in back or name in self._waiting
        }
        self._waiting = front | self._waiting
        nothing_used = back != set() and front.keys() == self._taken.keys()
        self._totals = self._totals.plus(
            demonstrations=-len(back), flushes=-nothing_used, skipped_flushes=+nothing_used
        )

    def state_dict(self) -> dict[str, Any]:
        """Describe the buffer between two steps in JSON's types.

        What a `take` may still give back is not part of it: save after the interval is over.
        """
        return {
            "version": _STATE_VERSION,
            "last_step": self._last_step,
            "waiting": [item._asdict() for item in self._waiting.values()],
            "times_flushed": dict(self._times_flushed),
            "totals": asdict(self._totals),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state_dict`'s answer, also after a trip through JSON.

        Raises:
            ValueError: if the state is not one that this class writes. The buffer is then
                unchanged.
        """
        try:
            loaded = _parse_state(state)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"`state` must be what `HardExampleBuffer.state_dict` wrote, but is not: {error!r}."
            ) from error
        self._waiting, self._times_flushed, self._totals, self._last_step = loaded
        self._taken = {}

    def _judge(self, outcome: Outcome, step: int) -> tuple[str, ...]:
        """Put a question where it belongs; name the counts it goes into."""
        if not outcome.complete:
            return ("incomplete",)
        name = outcome.question_id
        hard = is_hard(outcome, hard_at_most=self._hard_at_most)
        if name in self._waiting:
            self._waiting[name] = self._waiting[name]._replace(
                correct=outcome.correct, received=outcome.received, newest_step=step
            )
            return ("hard", "repeated") if hard else ("eased",)
        if not hard:
            return ()
        if not self._has_demonstration(name):
            return ("hard", "without_demonstration")
        self._waiting[name] = WaitingQuestion(
            name, outcome.correct, outcome.received, first_step=step, newest_step=step
        )
        return ("hard", "added", "returned") if self._times_flushed[name] else ("hard", "added")


class _State(NamedTuple):
    waiting: dict[str, WaitingQuestion]
    times_flushed: Counter[str]
    totals: Totals
    last_step: int | None


def _parse_state(state: Mapping[str, Any]) -> _State:
    if state["version"] != _STATE_VERSION:
        raise ValueError(
            f"`version` must be {_STATE_VERSION}, but is {state['version']!r}. Resume with the "
            "mifo-ext that wrote this checkpoint."
        )
    items = [WaitingQuestion(**item) for item in state["waiting"]]
    flushed = dict(state["times_flushed"])
    totals = Totals(**state["totals"])
    last_step = state["last_step"]

    names = [item.question_id for item in items]
    numbers = [n for item in items for n in item[1:]]
    numbers += [*flushed.values(), *asdict(totals).values()]
    numbers += [] if last_step is None else [last_step]
    if not all(isinstance(name, str) for name in [*names, *flushed]):
        raise ValueError("Question ids in a buffer's state must be strings, but some are not.")
    if not all(type(n) is int and n >= 0 for n in numbers):
        raise ValueError("Counts in a buffer's state must be whole numbers >= 0, but some are not.")
    if len(set(names)) != len(names):
        raise ValueError("A question must wait once, but the buffer's state has some twice.")
    return _State({item.question_id: item for item in items}, Counter(flushed), totals, last_step)
