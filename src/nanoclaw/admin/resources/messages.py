"""`ncl messages trace ID`: what became of a message, in the order in which it happened. Never its text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from sqlite3 import Connection, Row

from nanoclaw.admin.call import Call
from nanoclaw.admin.resources.lists import Action
from nanoclaw.admin.table import Table
from nanoclaw.errors import Refused
from nanoclaw.flow.aftermath import Aftermath
from nanoclaw.store.tables import Tables

Line = tuple[int, str, str]
SHORTEST_PREFIX = 6


class MessagesResource:
    """Accepted messages, with their inbox rows and deliveries."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def actions(self) -> Mapping[str, Action]:
        """Return what answers each verb."""
        return {"messages trace": self.trace}

    def trace(self, connection: Connection, call: Call, after: Aftermath) -> Table:
        """Return everything the store knows about a message; the beginning of its id is enough."""
        prefix = call.text("message").upper()
        if len(prefix) < SHORTEST_PREFIX:
            raise Refused(f"Give the id of a message, at least its first {SHORTEST_PREFIX} characters.")
        return Table(("at", "what", "detail"), tuple(self._trace(connection, prefix)))

    def _trace(self, connection: Connection, prefix: str) -> list[Line]:
        found = self._tables.inbound.find_by_prefix(connection, prefix)
        if len(found) > 1:
            raise Refused(f"More than one message begins with {prefix}. Give more of the id.")
        message = self._tables.inbound.get(connection, found[0]) if found else None
        if message is None:
            raise Refused(f"No message was accepted under the id {prefix}.")
        lines = [_accepted(message)]
        for row in self._tables.inbox.of_message(connection, message["id"]):
            lines += _inbox_lines(row)
        for row in self._tables.outbox.of_message(connection, message["id"]):
            lines += _delivery_lines(row)
        return sorted(lines, key=lambda line: line[0])


def _accepted(row: Row) -> Line:
    return row["accepted_at"], "accepted", f"{row['channel_type']}, from {row['sender_name']}, id {row['id']}"


def _inbox_lines(row: Row) -> Iterator[Line]:
    waits = "wakes the agent" if row["trigger"] else "rides along"
    yield row["queued_at"], "queued", f"for {row['agent_name']}, session {row['session_id']}, {waits}"
    if row["claimed_at"] is not None:
        yield row["claimed_at"], "claimed", f"by run {row['run'] or '-'}, attempt {row['attempt']}"
    if row["ended_at"] is not None:
        yield row["ended_at"], row["state"], f"outcome {row['outcome']}, turn {row['turn'] or '-'}"
    else:
        yield (row["claimed_at"] or row["queued_at"]), f"still {row['state']}", f"attempt {row['attempt']}"


def _delivery_lines(row: Row) -> Iterator[Line]:
    kind = "words of the host" if row["notice"] else "answer"
    yield row["created_at"], "delivery", f"{row['id']}, {kind}, {len(row['text'])} characters"
    if row["ended_at"] is not None:
        detail = f"attempt {row['attempt']}" + (", perhaps a duplicate" if row["maybe_duplicate"] else "")
        yield row["ended_at"], f"delivery {row['state']}", f"{row['id']}, {detail} {row['error'] or ''}".strip()
    else:
        yield row["created_at"], f"delivery {row['state']}", f"{row['id']}, {row['error'] or 'waiting'}"
