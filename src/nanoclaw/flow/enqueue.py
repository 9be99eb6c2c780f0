"""4 enqueue: an admitted message becomes a row of the ledger and one inbox row for each agent.

In: one incoming message with its admitted routes.
Out: the message's id, the agents that could not be given it, why a command was refused; sessions to wake.
Writes: `inbound`, `inbox`, `sessions` (made when new), `thread_subscriptions`, in the caller's transaction; `audit` of
what failed.
Never: touches a mailbox; the projection is wake's. Lets one agent's failure touch another's row.
Fails: with the transaction when the store does; when no agent could be given the message nothing of it is there.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, field

from nanoclaw.channels.base import Incoming
from nanoclaw.contract.message import InKind
from nanoclaw.domain.session import SessionId
from nanoclaw.domain.verdict import Deny
from nanoclaw.domain.wiring import EngageMode, Rule
from nanoclaw.errors import StoreError, StoreFull
from nanoclaw.flow.admit import Sender
from nanoclaw.flow.aftermath import Aftermath
from nanoclaw.flow.commands import Command, Given, give_command
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
    command: Command | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """An agent group that could not be given the message."""

    agent_group: str
    error: str


@dataclass(slots=True)
class Enqueued:
    """`message` is the inbound id ('': nobody could be given it); `denials` say why agents do not obey a command."""

    message: str
    failures: list[Failure] = field(default_factory=list[Failure])
    denials: list[Deny] = field(default_factory=list[Deny])


class _NobodyTook(Exception):
    """Undoes the ledger's row of a message that no agent could be given."""


def enqueue(connection: sqlite3.Connection, tables: Tables, admitted: Admitted, after: Aftermath, now: int) -> Enqueued:
    """Write the message and its inbox rows; a message that was there before goes to those who have it not."""
    done = Enqueued("")
    try:
        with savepoint(connection):
            done.message = _find_or_add(connection, tables, admitted, now)
            _add_rows(connection, tables, (admitted, done), after, now)
    except _NobodyTook:
        done.message = ""
    for failure in done.failures:
        subject = done.message or admitted.chat.id
        tables.audit.append(connection, Entry(now, "route.failed", "host", subject, "failed", failure.agent_group))
    return done


def _find_or_add(connection: sqlite3.Connection, tables: Tables, admitted: Admitted, now: int) -> str:
    channel, platform_id = admitted.sender.channel, admitted.incoming.platform_id
    known = tables.inbound.find(connection, channel, admitted.chat.id, platform_id)
    return known or tables.inbound.add(connection, _inbound(admitted), now)


def _add_rows(
    connection: sqlite3.Connection, tables: Tables, what: tuple[Admitted, Enqueued], after: Aftermath, now: int
) -> None:
    admitted, done = what
    have = {row["wiring_id"] for row in tables.inbox.of_message(connection, done.message)}
    given = len(have)
    for admission in admitted.admissions:
        if admission.route.wiring.id in have:
            continue
        part = Aftermath()
        try:
            with savepoint(connection):
                denial = _add_row(connection, tables, (admitted, admission), done.message, part, now)
        except StoreFull:
            raise
        except (StoreError, sqlite3.IntegrityError) as error:
            done.failures.append(Failure(admission.route.wiring.agent_group, str(error)))
            continue
        given += 1
        after.add(part)
        if denial is not None:
            done.denials.append(denial)
    if given == 0:
        raise _NobodyTook


def _add_row(
    connection: sqlite3.Connection,
    tables: Tables,
    what: tuple[Admitted, Admission],
    message: str,
    after: Aftermath,
    now: int,
) -> Deny | None:
    admitted, admission = what
    route, command = admission.route, admitted.command
    session = find_session(connection, tables, admitted, route, now)
    if command is not None:
        incoming, chat, sender = admitted.incoming, admitted.chat, admitted.sender
        given = Given(command, message, incoming, chat, sender, route, admission.rule, session)
        return give_command(connection, tables, given, after, now)
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
    _subscribe(connection, tables, admitted.incoming, route, now)
    if route.trigger:
        after.wake[session] = None
    return None


def _subscribe(connection: sqlite3.Connection, tables: Tables, incoming: Incoming, route: Route, now: int) -> None:
    """Let a sticky wiring listen to the rest of a thread of a group in which its agent was called."""
    sticky = route.wiring.engage is EngageMode.MENTION_STICKY and route.rule in SUBSCRIBING
    if sticky and incoming.is_group and incoming.thread_id is not None:
        tables.chats.subscribe(connection, route.wiring.id, incoming.thread_id, now)


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
