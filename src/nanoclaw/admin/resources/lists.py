"""Every `list` and `get`: a query of the listings, its filters from the table of verbs, its rows as they come."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping

from nanoclaw.admin.call import Call
from nanoclaw.admin.find import Finder
from nanoclaw.admin.table import Table
from nanoclaw.admin.verb import Kind
from nanoclaw.flow.aftermath import Aftermath
from nanoclaw.store.sql import Value
from nanoclaw.store.tables import Tables

Action = Callable[[sqlite3.Connection, Call, Aftermath], Table]

# Columns that a list for people leaves out; `get` and --json have them.
DETAILS = frozenset({
    "agent_group_id", "user_id", "messaging_group_id", "target_id", "session_id", "options", "answer", "prompt", "text",
    "created_at", "run", "schedule", "context", "missed", "granted_by", "added_by",
    "wall", "wall_by", "wall_tried_at", "wall_took_ms", "canaries", "wall_limits",
})  # fmt: skip
LISTED = (
    "groups", "messaging-groups", "wirings", "users", "roles", "members", "destinations", "sessions", "user-dms",
    "dropped-messages", "approvals", "tasks",
)  # fmt: skip
SHOWN = ("groups", "messaging-groups", "wirings", "users", "sessions", "approvals", "tasks")
FLAGS = frozenset({"is_group"})  # 0 and 1 in the store
ALL_STATES = "all"


class Lists:
    """Lists and shows; writes nothing."""

    def __init__(self, tables: Tables, find: Finder) -> None:
        self._tables = tables
        self._find = find

    def actions(self) -> Mapping[str, Action]:
        """Return what answers each `list` and `get`."""
        return {f"{noun} list": self.list for noun in LISTED} | {f"{noun} get": self.get for noun in SHOWN}

    def list(self, connection: sqlite3.Connection, call: Call, after: Aftermath) -> Table:
        """List a noun, filtered; somebody bound to one agent group has only its rows."""
        filters: dict[str, Value] = {"id": None, "name": None, "group": None}
        for option in call.verb.options:
            filters[option.name.replace("-", "_")] = self._filter(connection, call, option.name)
        if call.asker.scope == "group":
            filters["id" if call.resource == "groups" else "group"] = call.asker.agent_group
        rows = self._tables.listings.rows(connection, _query(call.resource), filters, call.number("limit"))
        table = _table([row for row in rows if _is_seen(row, call)])
        note = f"There may be more: these are the first {len(rows)}. --limit shows more."
        return replace_note(table, note) if len(rows) == call.number("limit") else table

    def get(self, connection: sqlite3.Connection, call: Call, after: Aftermath) -> Table:
        """Show one of a noun."""
        if call.resource == "groups":
            found = self._find.group(connection, call.asker, call.text("id"), archived=True).id
        else:
            found = self._find.id_of(connection, call.asker, call.resource, call.text("id"))
        return self.show(connection, call.resource, found)

    def show(self, connection: sqlite3.Connection, noun: str, id: str) -> Table:
        """Return one row, whole."""
        everything: dict[str, Value] = {
            "id": id, "archived": 1, "closed": 1, "denied": 0, "group": None, "chat": None, "channel": None,
            "name": None, "state": None, "kind": None, "unknown_sender_policy": None,
        }  # fmt: skip
        rows = self._tables.listings.rows(connection, _query(noun), everything)
        table = _table(rows)
        return Table(table.columns, table.rows)

    def _filter(self, connection: sqlite3.Connection, call: Call, name: str) -> Value:
        option = next(option for option in call.verb.options if option.name == name)
        if option.kind is Kind.FLAG:
            return int(call.flag(name))
        if option.kind is Kind.INTEGER:
            return call.number(name)
        text = call.find(name)
        if text is None or text == ALL_STATES:
            return None
        return self._find.id_of(connection, call.asker, option.refers, text) if option.refers else text


def replace_note(table: Table, note: str) -> Table:
    """Return a table with words for the person below it."""
    return Table(table.columns, table.rows, note, table.hidden)


def _query(noun: str) -> str:
    return noun.replace("-", "_")


def _is_seen(row: sqlite3.Row, call: Call) -> bool:
    column = "id" if call.resource == "groups" else "agent_group_id"
    return call.asker.sees(row[column] if column in row.keys() else None)  # noqa: SIM118  a Row's `in` looks at values


def _table(rows: list[sqlite3.Row]) -> Table:
    columns = tuple(rows[0].keys()) if rows else ("id",)
    cells = tuple(tuple(bool(row[name]) if name in FLAGS else row[name] for name in columns) for row in rows)
    return Table(columns, cells, hidden=tuple(name for name in columns if name in DETAILS))
