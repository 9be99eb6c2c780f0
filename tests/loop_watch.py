"""An event loop that knows when it was blocked, and by what.

Blocked: the time between two looks of the loop at its selector, that is the longest any event may have waited. Time
for which this thread was ready but had no processor (other work on a noisy machine, `schedstat`) does not count. The
house rule is 50 ms; a test fails at 4 times that, because the interpreter lock of worker threads cannot be told apart
from a call that sleeps. blockbuster was tried instead: it forbids every `stat` and `read` however short, which the
rule does not, and patches modules to do so. asyncio's debug mode only logs, and slows every callback.
"""

from __future__ import annotations

import asyncio
import contextlib
import selectors
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass

LIMIT_SECONDS = 0.05 * 4


@dataclass(frozen=True, slots=True)
class Block:
    """One time that the loop was blocked; `stack` is what it did in the middle of it, may be empty."""

    seconds: float
    stack: str

    def __str__(self) -> str:
        return f"the event loop was blocked for {self.seconds * 1000:.0f} ms by:\n{self.stack or '(not seen)'}"


class _WatchedSelector(selectors.DefaultSelector):
    """Tells its watch when the loop leaves the selector and when it is back."""

    def __init__(self, watch: LoopWatch) -> None:
        super().__init__()
        self._watch = watch

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self._watch.loop_waits()
        try:
            return super().select(timeout)
        finally:
            self._watch.loop_works()


class LoopWatch:
    """Watches one event loop at a time: that of the test that runs."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self._since: float | None = None
        self._starved = 0.0
        self._thread = 0
        self._stack = ""

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        """Make the loop of one test."""
        self._since = None
        return asyncio.SelectorEventLoop(_WatchedSelector(self))

    def loop_works(self) -> None:
        """The loop has left its selector: from now on it keeps events waiting."""
        self._stack = ""
        self._thread = threading.get_ident()
        self._starved = _starved_seconds()
        self._since = time.monotonic()

    def loop_waits(self) -> None:
        """The loop is back at its selector."""
        since, self._since = self._since, None
        if since is None or time.monotonic() - since < LIMIT_SECONDS:
            return
        blocked = time.monotonic() - since - (_starved_seconds() - self._starved)
        if blocked >= LIMIT_SECONDS:
            self.blocks.append(Block(blocked, self._stack))

    @contextlib.contextmanager
    def sampling(self) -> Iterator[None]:
        """Look from a thread at what blocks the loop, so that a failure names it."""
        stop = threading.Event()
        sampler = threading.Thread(target=self._sample, args=(stop,), name="loop-watch", daemon=True)
        sampler.start()
        try:
            yield
        finally:
            stop.set()
            sampler.join()

    def _sample(self, stop: threading.Event) -> None:
        while not stop.wait(LIMIT_SECONDS / 4):
            since = self._since
            if since is None or self._stack or time.monotonic() - since < LIMIT_SECONDS / 2:
                continue
            frame = sys._current_frames().get(self._thread)
            if frame is not None:
                self._stack = "".join(traceback.format_stack(frame)[-6:])


def _starved_seconds() -> float:
    """Seconds this thread was ready to run and had no processor (second field: Documentation/scheduler/sched-stats)."""
    try:
        with open(f"/proc/self/task/{threading.get_native_id()}/schedstat", encoding="ascii") as stat:
            return int(stat.read().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0
