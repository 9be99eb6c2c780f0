"""Ids go up, whatever the clock does."""

from __future__ import annotations

import threading

from hypothesis import given
from hypothesis import strategies as st
from ulid import ULID

from nanoclaw.ids import UlidSource
from nanoclaw.testing.fakes import ManualClock


@given(st.lists(st.integers(-(10**9), 10**9), max_size=60))
def test_ids_go_up_over_a_clock_that_stands_still_jumps_and_is_set_back(steps: list[int]) -> None:
    clock = ManualClock()
    new_id = UlidSource(clock)
    ids = [new_id()]
    for step in steps:
        if step < 0:
            clock.set_back(-step / 1000)
        else:
            clock.advance(step / 1000)
        ids.append(new_id())
    assert ids == sorted(set(ids)) and all(len(item) == 26 for item in ids)


def test_an_id_tells_when_it_was_made() -> None:
    clock = ManualClock(1_234_567_890_123)
    assert ULID.from_str(UlidSource(clock)()).milliseconds == 1_234_567_890_123


def test_ids_go_on_after_those_of_the_life_before() -> None:
    clock = ManualClock()
    last = UlidSource(clock)()
    clock.set_back(3600)
    after = UlidSource(clock, floor=last)
    assert last < after() < after()


def test_two_lives_that_go_on_after_the_same_id_make_different_ones() -> None:
    """The floor is that of one table: the life before may have made ids after it, for others."""
    clock = ManualClock()
    floor = UlidSource(clock)()
    clock.set_back(3600)
    lives = [UlidSource(clock, floor) for _ in range(2)]
    assert not {lives[0]() for _ in range(1000)} & {lives[1]() for _ in range(1000)}


def test_threads_never_get_the_same_id() -> None:
    new_id = UlidSource(ManualClock())
    made: list[list[str]] = [[] for _ in range(4)]

    def make(into: list[str]) -> None:
        into.extend(new_id() for _ in range(500))

    threads = [threading.Thread(target=make, args=(into,)) for into in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({item for into in made for item in into}) == 2000
