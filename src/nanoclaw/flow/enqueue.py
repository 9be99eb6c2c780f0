"""4 enqueue: an admitted message becomes a row of the ledger and one inbox row for each agent.

In: one incoming message with its admitted routes.
Out: the message's id, the sessions that have something to do, and the agents that could not be given it.
Writes: `inbound`, `inbox`, `sessions` (made when new), `thread_subscriptions`, in the caller's transaction; `audit` of
what failed.
Never: touches a mailbox; the projection is wake's. Lets one agent's failure touch another's row.
Fails: with the transaction when the store does; when no agent could be given the message nothing of it is there.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from nanoclaw.channels.base import Incoming
from nanoclaw.contract.message import InKind
from nanoclaw.domain.session import SessionId
from nanoclaw.domain.wiring import EngageMode, Rule
from nanoclaw.errors import StoreError, StoreFull
from nanoclaw.flow.admit import Sender
from nanoclaw.flow.route import Route
from nanoclaw.store.audit import Entry
from nanoclaw.store.chats import Chat
from nanoclaw.store.db import savepoint
from nanoclaw.store.inbound import NewInbound
from nanoclaw.store.inbox import NewRow
from nanoclaw.store.tables import Tables

SUBSCRIBING = (Rule.MENTION, Rule.NAME)


@dataclass(frozen=True, slots=True)
class Admission:
    """A route that the gate let through, and by which rule."""

    route: Route
    rule: str


@dataclass(frozen=True, slots=True)
class Admitted:
    """A message that may be queued, and for whom."""

    incoming: Incoming
    chat: Chat
    sender: Sender
    admissions: list[Admission]


@dataclass(frozen=True, slots=True)
class Failure:
    """An agent group that could not be given the message."""

    agent_group: str
    error: str


@dataclass(frozen=True, slots=True)
class Enqueued:
    """`message` is the inbound id ('': nobody could be given it); `wake` the sessions with a new trigger row."""

    message: str
    wake: tuple[SessionId, ...]
    failures: tuple[Failure, ...] = ()


class _NobodyTook(Exception):
    """Undoes the ledger's row of a message that no agent could be given."""


def enqueue(connection: sqlite3.Connection, tables: Tables, admitted: Admitted, now: int) -> Enqueued:
    """Write the message and its inbox rows; a message that was there before goes to those who have it not."""
    wake, failures = list[SessionId](), list[Failure]()
    try:
        with savepoint(connection):
            message = _write(connection, tables, admitted, (wake, failures), now)
    except _NobodyTook:
        message = ""
    for failure in failures:
        tables.audit.append(
            connection,
            Entry(now, "route.failed", "host", message or admitted.chat.id, "failed", failure.agent_group),
        )
    return Enqueued(message, tuple(wake), tuple(failures))


def _write(
    connection: sqlite3.Connection,
    tables: Tables,
    admitted: Admitted,
    done: tuple[list[SessionId], list[Failure]],
    now: int,
) -> str:
    wake, failures = done
    sender, incoming = admitted.sender, admitted.incoming
    known = tables.inbound.find(connection, sender.channel, admitted.chat.id, incoming.platform_id)
    message = known or tables.inbound.add(connection, _inbound(admitted), now)
    have = {row["wiring_id"] for row in tables.inbox.of_message(connection, message)} if known else set[str]()
    given = len(have)
    for admission in admitted.admissions:
        if admission.route.wiring.id in have:
            continue
        try:
            with savepoint(connection):
                session = _add_row(connection, tables, (admitted, admission), message, now)
        except StoreFull:
            raise
        except (StoreError, sqlite3.IntegrityError) as error:
            failures.append(Failure(admission.route.wiring.agent_group, str(error)))
            continue
        given += 1
        if admission.route.trigger:
            wake.append(session)
    if given == 0:
        raise _NobodyTook
    return message


def _add_row(
    connection: sqlite3.Connection, tables: Tables, what: tuple[Admitted, Admission], message: str, now: int
) -> SessionId:
    admitted, admission = what
    route, thread = admission.route, admitted.incoming.thread_id
    session = find_session(connection, tables, admitted, route, now)
    row = NewRow(
        session=session,
        seq=tables.sessions.take_seq(connection, session, now),
        kind=InKind.CHAT,
        trigger=route.trigger,
        message=message,
        wiring=route.wiring.id,
        routed_by=route.rule,
        admitted_by=admission.rule,
    )
    tables.inbox.add(connection, row, now)
    sticky = route.wiring.engage is EngageMode.MENTION_STICKY and route.rule in SUBSCRIBING
    if sticky and admitted.incoming.is_group and thread is not None:
        tables.chats.subscribe(connection, route.wiring.id, thread, now)
    return session


def find_session(
    connection: sqlite3.Connection, tables: Tables, admitted: Admitted, route: Route, now: int
) -> SessionId:
    """Return the session a message goes to by a route, made when there is none.

    In a direct chat the threads share one session; an answer still goes to the thread of the message.
    """
    thread = admitted.incoming.thread_id if admitted.incoming.is_group else None
    wiring = route.wiring
    address = (admitted.chat.id, thread)
    return tables.sessions.resolve(connection, wiring.agent_group, wiring.session_mode, address, now)


def _inbound(admitted: Admitted) -> NewInbound:
    incoming = admitted.incoming
    return NewInbound(
        channel_type=admitted.sender.channel,
        platform_id=incoming.platform_id,
        chat=admitted.chat.id,
        thread=incoming.thread_id,
        sender=incoming.sender,
        sender_name=incoming.sender_name,
        user=admitted.sender.user,
        text=incoming.text,
        reply_to=incoming.reply_to,
        is_group=incoming.is_group,
        is_mention=incoming.is_mention,
        sent_at=incoming.sent_at,
    )
