"""Seats for boxes: never more than there are, agent groups take turns, nobody starves."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from nanoclaw.domain.limits import GIB, Limits
from nanoclaw.domain.session import SessionId
from nanoclaw.flow.seats import FEWEST, MOST, Seats, Wanted, decide_seat_count, decide_seats_of

COUNT = 3


class Bench:
    """Seats with a clock and a memory of their own."""

    def __init__(self, count: int = COUNT) -> None:
        self.now, self.memory = 0.0, True
        self.called: list[str] = []
        self.seats = Seats(count, lambda: self.now, lambda: self.memory)
        self.seats.call = self.called.append

    def take(self, name: str, seats: int = 1) -> bool:
        """`a1` is a session of group `a`."""
        return self.seats.take(Wanted(SessionId(name), name[0], seats))

    def leave(self, name: str) -> None:
        self.seats.leave(SessionId(name))

    def queue(self) -> list[str]:
        return [waiting.wanted.session for waiting in self.seats.in_order()]


def test_a_busy_group_does_not_stand_before_the_others_and_order_is_kept_inside_it() -> None:
    bench = Bench(1)
    assert bench.take("a0")
    for name in ("a1", "a2", "a3", "b1", "c1", "b2"):
        assert not bench.take(name)
    assert bench.queue() == ["a1", "b1", "c1", "a2", "b2", "a3"]
    assert bench.seats.places()[SessionId("b1")] == 2
    for previous, name in zip(["a0", *bench.queue()], bench.queue(), strict=False):
        bench.leave(previous)
        assert bench.called[-1] == name
        assert bench.take(name)


def test_who_came_when_seats_were_free_again_does_not_pass_those_who_wait() -> None:
    bench = Bench(1)
    bench.take("a0")
    bench.take("b1")
    bench.leave("a0")
    assert not bench.take("c1")
    assert bench.take("b1")


def test_asking_again_keeps_the_place_and_leaving_gives_it_up() -> None:
    bench = Bench(1)
    for name in ("a0", "b1", "c1"):
        bench.take(name)
    assert not bench.take("b1")
    assert bench.queue() == ["b1", "c1"]
    bench.leave("b1")
    assert bench.queue() == ["c1"]


def test_a_box_that_takes_several_seats_is_waited_for_and_one_larger_than_all_runs_alone() -> None:
    bench = Bench(3)
    assert bench.take("a1")
    assert not bench.take("b1", 9)
    assert not bench.take("c1")
    assert bench.seats.short == 8
    bench.leave("a1")
    assert bench.called == ["b1"]
    bench.leave("b1")
    assert bench.called == ["b1", "c1"]


def test_without_memory_only_a_box_alone_starts_and_the_rest_is_called_when_there_is_some() -> None:
    bench = Bench()
    bench.memory = False
    assert bench.take("a1")
    assert not bench.take("b1")
    bench.memory = True
    bench.seats.keep({SessionId("b1")}, bench.seats.unseated())
    assert bench.called == ["b1"]


def test_one_that_was_called_and_for_whom_nothing_is_due_any_more_gives_its_seat_to_the_next() -> None:
    bench = Bench(1)
    for name in ("a0", "b1", "c1", "d1"):
        bench.take(name)
    bench.leave("a0")
    bench.seats.keep({SessionId("d1")}, bench.seats.unseated())
    assert bench.called == ["b1", "d1"]
    assert bench.take("d1")
    bench.seats.keep(set(), {SessionId("d1")})  # it has begun meanwhile: its rows are claimed, and so not due
    assert bench.seats.at_work == 1


def test_a_chat_is_told_once_and_only_after_three_seconds() -> None:
    bench = Bench(1)
    bench.take("a0")
    bench.take("b1")
    bench.now = 2.9
    assert bench.seats.take_untold() == []
    bench.now = 3.0
    ((session, words),) = bench.seats.take_untold()
    assert session == "b1"
    assert "1 assistant is at work" in words
    assert "number 1 in the queue" in words
    assert bench.seats.take_untold() == []


def test_after_a_minute_boxes_at_work_are_to_take_nothing_more() -> None:
    bench = Bench(1)
    bench.take("a0")
    bench.take("b1")
    bench.now = 60.0
    assert not bench.seats.is_pressed
    bench.now = 60.1
    assert bench.seats.is_pressed


@pytest.mark.parametrize(
    ("asked", "total", "seats"),
    [(5, 100, 5), (0, None, FEWEST), (0, 512, FEWEST), (0, 4096, 7), (0, 10**6, MOST)],
)
def test_seats_are_counted_by_the_machines_memory_unless_a_number_is_set(
    asked: int, total: int | None, seats: int
) -> None:
    assert decide_seat_count(asked, total, 512) == seats


@given(st.integers(1, 100 * GIB))
def test_a_box_takes_a_seat_for_every_two_gigabytes_it_may_use(memory: int) -> None:
    seats = decide_seats_of(Limits(memory_bytes=memory))
    assert (seats - 1) * 2 * GIB < memory <= seats * 2 * GIB


class SeatsForAll(RuleBasedStateMachine):
    """Sessions of three groups come, work and go in any order; the model knows only who has a seat."""

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench()
        self.working: dict[str, int] = {}
        self.passed = Counter[str]()  # how often others were called since a group's first session waits

    @rule(name=st.sampled_from([f"{group}{n}" for group in "abc" for n in range(4)]), seats=st.integers(1, 2))
    def come(self, name: str, seats: int) -> None:
        if name not in self.working and self.bench.take(name, seats):
            self.working[name] = seats

    @precondition(lambda self: self.working)
    @rule(data=st.data())
    def go(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.working)))
        sizes = {waiting.wanted.session: waiting.wanted.seats for waiting in self.bench.seats.in_order()}
        del self.working[name]
        self.bench.called.clear()
        self.bench.leave(name)
        for called in self.bench.called:
            self.working[called] = sizes.pop(SessionId(called))
            assert self.bench.take(called)
            self.passed = Counter({w[0]: self.passed[w[0]] + 1 for w in sizes if w[0] != called[0]})

    @rule(name=st.sampled_from([f"{group}{n}" for group in "abc" for n in range(4)]))
    def give_up(self, name: str) -> None:
        if name in self.bench.queue()[1:]:
            self.bench.leave(name)
            self.passed = Counter({w[0]: self.passed[w[0]] for w in self.bench.queue()})

    @invariant()
    def never_more_than_there_are(self) -> None:
        assert sum(self.working.values()) <= COUNT

    @invariant()
    def no_group_is_passed_over_by_more_than_all_others_once(self) -> None:
        assert all(count <= 2 for count in self.passed.values()), self.passed

    @invariant()
    def a_free_seat_is_never_kept_from_who_fits_it(self) -> None:
        free = COUNT - sum(self.working.values())
        first = next(self.bench.seats.in_order(), None)
        assert first is None or first.wanted.seats > free


TestSeatsForAll = SeatsForAll.TestCase
TestSeatsForAll.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
