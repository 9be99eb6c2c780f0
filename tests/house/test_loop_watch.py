"""The detector of blocked event loops can fail, and is silent on a loop that only waits."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.loop_watch import LIMIT_SECONDS, LoopWatch


@pytest.mark.blocks_loop("shows that the detector sees it")
async def test_a_callback_that_blocks_the_loop_is_seen_and_named(loop_watch: LoopWatch) -> None:
    block_the_loop()
    await asyncio.sleep(0)
    assert [block.seconds > LIMIT_SECONDS for block in loop_watch.blocks] == [True]
    assert "block_the_loop" in str(loop_watch.blocks[0])


def block_the_loop() -> None:
    end = time.monotonic() + 2 * LIMIT_SECONDS
    while time.monotonic() < end:
        time.sleep(0.01)


async def test_waiting_does_not_count_as_blocking_the_loop(loop_watch: LoopWatch) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1.5 * LIMIT_SECONDS):
            await asyncio.Event().wait()
    assert loop_watch.blocks == []
