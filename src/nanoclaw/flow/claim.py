"""5a claim: rows of the store become rows of a mailbox.

In: a session, the fence of its live run.
Out: the rows as the box sees them, with what earlier attempts have already sent.
Writes: `inbox` (queued -> claimed, attempt + 1; queued -> done for overheard rows that are too many), in the caller's
transaction.
Never: claims for a run that is not the live one (the SQL checks fence and state); claims context without a trigger.
Fails: with the transaction.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, replace

from nanoclaw.contract.message import ChatIn, InKind, chat_from_json, to_json
from nanoclaw.sandbox.inbound import InboundRow
from nanoclaw.store.inbox import ClaimedRow
from nanoclaw.store.tables import Tables

MOST_CONTEXT = 50  # overheard rows that ride along with one trigger row, and as many notes of the host: the newest


@dataclass(frozen=True, slots=True)
class Claimed:
    """Rows for the box, in order. The turn is charged to `charge` and is the `attempt` of its first trigger row."""

    rows: tuple[InboundRow, ...]
    charge: str
    attempt: int = 1

    @property
    def triggers(self) -> int:
        """How many of them the box has to answer."""
        return sum(row.trigger for row in self.rows)


def claim(connection: sqlite3.Connection, tables: Tables, session: str, run: tuple[int, str], now: int) -> Claimed:
    """Claim what waits for run (fence, agent group) and return it as the box sees it."""
    fence, agent_group = run
    tables.inbox.trim_context(connection, session, MOST_CONTEXT, now)
    if tables.inbox.claim(connection, session, fence, now) == 0:
        return Claimed((), "")
    rows = tables.inbox.claimed(connection, session, fence)
    triggers = [row for row in rows if row.trigger]
    charge, attempt = (decide_charge(triggers[0]), triggers[0].attempt) if triggers else ("", 1)
    return Claimed(tuple(_inbound_row(connection, tables, agent_group, row) for row in rows), charge, attempt)


def decide_charge(row: ClaimedRow) -> str:
    """Return who a turn is charged to: a task, else who wrote the message, which came through other agents or not."""
    return f"task:{row.task}" if row.task else row.user or row.sender


def _inbound_row(connection: sqlite3.Connection, tables: Tables, agent_group: str, row: ClaimedRow) -> InboundRow:
    content = row.content
    sent = already_sent(connection, tables, row.id) if row.attempt > 1 else ()
    if content is not None and sent and row.kind == InKind.CHAT:
        content = to_json(replace(chat_from_json(content), already_sent=sent))
    elif content is None:
        content = to_json(
            ChatIn(
                text=row.text,
                sender=row.sender_name,
                sender_id=row.sender,
                origin=tables.chats.destination_name(connection, agent_group, row.chat or ""),
                sent_at=row.sent_at,
                already_sent=sent,
            )
        )
    return InboundRow(
        seq=row.seq,
        inbox_id=row.id,
        attempt=row.attempt,
        kind=row.kind,
        trigger=row.trigger,
        content=content,
        files=row.files,
    )


def already_sent(connection: sqlite3.Connection, tables: Tables, row: str) -> tuple[str, ...]:
    """Return what earlier attempts at a row have said, in chats and to other agents."""
    written = tables.inbox.written_for(connection, row)
    return (*tables.outbox.already_sent(connection, row), *(f"(to {name}) {text}" for name, text in written))
