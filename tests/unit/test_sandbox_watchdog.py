"""When a folder is walked: after its file system lost what the box may still take, and once a minute."""

from __future__ import annotations

from nanoclaw.sandbox.watchdog import decide_ceiling, decide_walk


def test_a_folder_is_walked_first_of_all_and_then_once_a_minute() -> None:
    assert decide_walk(lost_bytes=0, allowance_bytes=100, idle_seconds=float("inf"))
    assert not decide_walk(lost_bytes=0, allowance_bytes=100, idle_seconds=59)
    assert decide_walk(lost_bytes=0, allowance_bytes=100, idle_seconds=60)


def test_a_folder_is_walked_when_the_box_could_have_gone_over() -> None:
    assert not decide_walk(lost_bytes=99, allowance_bytes=100, idle_seconds=2)
    assert decide_walk(lost_bytes=100, allowance_bytes=100, idle_seconds=2)
    assert decide_walk(lost_bytes=0, allowance_bytes=0, idle_seconds=2)


def test_a_box_that_begins_over_its_limit_may_add_a_fiftieth_to_tidy_up_and_never_be_a_fifth_over() -> None:
    assert decide_ceiling(1000, 1000) == 1000
    assert decide_ceiling(1000, 1001) == 1021
    assert decide_ceiling(1000, 1190) == 1200
    assert decide_ceiling(1000, 5000) == 1200
