"""7b requests: what an agent asks of the host, handed to whoever can answer, by name.

In: an AgentRequest of a run, already typed by the wire.
Out: a system row in the session's inbox with the answer.
Writes: `inbox` (the answer), `audit` (what was refused).
Never: takes the caller's identity from the request; it comes from the mailbox the request was read from.
Fails: an action without a handler is refused and the agent told.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Protocol

from nanoclaw.contract.message import InKind, SystemIn, to_json
from nanoclaw.sandbox.wire import OutRequest
from nanoclaw.store.audit import Entry
from nanoclaw.store.inbox import NewRow
from nanoclaw.store.tables import Tables

MOST_ACTION = 64


class Handler(Protocol):
    """Answers one kind of request inside the collecting transaction."""

    def __call__(
        self, connection: sqlite3.Connection, caller: tuple[str, str], arguments: str, now: int
    ) -> tuple[str, str]:
        """Return (status, text) for the agent; `caller` is (session, agent group)."""
        ...


class Requests:
    """The handlers by action; built by host.py, empty until tools need the host."""

    def __init__(self, tables: Tables, handlers: Mapping[str, Handler]) -> None:
        self._tables = tables
        self._handlers = handlers

    def handle(self, connection: sqlite3.Connection, caller: tuple[str, str], request: OutRequest, now: int) -> None:
        """Answer one request."""
        handler = self._handlers.get(request.action)
        if handler is None:
            action = request.action[:MOST_ACTION]
            self._tables.audit.append(
                connection,
                Entry(now, "request.refused", f"session:{caller[0]}", action, "deny", "no_such_action"),
            )
            answer = (action, "refused", f"This NanoClaw has no action {action!r}.")
        else:
            answer = (request.action, *handler(connection, caller, request.arguments, now))
        self.tell_agent(connection, caller[0], answer, now)

    def tell_agent(self, connection: sqlite3.Connection, session: str, answer: tuple[str, str, str], now: int) -> None:
        """Queue a note (action, status, text) for a session's agent; it rides along with its next message."""
        action, status, text = answer
        row = NewRow(
            session=session,
            seq=self._tables.sessions.take_seq(connection, session, now),
            kind=InKind.SYSTEM,
            trigger=False,
            content=to_json(SystemIn(action=action, status=status, text=text, sent_at=now)),
        )
        self._tables.inbox.add(connection, row, now)
