"""`ncl messages trace ID`: the whole way of a message, in the order in which it happened. Never its text.

A row names the session and run it is about, so that `nanoclaw trace` can add the model calls from the gateway's ledger.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from sqlite3 import Connection, Row

from nanoclaw.admin.call import Call
from nanoclaw.admin.resources.lists import Action
from nanoclaw.admin.table import Table
from nanoclaw.errors import Refused
from nanoclaw.flow.aftermath import Aftermath
from nanoclaw.store.approvals import Approval
from nanoclaw.store.tables import Tables

COLUMNS = ("at", "what", "detail", "session", "run")
CLAIMED, TRIED, ENDED = "claimed", "tried before", ("done", "dead")  # what a session did with it

Line = tuple[int, str, str, str | None, int | None]
SHORTEST_PREFIX = 6
FOR_EVER = 1 << 62


class MessagesResource:
    """Accepted messages, with their inbox rows and deliveries; of refused ones what the audit says."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def actions(self) -> Mapping[str, Action]:
        """Return what answers each verb."""
        return {"messages trace": self.trace}

    def trace(self, connection: Connection, call: Call, after: Aftermath) -> Table:
        """Return everything the store knows about a message; the beginning of its id is enough."""
        return trace(connection, self._tables, call.text("message"))


def trace(connection: Connection, tables: Tables, text: str) -> Table:
    """Return the way of the message that `text` names: our id or its beginning, the platform's id, or an audited id."""
    wanted = text.strip()
    if len(wanted) < SHORTEST_PREFIX:
        raise Refused(f"Give the id of a message, at least its first {SHORTEST_PREFIX} characters.")
    message = _find(connection, tables, wanted)
    decided = tables.audit.about(connection, wanted.upper() if message is None else message["id"])
    lines = [_decision(row) for row in decided]
    if message is None:
        if len({row["subject"] for row in decided}) > 1:
            raise Refused(f"More than one thing begins with {wanted[:100]}. Give more of the id.")
        if not lines:
            raise Refused(f"No message was accepted under the id {wanted[:100]}. A refused one is in `nanoclaw audit`.")
        return Table(COLUMNS, tuple(lines))
    chat = tables.chats.get(connection, message["messaging_group_id"])
    lines.append(_received(message, chat.name or chat.platform_id))
    for row in tables.inbox.of_message(connection, message["id"]):
        lines += _inbox_lines(row)
        begun, ended = row["claimed_at"], row["ended_at"] or FOR_EVER
        asked = tables.approvals.of_session(connection, row["session_id"], begun or FOR_EVER, ended)
        lines += (line for approval in asked for line in _approval_lines(approval))
    for row in tables.outbox.of_message(connection, message["id"]):
        lines += _delivery_lines(row)
    lines.sort(key=lambda line: line[0])
    for _, outcome in tables.inbox.list_settled(connection, [message["id"]]):
        lines.append((lines[-1][0], "outcome", outcome, None, None))
    return Table(COLUMNS, tuple(lines))


def _find(connection: Connection, tables: Tables, wanted: str) -> Row | None:
    """Return the ledger's row of a message, by our id first. Raises Refused when it could be several."""
    found = tables.inbound.find_by_prefix(connection, wanted.upper())
    found = found or tables.inbound.find_by_platform_id(connection, wanted)
    if len(found) > 1:
        raise Refused(f"More than one message goes by {wanted[:100]}: {found[0]}, {found[1]} ... Give our id of it.")
    return tables.inbound.get(connection, found[0]) if found else None


def _decision(row: Row) -> Line:
    reason = f", {row['reason']}" if row["reason"] else ""
    return row["at"], row["event"], f"{row['verdict']}, {row['actor']}{reason}", None, None


def _received(message: Row, chat: str) -> Line:
    place = f"{message['channel_type']}, chat {chat}" + (
        f", thread {message['thread_id']}" if message["thread_id"] else ""
    )
    who = f"{message['sender_name']} ({message['sender']})"
    return message["accepted_at"], "received", f"{place}, from {who}, id {message['id']}", None, None


def _inbox_lines(row: Row) -> Iterator[Line]:
    session, agent = row["session_id"], row["agent_name"]
    waits = "wakes it" if row["trigger"] else "as context"
    yield row["queued_at"], "routed", f"to {agent}, {waits}, because: {row['routed_by'] or '-'}", session, None
    if row["admitted_by"]:
        yield row["queued_at"], "admitted", f"to {agent}, by the rule: {row['admitted_by']}", session, None
    sender = f", from the agent of session {row['from_session_id']}" if row["from_session_id"] else ""
    yield row["queued_at"], "queued", f"number {row['seq']} of session {session}{sender}", session, None
    if row["attempt"] > 1:
        yield row["queued_at"], TRIED, f"{row['attempt'] - 1} times, {row['failures']} of them failed", session, None
    if row["claimed_at"] is not None:
        yield row["claimed_at"], CLAIMED, f"by run {row['run'] or '-'}, attempt {row['attempt']}", session, row["run"]
    if row["ended_at"] is not None:
        detail = f"{agent}: {row['outcome']}, turn {row['turn'] or '-'}"
        yield row["ended_at"], row["state"], detail, session, row["run"]
    else:
        yield (
            row["claimed_at"] or row["queued_at"],
            f"still {row['state']}",
            f"attempt {row['attempt']}",
            session,
            row["run"],
        )


def _approval_lines(approval: Approval) -> Iterator[Line]:
    """What the agent asked people for while it worked on the message; never the words of question or answer."""
    what = f"{approval.kind}, id {approval.id}"
    yield approval.created_at, "asked", what, approval.session, None
    if approval.ended_at is not None:
        yield approval.ended_at, str(approval.state), what, approval.session, None


def _delivery_lines(row: Row) -> Iterator[Line]:
    kind = "card" if row["card"] else ("words of the host" if row["notice"] else "answer")
    session = row["session_id"]
    yield row["created_at"], "delivery", f"{row['id']}, {kind}, {len(row['text'])} characters", session, row["run"]
    if row["ended_at"] is None:
        yield row["created_at"], f"delivery {row['state']}", f"{row['id']}, {row['error'] or 'waiting'}", session, None
        return
    receipt = f", the platform's id {row['platform_id']}" if row["platform_id"] else ""
    twice = ", perhaps a duplicate" if row["maybe_duplicate"] else ""
    error = f", {row['error']}" if row["error"] else ""
    detail = f"{row['id']}, attempt {row['attempt']}{receipt}{twice}{error}"
    yield row["ended_at"], f"delivery {row['state']}", detail, session, None
