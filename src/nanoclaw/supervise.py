"""The host's one TaskGroup, its signals, its stop event and the deadline of a stop.

A service is `async def run(self, stop)`. When one ends with an error the others are stopped and the error is the
host's. A first SIGTERM or SIGINT stops gracefully; a second ends the process at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

from nanoclaw.log import Log

P = ParamSpec("P")
T = TypeVar("T")

STOP_SECONDS = 5.0  # what work that is under way at a stop has left, once the runs are drained
WORKERS = 8  # threads for mailbox files and other blocking work


class ThreadBlocking:
    """Runs blocking work in a thread pool of the host's own."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="blocking")

    async def __call__(self, work: Callable[P, T], /, *arguments: P.args, **named: P.kwargs) -> T:
        """Return `work(*arguments)`; raises what it raised."""
        return await asyncio.wrap_future(self._pool.submit(work, *arguments, **named))

    def close(self) -> None:
        """Wait for what runs."""
        self._pool.shutdown(wait=True)


class Supervisor:
    """Owns every task of the host."""

    def __init__(self, log: Log, stop_seconds: float = STOP_SECONDS) -> None:
        self.stop = asyncio.Event()
        self._log = log
        self._stop_seconds = stop_seconds
        self._group: asyncio.TaskGroup | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._ending = False

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Start `work` in the host's TaskGroup; an error that leaves it stops the host. At its end nothing starts."""
        if self._group is None:
            work.close()
            raise RuntimeError("the supervisor is not running")
        if self._ending:
            work.close()
            return
        try:
            task = self._group.create_task(work, name=name)
        except RuntimeError:  # the group ends for an error, which is the one to be told
            work.close()
            return
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def run(
        self,
        services: dict[str, Callable[[asyncio.Event], Coroutine[Any, Any, None]]],
        drain: Callable[[], Coroutine[Any, Any, None]],
    ) -> None:
        """Run the services until a signal or an error; `drain` runs first at a stop, while they still serve."""
        loop = asyncio.get_running_loop()
        asked = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled, asked, number)
        try:
            async with asyncio.TaskGroup() as group:
                self._group, self._ending = group, False
                for name, service in services.items():
                    self.spawn(service(self.stop), name)
                group.create_task(self._drain(asked, drain), name="drain")
        finally:
            self._group = None
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    async def _drain(self, asked: asyncio.Event, drain: Callable[[], Coroutine[Any, Any, None]]) -> None:
        await asked.wait()
        self._log.info("host.stop_requested")
        await drain()
        self.stop.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._stop_seconds):
                while self._tasks:
                    await asyncio.wait(self._tasks)
        self._ending = True
        for task in self._tasks:  # a platform that never answers, a disk that stays full: what is written is written
            self._log.warning("task.cancelled", task=task.get_name())
            task.cancel()

    def request_stop(self) -> None:
        """Stop gracefully, as SIGTERM does."""
        os.kill(os.getpid(), signal.SIGTERM)

    def _signalled(self, asked: asyncio.Event, number: int) -> None:
        if asked.is_set():
            self._log.warning("host.killed", signal=number)
            os._exit(128 + number)
        asked.set()


async def wait_first(*events: asyncio.Event) -> None:
    """Return when any of the events is set."""
    tasks = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
