"""5 wake: a session with waiting rows gets them into its live box, or gets a box.

In: hints (a session has news). The store is the truth; a lost hint costs a sweep.
Out: claimed rows projected into the run's inbound.db and the doorbell rung, or a run started.
Writes: `inbox` (queued -> claimed), the run's inbound.db.
Never: works on one session twice at once; starts a box for rows that do not trigger, or during a back-off.
Fails: a run whose inbound.db cannot be written, or is locked for 30 s, is ended, its rows go on in the next; StoreFull
waits for space.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence

from nanoclaw.domain.session import RunEnd, SessionId
from nanoclaw.errors import MailboxBusy, StaleClaim, StoreFull
from nanoclaw.flow.claim import claim
from nanoclaw.flow.files import place_files
from nanoclaw.flow.live import LiveRun, LiveRuns
from nanoclaw.flow.means import Means
from nanoclaw.flow.run import BUSY_SECONDS, RunKeeper
from nanoclaw.flow.seats import Seats
from nanoclaw.gateway.client import GatewayClient
from nanoclaw.sandbox.inbound import InboundRow

MOST_HELD = 100  # rows a box may have to answer; the rest waits in the store


class Wake:
    """Serves the sessions that have news, each by one task at a time."""

    def __init__(self, means: Means, live: LiveRuns, runs: RunKeeper, gateway: GatewayClient, seats: Seats) -> None:
        self._means = means
        self._live = live
        self._runs = runs
        self._gateway = gateway
        self._seats = seats
        self._active: dict[SessionId, bool] = {}  # session -> look again when done
        self._closed = False
        self._at_rest = asyncio.Event()
        self._at_rest.set()

    def hint(self, session: SessionId) -> None:
        """Say that a session has news."""
        if self._closed:
            return
        if session in self._active:
            self._active[session] = True
            return
        self._active[session] = False
        self._at_rest.clear()
        self._means.spawn(self._serve(session), f"wake {session}")

    async def close(self) -> None:
        """Start nothing any more: the host is stopping. Returns when what is being started has started or failed."""
        self._closed = True
        await self._at_rest.wait()

    async def _serve(self, session: SessionId) -> None:
        try:
            again = True
            while again and not self._closed:
                self._active[session] = False
                await self._look(session)
                again = self._active[session]
        except (StoreFull, StaleClaim) as error:
            self._means.log.warning("wake.postponed", session=session, error=str(error))  # the sweep looks again
        finally:
            del self._active[session]
            if not self._active:
                self._at_rest.set()

    async def _look(self, session: SessionId) -> None:
        run = self._live.find(session)
        if run is None:
            await self._runs.start(session)
        elif run.ending is None and not run.outdated and run.claimed < MOST_HELD and not self._keeps_others_out(run):
            await self._feed(run)

    def _keeps_others_out(self, run: LiveRun) -> bool:
        """Whether somebody has waited so long for a seat that this run, at work, gets nothing more."""
        return run.claimed > 0 and self._seats.is_pressed

    async def _feed(self, run: LiveRun) -> None:
        means, now = self._means, self._means.clock.now_ms()
        claimed = await means.store.write(
            lambda connection: claim(connection, means.tables, run.session, (run.fence, run.group.id), now)
        )
        if not claimed.rows:
            return
        # before the box can see a row, and so before the answer to it can close the turn
        self._gateway.open_turn(run.session, run.fence, claimed.charge, claimed.attempt)
        means.reached("wake.claimed")
        run.used_at = means.clock.monotonic()
        run.finished_at = run.finished_at if run.claimed else run.used_at
        run.claimed = claimed.triggers
        try:
            await self._project(run, claimed.rows)
        except MailboxBusy as busy:
            self._runs.end_soon(run, RunEnd.FAULT, str(busy))
            return
        except (OSError, sqlite3.Error) as error:
            self._runs.end_soon(run, RunEnd.NO_START, f"its mailbox could not be written: {error}")
            return
        means.reached("wake.projected")
        run.box.ring()

    async def _project(self, run: LiveRun, rows: Sequence[InboundRow]) -> None:
        """Write the rows; a box that holds a lock has as long as with its own file. Each try waits half a second."""
        began = self._means.clock.monotonic()
        while True:
            try:
                await self._means.blocking(self._put, run, rows)
                return
            except MailboxBusy:
                if run.ending is not None or self._means.clock.monotonic() - began > BUSY_SECONDS:
                    raise

    def _put(self, run: LiveRun, rows: Sequence[InboundRow]) -> None:
        place_files(self._means.config.paths.home / "sessions", run.mailbox, rows)
        run.mailbox.project(rows)
