"""The hard-example buffer: who goes, who comes back, and that nothing is lost."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mifo_ext.core.interleave import HardExampleBuffer, Totals, WaitingAge, waiting_age
from mifo_ext.core.outcomes import Observation
from tests.support.buffers import buffer, names, outcome, outcomes


def through_json(original: HardExampleBuffer, copy: HardExampleBuffer) -> HardExampleBuffer:
    copy.load_state_dict(json.loads(json.dumps(original.state_dict())))
    return copy


def test_an_interval_takes_the_oldest_and_leaves_the_rest() -> None:
    waiting = buffer(3)
    waiting.observe(outcomes("ab"), step=1)
    waiting.observe(outcomes("cdefg"), step=2)

    first, second = waiting.take(), waiting.take()

    assert (names(first), names(second), names(waiting.waiting)) == ("abc", "def", "g")
    assert (waiting.totals.flushes, waiting.totals.demonstrations) == (2, 6)


def test_taking_before_the_buffer_is_ready_is_refused() -> None:
    waiting = buffer(3)
    waiting.observe(outcomes("ab"), step=1)

    with pytest.raises(RuntimeError, match="`take` must find 3 waiting questions, but there are 2"):
        waiting.take()
    assert names(waiting.waiting) == "ab"


def test_what_an_interval_could_not_use_goes_back_to_the_front_as_if_never_taken() -> None:
    waiting = buffer(3)
    waiting.observe(outcomes("abcd"), step=1)
    before = waiting.totals

    waiting.give_back(waiting.take())

    assert names(waiting.waiting) == "abcd"
    assert waiting.ready
    assert waiting.totals == before.plus(skipped_flushes=1)


def test_an_interval_can_give_back_part_by_part_and_keeps_the_order() -> None:
    waiting = buffer(4)
    waiting.observe(outcomes("abcdef"), step=1)
    items = waiting.take()

    waiting.give_back(items[2:3])
    waiting.give_back(items[:1])
    waiting.give_back([])

    assert names(waiting.waiting) == "acef"
    assert (waiting.totals.flushes, waiting.totals.skipped_flushes) == (1, 0)
    assert waiting.totals.demonstrations == 2
    waiting.give_back([items[3], items[1]])
    assert names(waiting.waiting) == "abcdef"
    assert (waiting.totals.flushes, waiting.totals.skipped_flushes) == (0, 1)
    assert waiting.totals.demonstrations == 0


def test_only_what_was_last_taken_can_be_given_back_and_once() -> None:
    waiting = buffer(2)
    waiting.observe(outcomes("abcdef"), step=1)
    first = waiting.take()
    second = waiting.take()
    waiting.give_back(second[:1])

    for items in (first, second[:1], waiting.waiting[-1:]):
        with pytest.raises(ValueError, match="`items` must come from the last `take`"):
            waiting.give_back(items)
    waiting.observe([], step=2)
    with pytest.raises(ValueError, match="`items` must come from the last `take`"):
        waiting.give_back(second[1:])
    assert names(waiting.waiting) == "cef"


def test_giving_nothing_back_is_no_skipped_interval() -> None:
    waiting = buffer(1)

    waiting.give_back([])

    assert waiting.totals == Totals()


def test_questions_that_come_back_after_an_interval_are_counted() -> None:
    waiting = buffer(2)
    waiting.observe(outcomes("ab"), step=1)
    waiting.take()

    seen = waiting.observe(outcomes("ac"), step=2)

    assert (seen.added, seen.returned) == (2, 1)
    assert (waiting.totals.returned, waiting.distinct) == (1, 3)


def test_a_question_given_back_has_not_been_trained_on() -> None:
    waiting = buffer(1)
    waiting.observe(outcomes("a"), step=1)
    waiting.give_back(waiting.take())
    waiting.observe(outcomes("a"), step=2)  # waits still
    assert waiting.totals.returned == 0

    waiting.take()
    assert waiting.observe(outcomes("a"), step=3).returned == 1
    waiting.give_back(waiting.take())  # this time it was trained on before
    assert waiting.state_dict()["times_flushed"] == {"a": 1}


def test_waiting_age_counts_from_the_step_of_entry() -> None:
    waiting = buffer(9)
    waiting.observe(outcomes("ab"), step=3)
    waiting.observe(outcomes("ac", 1), step=6)

    assert waiting_age(waiting.waiting, step=6) == WaitingAge(mean=2.0, oldest=3)
    assert waiting_age([], step=6) is None


@pytest.mark.parametrize(("size", "hard_at_most"), [(0, 0.1), (-1, 0.1), (1, -0.1), (1, 1.1)])
def test_a_buffer_outside_its_range_is_refused(size: int, hard_at_most: float) -> None:
    with pytest.raises(ValueError, match=r"`(size|hard_at_most)` must be"):
        buffer(size, hard_at_most=hard_at_most)


def test_a_loaded_buffer_still_counts_no_step_twice() -> None:
    waiting = buffer()
    waiting.observe(outcomes("a"), step=5)

    loaded = through_json(waiting, buffer())

    with pytest.raises(ValueError, match="`step` must be after 5, but is 5"):
        loaded.observe(outcomes("b"), step=5)


def test_a_state_that_this_class_did_not_write_is_refused_and_changes_nothing() -> None:
    good = buffer()
    good.observe(outcomes("ab"), step=1)
    good.take()
    good.observe(outcomes("cd"), step=2)
    state = json.loads(json.dumps(good.state_dict()))
    entry = state["waiting"][0]
    broken: list[Any] = [
        {},
        state | {"version": 2},
        {key: value for key, value in state.items() if key != "times_flushed"},
        state | {"waiting": [entry, entry]},
        state | {"waiting": [entry | {"colour": "red"}]},
        state | {"waiting": [entry | {"question_id": 7}]},
        state | {"waiting": [entry | {"correct": -1}]},
        state | {"waiting": [entry | {"correct": "1"}]},
        state | {"times_flushed": {"a": -1}},
        state | {"times_flushed": {"a": 1.5}},
        state | {"times_flushed": 3},
        state | {"totals": state["totals"] | {"flushes": True}},
        state | {"totals": {"flashes": 1}},
        state | {"last_step": "2"},
    ]

    for bad in broken:
        with pytest.raises(ValueError, match=r"state|version"):
            good.load_state_dict(bad)
        assert good.state_dict() == state


class Waits(RuleBasedStateMachine):
    """Random runs against a plain list, with a save and load at any moment between steps."""

    def __init__(self) -> None:
        super().__init__()
        self.buffer = buffer(3, without="xyz")
        self.queue: list[str] = []
        self.used: list[str] = []
        self.last_taken: list[Any] = []
        self.step = 0
        self.seen: list[Observation] = []

    @rule(groups=st.lists(st.tuples(st.sampled_from("abcdefgxyz"), st.integers(0, 8)), max_size=6))
    def rl_step(self, groups: list[tuple[str, int]]) -> None:
        self.step += 1
        self.last_taken = []
        seen = self.buffer.observe([outcome(*group) for group in groups], step=self.step)
        for name, correct in groups:
            if correct <= 1 and name not in "xyz" and name not in self.queue:
                self.queue.append(name)
        assert seen.hard == sum(correct <= 1 for _, correct in groups)
        assert seen.hard == seen.added + seen.repeated + seen.without_demonstration
        assert sum(seen.histogram) + seen.incomplete == seen.questions == len(groups)
        self.seen.append(seen)

    @precondition(lambda self: self.buffer.ready)
    @rule()
    def sft_interval(self) -> None:
        self.last_taken = list(self.buffer.take())
        assert names(self.last_taken) == "".join(self.queue[:3])
        self.used += self.queue[:3]
        del self.queue[:3]

    @precondition(lambda self: self.last_taken)
    @rule(data=st.data())
    def skipped_step(self, data: st.DataObject) -> None:
        back = data.draw(st.lists(st.sampled_from(self.last_taken), min_size=1, unique=True))
        self.buffer.give_back(back)
        kept_order = [item for item in self.last_taken if item in back]
        self.queue = [item.question_id for item in kept_order] + self.queue
        for item in back:
            self.used.remove(item.question_id)
        self.last_taken = []

    @rule()
    def save_and_load(self) -> None:
        self.buffer = through_json(self.buffer, buffer(3, without="xyz"))
        self.last_taken = []

    @invariant()
    def nothing_is_lost(self) -> None:
        assert names(self.buffer.waiting) == "".join(self.queue)
        totals = self.buffer.totals
        assert totals.demonstrations == len(self.used)
        assert totals.added == len(self.used) + len(self.queue)
        assert totals.questions == sum(seen.questions for seen in self.seen)
        assert totals.returned == sum(seen.returned for seen in self.seen)
        assert self.buffer.distinct == len({*self.used, *self.queue})


TestRandomRuns = Waits.TestCase


TestRandomRuns.settings = settings(max_examples=50, stateful_step_count=25, deadline=None)


@given(st.permutations([(name, n % 4) for n, name in enumerate("abcdefgh")]))
def test_the_order_of_a_batch_changes_the_queue_only(groups: list[tuple[str, int]]) -> None:
    waiting, sorted_waiting = buffer(), buffer()

    seen = waiting.observe([outcome(*group) for group in groups], step=1)

    assert seen == sorted_waiting.observe([outcome(*group) for group in sorted(groups)], step=1)
    assert set(waiting.waiting) == set(sorted_waiting.waiting)
