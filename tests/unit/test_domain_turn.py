"""Retry rules, ends and outcomes: pure."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanoclaw.domain.session import RunEnd
from nanoclaw.domain.turn import (
    DELIVERY_ATTEMPTS,
    MAX_ATTEMPTS,
    Bury,
    Outcome,
    Requeue,
    TurnFacts,
    decide_delivery_retry,
    decide_retry,
    decide_turn_end,
    describe_end,
)

OURS = {RunEnd.IDLE, RunEnd.STOPPED, RunEnd.STOPPED_BY_PERSON, RunEnd.HOST_DIED}


@pytest.mark.parametrize("end", [end for end in RunEnd if end not in OURS])
def test_a_broken_run_is_tried_again_after_5_and_20_seconds_and_then_given_up(end: RunEnd) -> None:
    assert decide_retry(1, end, "", 1000) == Requeue(6_000)
    assert decide_retry(2, end, "", 1000) == Requeue(21_000)
    given_up = decide_retry(3, end, "why", 1000)
    assert isinstance(given_up, Bury) and given_up.words == (
        f"I gave up on this message after 3 tries: {describe_end(end, 'why')}"
    )


@pytest.mark.parametrize("end", sorted(OURS))
def test_the_hosts_own_stop_costs_no_wait(end: RunEnd) -> None:
    assert decide_retry(1, end, "", 1000) == Requeue(1000)
    assert decide_retry(2, end, "", 1000) == Requeue(1000)


@given(st.integers(1, 50), st.sampled_from(RunEnd), st.integers(0, 2**45))
def test_a_row_is_given_up_from_the_third_failure_on_and_never_waits_into_the_past(
    failures: int, end: RunEnd, now: int
) -> None:
    match decide_retry(failures, end, "", now):
        case Requeue(at):
            assert failures < MAX_ATTEMPTS and at >= now
        case Bury(words):
            assert failures >= MAX_ATTEMPTS and words


@pytest.mark.parametrize("end", list(RunEnd))
def test_every_end_is_said_in_a_sentence_of_its_own_with_the_detail_when_there_is_one(end: RunEnd) -> None:
    assert describe_end(end, "").endswith(".") and "(" not in describe_end(end, "")
    is_limit = end in (RunEnd.MEMORY, RunEnd.DISK)  # whose detail says it all, with its figures
    assert describe_end(end, "exit 7") == ("exit 7" if is_limit else f"{describe_end(end, '')} (exit 7)")
    assert len({describe_end(other, "") for other in RunEnd}) == len(RunEnd)


FLAGS = list(itertools.product([False, True], repeat=7))


@pytest.mark.parametrize("flags", FLAGS)
def test_only_overheard_chatter_and_what_others_still_work_on_may_end_without_a_word(
    flags: tuple[bool, bool, bool, bool, bool, bool, bool],
) -> None:
    facts = TurnFacts(*flags)
    end = decide_turn_end(facts)
    if facts.said:
        assert (end.outcome, end.words) == (Outcome.REPLIED, "")
    elif facts.noticed:
        assert (end.outcome, end.words) == (Outcome.FAILED, "")
    elif facts.is_waiting or facts.was_heard or (facts.is_group and not (facts.is_mention or facts.is_command)):
        assert (end.outcome, end.words) == (Outcome.SILENT, "")
    else:
        assert end.outcome is Outcome.FAILED and end.words


def test_a_delivery_backs_off_1_5_20_60_seconds_and_is_given_up_at_the_fifth() -> None:
    waits = [decide_delivery_retry(attempt, 0, None, permanent=False) for attempt in range(1, DELIVERY_ATTEMPTS + 1)]
    assert waits == [1_000, 5_000, 20_000, 60_000, None]


def test_a_permanent_refusal_is_never_repeated() -> None:
    assert decide_delivery_retry(1, 0, 5.0, permanent=True) is None


@given(st.integers(1, 4), st.integers(0, 2**45), st.one_of(st.none(), st.floats(0, 1e6)))
def test_a_platform_is_never_asked_before_the_time_it_named(attempt: int, now: int, after: float | None) -> None:
    at = decide_delivery_retry(attempt, now, after, permanent=False)
    assert at is not None and at >= now + 1000 and at >= now + int(min(after or 0, 86_400) * 1000)
