"""When a folder is walked: after its file system lost what the box may still take, and once a minute."""

from __future__ import annotations

from nanoclaw.sandbox.watchdog import decide_walk


def test_a_folder_is_walked_first_of_all_and_then_once_a_minute() -> None:
    assert decide_walk(lost_bytes=0, allowance_bytes=100, idle_seconds=float("inf"))
    assert not decide_walk(lost_bytes=0, allowance_bytes=100, idle_seconds=59)
    assert decide_walk(lost_bytes=0, allowance_bytes=100, idle_seconds=60)


def test_a_folder_is_walked_when_the_box_could_have_gone_over() -> None:
    assert not decide_walk(lost_bytes=99, allowance_bytes=100, idle_seconds=2)
    assert decide_walk(lost_bytes=100, allowance_bytes=100, idle_seconds=2)
    assert decide_walk(lost_bytes=0, allowance_bytes=0, idle_seconds=2)
