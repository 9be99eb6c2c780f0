"""9 sweep: once a second, what the hints may have missed, and what no hint tells.

In: the store, the live runs, the clock.
Out: hints to wake and deliver; runs ended for silence, idleness or short memory.
Writes: through run; `sessions` (closed) and their overheard rows, of threads in which nothing is said any more.
Never: is on the path of a message; reads a mailbox that has not changed.
Fails: a look on a full disk is logged and repeated at the next second; StoreError stops the host.
"""

from __future__ import annotations

import asyncio
import sqlite3
from dataclasses import dataclass

from nanoclaw.config import Settings
from nanoclaw.domain.session import RunEnd, SessionId
from nanoclaw.errors import StoreFull
from nanoclaw.flow.chase import Chase
from nanoclaw.flow.deliver import Deliver
from nanoclaw.flow.live import LiveRun, LiveRuns
from nanoclaw.flow.means import Means
from nanoclaw.flow.run import RunKeeper
from nanoclaw.flow.seats import Seats
from nanoclaw.flow.tell import Teller
from nanoclaw.flow.wake import Wake
from nanoclaw.sandbox.machine import read_free_memory_mb

PERIOD_SECONDS = 1.0
LEASE_SECONDS = 60.0
TURN_MARGIN_SECONDS = 60.0  # a runner gets this long to notice the wall limit of a turn itself
MOST_TURNS = 3  # that may pass before a row ends: its own, a nudge, a report of a wrong destination
STOP_GRACE_SECONDS = 5.0
CLOSE_SECONDS = 3600.0  # between two looks for threads in which nothing is said any more
MOST_CLOSED = 100  # sessions closed in one transaction
DAY_MS = 24 * 60 * 60 * 1000


@dataclass(frozen=True, slots=True)
class RunView:
    """What the sweep knows of a run; times in seconds."""

    claimed: int
    alive_at: float
    used_at: float
    finished_at: float
    turn_seconds: float = 3600.0  # what its group's turns may take


def decide_sweep(run: RunView, now: float, settings: Settings) -> RunEnd | None:
    """Decide whether a run is ended now, and why. The runner ends its own turns; this is for one that does not."""
    if now - run.alive_at > LEASE_SECONDS:
        return RunEnd.LEASE
    if run.claimed == 0 and now - run.used_at > settings.idle_seconds:
        return RunEnd.IDLE
    if run.claimed and now - run.used_at > run.turn_seconds + TURN_MARGIN_SECONDS:
        return RunEnd.STUCK
    if run.claimed and now - run.finished_at > MOST_TURNS * run.turn_seconds + TURN_MARGIN_SECONDS:
        return RunEnd.STUCK  # an agent that has taken its runner over can write for ever
    return None


def decide_eviction(runs: list[RunView], free_mb: int | None, floor_mb: int) -> int | None:
    """Return the index of the idle run to end when memory is short: the least recently used; None: nobody."""
    if free_mb is None or free_mb >= floor_mb:
        return None
    idle = [(run.used_at, index) for index, run in enumerate(runs) if run.claimed == 0]
    return min(idle)[1] if idle else None


class Sweep:
    """The repairing look behind every hint."""

    def __init__(
        self,
        means: Means,
        live: LiveRuns,
        runs: RunKeeper,
        wake: Wake,
        deliver: Deliver,
        chase: Chase,
        *,
        seats: Seats,
        teller: Teller,
    ) -> None:
        self._means = means
        self._live = live
        self._runs = runs
        self._wake = wake
        self._deliver = deliver
        self._chase = chase
        self._seats = seats
        self._teller = teller
        self._closed_at: float | None = None

    async def run(self, stop: asyncio.Event) -> None:
        """Look once a second until `stop` is set."""
        while not stop.is_set():
            try:
                await self.look()
            except StoreFull as error:
                self._means.log.warning("store.filled", error=str(error))
            try:
                async with asyncio.timeout(PERIOD_SECONDS):
                    await stop.wait()
            except TimeoutError:
                continue

    async def look(self) -> None:
        """One look."""
        means = self._means
        now_ms = means.clock.now_ms()
        unseated = self._seats.unseated()
        due = await means.store.read(lambda connection: means.tables.sessions.list_due(connection, now_ms))
        self._seats.keep(set(due), unseated)
        for session in due:
            self._wake.hint(session)
        for session, words in self._seats.take_untold():
            await self._teller.tell(session, words)
        await self._deliver.look()
        await self._chase.look()
        runs = [run for run in self._live if run.ending is None]
        for run in runs:
            self._look_at(run)
        self._free_memory([run for run in runs if run.ending is None])
        await self._close_idle(now_ms)

    def _look_at(self, run: LiveRun) -> None:
        now = self._means.clock.monotonic()
        end = decide_sweep(_view(run), now, self._means.config.settings)
        if end is RunEnd.IDLE:
            self._means.spawn(self._runs.stop(run, end, STOP_GRACE_SECONDS), f"idle {run.session}")
        elif end is not None:
            self._runs.end_soon(run, end, "")
        elif not run.collecting.locked() and _has_news(run):
            self._means.spawn(
                self._runs.collect(run), f"collect {run.session}"
            )  # a box that holds a lock delays nobody

    async def _close_idle(self, now: int) -> None:
        means, beat = self._means, self._means.clock.monotonic()
        days = means.config.settings.session_close_days
        if days <= 0 or (self._closed_at is not None and beat - self._closed_at < CLOSE_SECONDS):
            return
        self._closed_at = beat
        before = now - days * DAY_MS
        while await means.store.read(lambda connection: self._list_idle(connection, before)):
            closed = await means.store.write(lambda connection: self._close(connection, before, now))
            means.log.info("session.closed", count=closed)

    def _list_idle(self, connection: sqlite3.Connection, before: int) -> list[SessionId]:
        return self._means.tables.sessions.list_idle(connection, before, MOST_CLOSED)

    def _close(self, connection: sqlite3.Connection, before: int, now: int) -> int:
        idle = self._list_idle(connection, before)
        for session in idle:
            self._means.tables.inbox.end_context(connection, session, now)
            self._means.tables.sessions.close(connection, session, now)
        return len(idle)

    def _free_memory(self, runs: list[LiveRun]) -> None:
        if not runs:
            return
        victim = decide_eviction(
            [_view(run) for run in runs], read_free_memory_mb(), self._means.config.settings.memory_floor_mb
        )
        if victim is not None:
            run = runs[victim]
            self._means.log.info("run.evicted", session=run.session, run=run.fence)
            self._means.spawn(self._runs.stop(run, RunEnd.IDLE, STOP_GRACE_SECONDS), f"evict {run.session}")


def _view(run: LiveRun) -> RunView:
    return RunView(run.claimed, run.alive_at, run.used_at, run.finished_at, run.limits.turn_seconds)


def _has_news(run: LiveRun) -> bool:
    try:
        found = run.mailbox.outbound_db.stat()
    except OSError:
        return True
    return (found.st_mtime_ns, found.st_size) != run.seen_version
