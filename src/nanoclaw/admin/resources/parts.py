"""What the verbs that change something are given, and how a change is written down."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass

from nanoclaw.admin.call import Call
from nanoclaw.admin.find import Finder
from nanoclaw.admin.resources.lists import Lists
from nanoclaw.admin.table import Table
from nanoclaw.domain.group import GroupConfig
from nanoclaw.flow.aftermath import Aftermath
from nanoclaw.sandbox.folders import Folders
from nanoclaw.sandbox.runtimes.registry import Runtimes
from nanoclaw.store.audit import Entry
from nanoclaw.store.groups import AgentGroup
from nanoclaw.store.tables import Tables

ConfigChange = Callable[[GroupConfig], GroupConfig]


@dataclass(frozen=True, slots=True)
class Machine:
    """What a running host knows of the machine: its folders, the uid of an agent group's boxes, its runtimes."""

    folders: Folders
    box_uid: Callable[[int], int]
    runtimes: Runtimes


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

    def configure(
        self, connection: sqlite3.Connection, call: Call, after: Aftermath, change: ConfigChange, what: str
    ) -> AgentGroup:
        """Change how an agent group is set up: its boxes end when they have answered. Raises Refused."""
        group = self.find.group(connection, call.asker, call.text("id"))
        config = change(self.tables.groups.config(connection, group.id))
        self.tables.groups.configure(connection, group.id, config, call.now)
        after.groups[group.id] = None
        after.renew[group.id] = None
        self.note(connection, call, "group.configured", group.id, what)
        return group

    def id_of(self, connection: sqlite3.Connection, call: Call, noun: str, name: str) -> str:
        """Return the id of what a value names. Raises Refused."""
        return self.find.id_of(connection, call.asker, noun, call.text(name))


def one_row(**cells: str | int | bool | None) -> Table:
    """Return a table of one row."""
    return Table(tuple(cells), (tuple(cells.values()),))
