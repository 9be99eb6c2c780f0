"""A box that floods the gateway is slowed: every refusal and every call is a row that is kept for ever."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path

from nanoclaw.gateway.boxes import Pace
from tests.flow.gateway_bench import SMALL, running
from tests.flow.gateway_stand import ROUTE, Line


async def test_what_goes_at_once_does_not_wait_and_the_rest_waits_its_turn() -> None:
    pace = Pace(per_second=20, burst=5)
    started = time.monotonic()
    for _ in range(5):
        await pace.wait()
    assert time.monotonic() - started < 0.05
    await asyncio.gather(*(pace.wait() for _ in range(4)))
    assert 0.19 < time.monotonic() - started < 1


async def test_a_rest_makes_up_for_what_went_before() -> None:
    pace = Pace(per_second=100, burst=2)
    for _ in range(4):
        await pace.wait()
    pace.free_at -= 10
    started = time.monotonic()
    await pace.wait()
    await pace.wait()
    assert time.monotonic() - started < 0.01


async def test_refusals_and_calls_of_a_box_are_slowed_apart(tmp_path: Path) -> None:
    limits = replace(SMALL, refusals_at_once=2, refusals_per_second=10.0, calls_at_once=3, calls_per_second=10.0)
    async with running(tmp_path, limits) as bench, bench.open() as line:
        assert await took(line, "/nowhere", 4) >= 0.19
        assert await took(line, ROUTE, 3) < 0.19
        assert await took(line, ROUTE, 2) >= 0.09
        assert len([row for row in bench.rows() if row.event == "refused"]) == 4


async def test_what_the_agents_program_reports_home_does_not_slow_other_refusals(tmp_path: Path) -> None:
    limits = replace(SMALL, refusals_at_once=2, refusals_per_second=2.0)
    async with running(tmp_path, limits) as bench, bench.open() as line:
        assert await took(line, "/anthropic/api/event_logging/batch", 3) >= 0.49
        assert await took(line, "/nowhere", 2) < 0.4
        assert [row.rule for row in bench.rows()] == ["telemetry"] * 3 + ["default"] * 2


async def took(line: Line, target: str, count: int) -> float:
    started = time.monotonic()
    for _ in range(count):
        await line.call(target)
    return time.monotonic() - started
