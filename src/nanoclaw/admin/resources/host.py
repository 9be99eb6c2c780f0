"""`ncl host`: how the host is, and asking it to stop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from sqlite3 import Connection

from nanoclaw.admin.call import Call
from nanoclaw.admin.resources.lists import Action
from nanoclaw.admin.resources.parts import one_row
from nanoclaw.admin.table import Table
from nanoclaw.flow.aftermath import Aftermath
from nanoclaw.store.tables import Tables

COLUMNS = (
    "host",
    "pid",
    "started_at",
    "home",
    "model",
    "boxes",
    "boxes_waiting",
    "sessions",
    "messages_waiting",
    "deliveries_waiting",
)


@dataclass(frozen=True, slots=True)
class HostFacts:
    """What only the running host knows. `started_at` in epoch milliseconds; `model`: key, rehearsal or locked."""

    pid: int
    started_at: int
    model: str
    boxes: int
    places: Mapping[str, int] = field(default_factory=dict[str, int])  # in the queue for a box, by session


class HostResource:
    """The host itself. `facts` is None in a command that reads the store while no host runs."""

    def __init__(self, tables: Tables, home: str, facts: Callable[[], HostFacts] | None) -> None:
        self._tables = tables
        self._home = home
        self._facts = facts

    def actions(self) -> Mapping[str, Action]:
        """Return what answers each verb; none changes the store."""
        return {"host status": self.status, "host stop": self.stop}

    def status(self, connection: Connection, call: Call, after: Aftermath) -> Table:
        """Show how it is."""
        counts = (
            len(self._tables.sessions.list_all(connection)),
            self._tables.inbox.count_waiting(connection),
            self._tables.outbox.count_waiting(connection),
        )
        if self._facts is None:
            return Table(COLUMNS, (("down", None, None, self._home, None, None, None, *counts),))
        facts = self._facts()
        row = ("up", facts.pid, facts.started_at, self._home, facts.model, facts.boxes, len(facts.places), *counts)
        return Table(COLUMNS, (row,))

    def stop(self, connection: Connection, call: Call, after: Aftermath) -> Table:
        """Say what follows: the desk's finisher begins a graceful stop."""
        return one_row(host="stopping")


def with_places(action: Action, facts: Callable[[], HostFacts] | None) -> Action:
    """Return the action, its rows of sessions with their place in the queue for a box."""

    def run(connection: Connection, call: Call, after: Aftermath) -> Table:
        table = action(connection, call, after)
        places: Mapping[str, int] = facts().places if facts else {}
        if "run" not in table.columns:
            return table  # no session is shown
        at, key = table.columns.index("run"), table.columns.index("id")
        rows = tuple((*row[:at], places.get(str(row[key])), *row[at:]) for row in table.rows)
        return Table((*table.columns[:at], "place", *table.columns[at:]), rows, table.note, table.hidden)

    return run
