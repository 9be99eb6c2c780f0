"""The host's one TaskGroup: errors stop everything, a signal stops gracefully, nothing can hold a stop up."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import subprocess
import sys

import pytest

from nanoclaw.errors import StoreError
from nanoclaw.log import open_log
from nanoclaw.supervise import Supervisor, ThreadBlocking, wait_first


def supervisor(stop_seconds: float = 5.0) -> Supervisor:
    return Supervisor(open_log("debug", io.StringIO()), stop_seconds)


async def nothing() -> None:
    return None


async def test_an_error_of_one_service_stops_the_others_and_surfaces() -> None:
    ended: list[str] = []

    async def steady(stop: asyncio.Event) -> None:
        try:
            await stop.wait()
        finally:
            ended.append("steady")

    async def broken(stop: asyncio.Event) -> None:
        await asyncio.sleep(0)
        raise StoreError("the database is gone")

    with pytest.raises(BaseExceptionGroup) as caught:
        await supervisor().run({"steady": steady, "broken": broken}, nothing)
    assert ended == ["steady"] and caught.group_contains(StoreError, match="is gone")


async def test_an_error_that_leaves_spawned_work_surfaces_too() -> None:
    host = supervisor()

    async def breaks() -> None:
        raise StoreError("in the middle of a turn")

    async def service(stop: asyncio.Event) -> None:
        host.spawn(breaks(), "turn")
        await stop.wait()

    with pytest.raises(BaseExceptionGroup) as caught:
        await host.run({"service": service}, nothing)
    assert caught.group_contains(StoreError)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_drains_first_while_the_services_still_serve(number: signal.Signals) -> None:
    host, seen = supervisor(), list[str]()

    async def service(stop: asyncio.Event) -> None:
        os.kill(os.getpid(), number)
        await stop.wait()
        seen.append("service ended")

    async def drain() -> None:
        assert not host.stop.is_set()
        host.spawn(late(), "late")
        seen.append("drained")

    async def late() -> None:
        seen.append("spawned while draining")

    await host.run({"service": service}, drain)
    assert seen == ["drained", "service ended", "spawned while draining"] or seen == [
        "drained",
        "spawned while draining",
        "service ended",
    ]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


async def test_request_stop_stops_as_a_signal_does() -> None:
    host = supervisor()

    async def service(stop: asyncio.Event) -> None:
        host.request_stop()
        await stop.wait()

    async with asyncio.timeout(5):
        await host.run({"service": service}, nothing)


async def test_work_that_never_ends_does_not_hold_a_stop_up() -> None:
    host = supervisor(stop_seconds=0.05)
    cancelled: list[str] = []

    async def hangs() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append("hangs")

    async def service(stop: asyncio.Event) -> None:
        host.spawn(hangs(), "a platform that never answers")
        host.request_stop()
        await stop.wait()

    async with asyncio.timeout(5):
        await host.run({"service": service}, nothing)
    assert cancelled == ["hangs"]


async def test_nothing_can_be_spawned_before_or_after() -> None:
    host = supervisor()

    async def service(stop: asyncio.Event) -> None:
        host.request_stop()
        await stop.wait()

    for _ in range(2):
        with pytest.raises(RuntimeError, match="not running"):
            host.spawn(nothing(), "too early, or too late")
        await host.run({"service": service}, nothing)


async def test_spawning_while_everything_ends_for_an_error_hides_nothing() -> None:
    host = supervisor()

    async def spawns_at_the_end(stop: asyncio.Event) -> None:
        try:
            await stop.wait()
        finally:
            host.spawn(nothing(), "one more thing")

    async def broken(stop: asyncio.Event) -> None:
        raise StoreError("the cause")

    with pytest.raises(BaseExceptionGroup) as caught:
        await host.run({"spawns": spawns_at_the_end, "broken": broken}, nothing)
    assert [type(error) for error in caught.value.exceptions] == [StoreError]


SECOND_SIGNAL = """
import asyncio, os, signal, sys
from nanoclaw.log import open_log
from nanoclaw.supervise import Supervisor

async def service(stop):
    os.kill(os.getpid(), signal.SIGTERM)
    await stop.wait()

async def drain():
    print("draining", flush=True)
    await asyncio.Event().wait()

asyncio.run(Supervisor(open_log("error")).run({"service": service}, drain))
"""


def test_a_second_signal_ends_the_process_at_once() -> None:
    process = subprocess.Popen([sys.executable, "-c", SECOND_SIGNAL], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "draining\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 128 + signal.SIGTERM
    process.stdout.close()


async def test_wait_first_returns_at_the_first_event_and_leaves_no_task() -> None:
    events = [asyncio.Event() for _ in range(3)]
    before = asyncio.all_tasks()
    waiting = asyncio.ensure_future(wait_first(*events))
    await asyncio.sleep(0)
    assert not waiting.done()
    events[1].set()
    await waiting
    assert asyncio.all_tasks() == before
    await wait_first(*events)


async def test_blocking_work_runs_beside_the_loop_and_its_errors_come_back() -> None:
    blocking = ThreadBlocking()
    assert await blocking(sorted, [3, 1, 2], reverse=True) == [3, 2, 1]
    with pytest.raises(ZeroDivisionError):
        await blocking(divmod, 1, 0)
    blocking.close()
