"""What the verbs that change something are given, and how a change is written down."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from nanoclaw.admin.call import Call
from nanoclaw.admin.find import Finder
from nanoclaw.admin.resources.lists import Lists
from nanoclaw.admin.table import Table
from nanoclaw.store.audit import Entry
from nanoclaw.store.tables import Tables


@dataclass(frozen=True, slots=True)
class Parts:
    """The store's tables, and what finds and shows their rows."""

    tables: Tables
    find: Finder
    lists: Lists

    def note(self, connection: sqlite3.Connection, call: Call, event: str, subject: str, reason: str = "") -> None:
        """Write a change down, in its own transaction."""
        entry = Entry(call.now, event, call.asker.actor, subject, "allow", reason)
        self.tables.audit.append(connection, entry)

    def id_of(self, connection: sqlite3.Connection, call: Call, noun: str, name: str) -> str:
        """Return the id of what a value names. Raises Refused."""
        return self.find.id_of(connection, call.asker, noun, call.text(name))


def one_row(**cells: str | int | bool | None) -> Table:
    """Return a table of one row."""
    return Table(tuple(cells), (tuple(cells.values()),))
