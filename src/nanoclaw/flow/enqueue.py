"""4 enqueue: an admitted message becomes a row of the ledger and one inbox row for each agent.

In: one incoming message with its admitted routes.
Out: the message's id and the sessions that have something to do.
Writes: `inbound`, `inbox`, `sessions` (made when new), in the caller's transaction.
Never: touches a mailbox; the projection is wake's.
Fails: with the transaction; then nothing of the message is there.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from nanoclaw.channels.base import Incoming
from nanoclaw.contract.message import InKind
from nanoclaw.domain.session import SessionId
from nanoclaw.flow.admit import Sender
from nanoclaw.flow.route import Route
from nanoclaw.store.chats import Chat
from nanoclaw.store.inbound import NewInbound
from nanoclaw.store.inbox import NewRow
from nanoclaw.store.tables import Tables


@dataclass(frozen=True, slots=True)
class Enqueued:
    """`message` is the inbound id; `wake` the sessions with a new trigger row."""

    message: str
    wake: tuple[SessionId, ...]


@dataclass(frozen=True, slots=True)
class Admitted:
    """A message that may be queued, and for whom."""

    incoming: Incoming
    chat: Chat
    sender: Sender
    routes: list[Route]


def enqueue(connection: sqlite3.Connection, tables: Tables, admitted: Admitted, now: int) -> Enqueued:
    """Write the message and its inbox rows."""
    incoming, chat = admitted.incoming, admitted.chat
    message = tables.inbound.add(
        connection,
        NewInbound(
            channel_type=admitted.sender.channel,
            platform_id=incoming.platform_id,
            chat=chat.id,
            thread=incoming.thread_id,
            sender=incoming.sender,
            sender_name=incoming.sender_name,
            user=admitted.sender.user,
            text=incoming.text,
            reply_to=incoming.reply_to,
            is_group=incoming.is_group,
            is_mention=incoming.is_mention,
            sent_at=incoming.sent_at,
        ),
        now,
    )
    wake: list[SessionId] = []
    for route in admitted.routes:
        wiring = route.wiring
        session = tables.sessions.resolve(
            connection, wiring.agent_group, wiring.session_mode, (chat.id, incoming.thread_id), now
        )
        row = NewRow(
            session=session,
            seq=tables.sessions.take_seq(connection, session, now),
            kind=InKind.CHAT,
            trigger=route.trigger,
            message=message,
            wiring=wiring.id,
        )
        tables.inbox.add(connection, row, now)
        if route.trigger:
            wake.append(session)
    return Enqueued(message, tuple(wake))
