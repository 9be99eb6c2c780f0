"""`ncl audit`: what the host decided, from the store's hash chain. The gateway keeps its own chain."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from nanoclaw.admin.call import Call
from nanoclaw.admin.resources.lists import Action
from nanoclaw.admin.resources.parts import one_row
from nanoclaw.admin.table import Table
from nanoclaw.flow.aftermath import Aftermath
from nanoclaw.store.tables import Tables

CHAINED = ("n", "at", "event", "actor", "subject", "verdict", "reason", "previous", "hash")
COLUMNS = ("at", "event", "actor", "subject", "verdict", "reason")


class AuditResource:
    """The store's audit."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def actions(self) -> Mapping[str, Action]:
        """Return what answers each verb."""
        return {
            "audit list": self.list,
            "audit head": self.head,
            "audit rows": self.rows,
            "audit verify": self.verify,
        }

    def list(self, connection: sqlite3.Connection, call: Call, after: Aftermath) -> Table:
        """Return the newest entries, oldest first."""
        filters = {name: call.find(name) for name in ("event", "actor", "subject")}
        rows = self._tables.listings.rows(connection, "audit", filters, call.number("limit"))
        return Table(COLUMNS, tuple(tuple(row[name] for name in COLUMNS) for row in reversed(rows)))

    def head(self, connection: sqlite3.Connection, call: Call, after: Aftermath) -> Table:
        """Return the number and the hash of the last entry."""
        number, head = self._tables.audit.head(connection)
        return one_row(rows=number, head=head)

    def rows(self, connection: sqlite3.Connection, call: Call, after: Aftermath) -> Table:
        """Return entries in the order of the chain, with their hashes."""
        found = self._tables.audit.rows_after(connection, call.number("after"), call.number("limit"))
        return Table(CHAINED, tuple(tuple(row[name] for name in CHAINED) for row in found))

    def verify(self, connection: sqlite3.Connection, call: Call, after: Aftermath) -> Table:
        """Return how many rows were checked, and the first bad one."""
        checked, bad = self._tables.audit.verify(connection)
        return one_row(rows=checked, broken_at_row=bad)
