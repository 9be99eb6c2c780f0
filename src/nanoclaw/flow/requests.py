"""7b requests: what an agent asks of the host, handed to whoever can answer, by name.

In: an AgentRequest of a run, already typed by the wire.
Out: an answer for the agent that waits, by the request's seq; None: a person is asked, the answer comes later.
Writes: what the handlers write, `audit` (what was refused); notes to agents in `inbox`.
Never: takes the caller's identity from the request; it comes from the mailbox the request was read from.
Fails: an action without a handler, or whose handler refuses, is audited and the agent told; AgentFault ends the run.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from nanoclaw.contract.message import InKind, SystemIn, ToolAnswer, to_json
from nanoclaw.errors import Refused
from nanoclaw.flow.aftermath import Aftermath, AnswerTo
from nanoclaw.sandbox.wire import OutRequest
from nanoclaw.store.audit import Entry
from nanoclaw.store.db import savepoint
from nanoclaw.store.inbox import NewRow, RowPlace
from nanoclaw.store.tables import Tables

MOST_ACTION = 64


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose request it is, by the mailbox it was read from. `place` is the row the agent worked on, if it named one."""

    session: str
    fence: int
    agent_group: str
    seq: int
    chat: str | None  # the session's own chat
    place: RowPlace | None


class Handler(Protocol):
    """Answers one kind of request inside the collecting transaction."""

    def __call__(
        self, connection: sqlite3.Connection, caller: Caller, arguments: str, after: Aftermath, now: int
    ) -> ToolAnswer | None:
        """Return the answer; None: it comes later through `after.answers`. Raises AgentFault, Refused."""
        ...


class Requests:
    """The handlers by action; built by host.py."""

    def __init__(self, tables: Tables, handlers: Mapping[str, Handler]) -> None:
        self._tables = tables
        self._handlers = handlers

    def handle(
        self, connection: sqlite3.Connection, caller: Caller, request: OutRequest, after: Aftermath, now: int
    ) -> None:
        """Answer one request."""
        handler = self._handlers.get(request.action)
        if handler is None:
            action = request.action[:MOST_ACTION]
            self._note_refusal(connection, caller, (action, "no_such_action"), now)
            answer = ToolAnswer("refused", f"This NanoClaw has no action {action!r}.")
        else:
            try:
                with savepoint(connection):  # what it wrote before it refused is undone
                    answer = handler(connection, caller, request.arguments, after, now)
            except Refused as refused:
                self._note_refusal(connection, caller, (request.action, "refused"), now)
                answer = ToolAnswer("refused", refused.reason)
        if answer is not None:
            after.answers.append(AnswerTo(caller.session, caller.fence, caller.seq, answer))

    def _note_refusal(self, connection: sqlite3.Connection, caller: Caller, what: tuple[str, str], now: int) -> None:
        subject, reason = what
        entry = Entry(now, "request.refused", f"session:{caller.session}", subject, "deny", reason)
        self._tables.audit.append(connection, entry)


def tell_agent(
    connection: sqlite3.Connection, tables: Tables, session: str, note: SystemIn, *, trigger: bool = False
) -> None:
    """Queue a note for a session's agent; without `trigger` it rides along with its next message.

    A session that is closed has no next message: such a note would wait for ever.
    """
    if not trigger and tables.sessions.get(connection, session).closed_at is not None:
        return
    row = NewRow(
        session=session,
        seq=tables.sessions.take_seq(connection, session, note.sent_at),
        kind=InKind.SYSTEM,
        trigger=trigger,
        content=to_json(note),
        routed_by="note",
    )
    tables.inbox.add(connection, row, note.sent_at)
