"""`ncl host`: how the host is, and asking it to stop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from sqlite3 import Connection

from nanoclaw.admin.request import Reader, Request
from nanoclaw.admin.table import Table
from nanoclaw.store.tables import Tables

COLUMNS = ("host", "pid", "started_at", "home", "model", "boxes", "sessions", "messages_waiting", "deliveries_waiting")


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What only the running host knows. `started_at` in epoch milliseconds; `model`: key, rehearsal or none."""

    pid: int
    started_at: int
    model: str
    boxes: int


class HostResource:
    """The host itself. `facts` is None in a command that reads the store while no host runs."""

    name = "host"
    verbs = ("status", "stop")

    def __init__(
        self,
        read: Reader,
        tables: Tables,
        home: str,
        facts: Callable[[], HostFacts] | None,
        request_stop: Callable[[], None],
    ) -> None:
        self._read = read
        self._tables = tables
        self._home = home
        self._facts = facts
        self._request_stop = request_stop

    async def answer(self, request: Request) -> Table:
        """`status`: one row. `stop`: begins a graceful stop."""
        if request.verb == "stop":
            self._request_stop()
            return Table(("host",), (("stopping",),))
        counts = await self._read(self._count)
        if self._facts is None:
            return Table(COLUMNS, (("down", None, None, self._home, None, None, *counts),))
        facts = self._facts()
        row = ("up", facts.pid, facts.started_at, self._home, facts.model, facts.boxes, *counts)
        return Table(COLUMNS, (row,))

    def _count(self, connection: Connection) -> tuple[int, int, int]:
        return (
            len(self._tables.sessions.list_all(connection)),
            self._tables.inbox.count_waiting(connection),
            self._tables.outbox.count_waiting(connection),
        )
