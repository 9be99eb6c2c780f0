"""7m gateway news: what the gateway says of held calls and proposed rules is taken into the store, in order.

In: events of the gateway's control socket.
Out: what egress makes of them, carried out once it is committed.
Writes: what egress writes, a transaction for each event.
Never: holds up the control socket for the store.
Fails: what cannot be written now (the disk is full) is logged and lost: a held call ends by its time, an answer that
was not confirmed is told to the next gateway.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from nanoclaw.errors import StoreFull
from nanoclaw.flow.aftermath import Aftermath
from nanoclaw.flow.egress import Egress
from nanoclaw.flow.means import Means
from nanoclaw.gateway import control

Work = Callable[[sqlite3.Connection, Aftermath, int], None]


class GatewayNews:
    """Takes what the gateway says."""

    def __init__(self, means: Means, egress: Egress) -> None:
        self._means = means
        self._egress = egress
        self.carry: Callable[[Aftermath], None] = lambda _: None  # set by host.py

    def hear(self, event: control.GatewayEvent) -> None:
        """Take one event; those that are of no concern to the store are let go. Never blocks."""
        work = self._find_work(event)
        if work is not None:
            self._means.spawn(self._write(work), "gateway news")

    def _find_work(self, event: control.GatewayEvent) -> Work | None:
        match event:
            case control.Ready():
                return self._egress.tell_again
            case control.HoldOpened():
                return lambda connection, after, now: self._egress.open_hold(connection, event, after, now)
            case control.HoldTaken():
                return lambda connection, after, now: self._egress.taken(connection, event, after, now)
            case control.RuleAdded():
                return lambda connection, after, now: self._egress.rule_added(connection, event, after, now)
            case _:
                return None

    async def _write(self, work: Work) -> None:
        after, now = Aftermath(), self._means.clock.now_ms()
        try:
            await self._means.store.write(lambda connection: work(connection, after, now))
        except StoreFull as error:
            self._means.log.warning("store.filled", error=str(error))
            return
        self.carry(after)
