"""Deliveries: what agents and the host say, in order per (session, address), until sent or given up."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass

from nanoclaw.domain.turn import LONGEST_DELIVERY_BACKOFF_MS
from nanoclaw.store.people import NewId
from nanoclaw.store.sql import Sql

ERASED = "(erased with its agent)"


@dataclass(frozen=True, slots=True)
class NewDelivery:
    """A message about to be sent. `seq` None: the host's own words, `session` None: to nobody's conversation.

    `reply_to` is an inbox row, `edits` the delivery whose message it replaces, `user` whom a card is for.
    """

    session: str | None
    run: int
    seq: int | None
    turn: str | None
    reply_to: str | None
    chat: str
    thread: str | None
    text: str
    notice: bool = False
    card: str | None = None
    approval: str | None = None
    user: str | None = None
    edits: str | None = None


@dataclass(frozen=True, slots=True)
class Lane:
    """Deliveries of one lane go out in order; lanes do not wait for each other."""

    session: str | None
    chat: str
    thread: str


@dataclass(frozen=True, slots=True)
class Delivery:
    """A delivery that is being sent; `attempt` counts from 1.

    `answers` is the platform's id of what it answers, `replaces` that of the message it takes the place of.
    """

    id: str
    attempt: int
    chat: str
    thread: str | None
    text: str
    answers: str | None
    maybe_duplicate: bool
    card: str | None = None
    replaces: str | None = None


@dataclass(frozen=True, slots=True)
class SentCard:
    """A card of a question, and where it went."""

    id: str
    session: str | None
    run: int
    chat: str
    thread: str | None
    user: str | None
    failed: bool


@dataclass(frozen=True, slots=True)
class StandingCard:
    """A question that stands open in a chat. `mine`: its card was put to the person who asks about it."""

    approval: str
    code: str
    options: str
    mine: bool


@dataclass(frozen=True, slots=True)
class Sent:
    """A delivery that was sent. `order` is monotone over the store; `answers` are inbound ids."""

    id: str
    order: int
    text: str
    notice: bool
    maybe_duplicate: bool
    reply_to: str | None
    answers: tuple[str, ...]


class Outbox:
    """The only writer of `outbox`."""

    def __init__(self, new_id: NewId) -> None:
        self._sql = Sql("outbox.sql")
        self._new_id = new_id

    def add(self, connection: sqlite3.Connection, delivery: NewDelivery, now: int) -> None:
        """Queue a delivery; one that was collected before (same run and seq) is ignored."""
        self._sql.change(
            connection,
            "insert_delivery",
            id=self._new_id(),
            session_id=delivery.session,
            run=delivery.run,
            seq=delivery.seq,
            turn=delivery.turn,
            reply_to=delivery.reply_to,
            messaging_group_id=delivery.chat,
            thread_id=delivery.thread,
            text=delivery.text,
            notice=int(delivery.notice),
            card=delivery.card,
            approval_id=delivery.approval,
            user_id=delivery.user,
            edits=delivery.edits,
            now=now,
        )

    def lanes(self, connection: sqlite3.Connection) -> list[Lane]:
        """Return the lanes that have something to send."""
        rows = self._sql.rows(connection, "list_lanes")
        return [Lane(row["session_id"], row["messaging_group_id"], row["thread"]) for row in rows]

    def take_next(self, connection: sqlite3.Connection, lane: Lane, now: int) -> Delivery | None:
        """pending -> sending for a lane's oldest delivery; None: nothing is due."""
        row = self._sql.row(
            connection,
            "take_next",
            session_id=lane.session,
            messaging_group_id=lane.chat,
            thread=lane.thread,
            now=now,
            latest=now + LONGEST_DELIVERY_BACKOFF_MS,
        )
        if row is None:
            return None
        return Delivery(
            id=row["id"],
            attempt=row["attempt"],
            chat=row["messaging_group_id"],
            thread=row["thread_id"],
            text=row["text"],
            answers=row["answers"],
            maybe_duplicate=bool(row["maybe_duplicate"]),
            card=row["card"],
            replaces=row["replaces"],
        )

    def set_sent(self, connection: sqlite3.Connection, delivery: Delivery, platform_id: str, now: int) -> bool:
        """sending -> sent. Returns False when it has moved on."""
        changed = self._sql.change(
            connection, "set_sent", id=delivery.id, attempt=delivery.attempt, platform_id=platform_id, now=now
        )
        return changed == 1

    def set_pending(self, connection: sqlite3.Connection, delivery: Delivery, not_before: int, error: str) -> bool:
        """sending -> pending, to be tried again at `not_before`."""
        changed = self._sql.change(
            connection, "set_pending", id=delivery.id, attempt=delivery.attempt, not_before=not_before, error=error
        )
        return changed == 1

    def set_failed(self, connection: sqlite3.Connection, delivery: Delivery, error: str, now: int) -> bool:
        """sending -> failed: the next of the lane may go."""
        changed = self._sql.change(
            connection, "set_failed", id=delivery.id, attempt=delivery.attempt, error=error, now=now
        )
        return changed == 1

    def set_unknown(self, connection: sqlite3.Connection) -> int:
        """sending -> unknown for all: the host has just started, so nobody is sending."""
        return self._sql.change(connection, "set_unknown")

    def resend_unknown(self, connection: sqlite3.Connection, channel_type: str, *, mark: bool) -> int:
        """unknown -> pending for a channel that cannot tell; `mark`: it could be a duplicate."""
        return self._sql.change(connection, "resend_unknown", channel_type=channel_type, maybe_duplicate=int(mark))

    def what_was_said(
        self, connection: sqlite3.Connection, session: str, turn: str, reply_to: str
    ) -> tuple[bool, bool]:
        """Return whether the agent, and whether the harness, said anything in a turn or in answer to a row."""
        row = self._sql.row(connection, "said_in_turn", session_id=session, turn=turn, reply_to=reply_to)
        return (False, False) if row is None else (bool(row["said"]), bool(row["noticed"]))

    def cards(self, connection: sqlite3.Connection, approval: str) -> list[SentCard]:
        """Return the cards of a question."""
        return [
            SentCard(
                id=row["id"],
                session=row["session_id"],
                run=row["run"],
                chat=row["messaging_group_id"],
                thread=row["thread_id"],
                user=row["user_id"],
                failed=row["state"] == "failed",
            )
            for row in self._sql.rows(connection, "list_cards", approval_id=approval)
        ]

    def standing_cards(self, connection: sqlite3.Connection, chat: str, thread: str, user: str) -> list[StandingCard]:
        """Return the open questions that were put in a chat ('' = no thread), oldest first."""
        rows = self._sql.rows(connection, "list_open_cards", messaging_group_id=chat, thread=thread, user_id=user)
        return [StandingCard(row["id"], row["code"], row["options"], bool(row["mine"])) for row in rows]

    def last_said(self, connection: sqlite3.Connection, chat: str, thread: str) -> str | None:
        """Return the question that was the last thing said in a chat; None: it was something else."""
        row = self._sql.row(connection, "find_last_said", messaging_group_id=chat, thread=thread)
        return None if row is None else row["approval_id"]

    def already_sent(self, connection: sqlite3.Connection, reply_to: str) -> tuple[str, ...]:
        """Return what earlier attempts at a row have said, oldest first."""
        rows = self._sql.rows(connection, "list_sent_for", reply_to=reply_to)
        return tuple(row["text"] for row in rows)

    def list_sent(self, connection: sqlite3.Connection, chat: str, after: int, most: int) -> list[Sent]:
        """Return what was sent in a chat after `after` (a `Sent.order`), oldest first."""
        rows = self._sql.rows(connection, "list_sent", messaging_group_id=chat, after=after, most=most)
        return [self._sent(connection, row) for row in rows]

    def last_sent(self, connection: sqlite3.Connection, chat: str, most: int) -> list[Sent]:
        """Return the last `most` deliveries of a chat, oldest first."""
        rows = self._sql.rows(connection, "last_sent", messaging_group_id=chat, most=most)
        return [self._sent(connection, row) for row in reversed(rows)]

    def sent_for_message(self, connection: sqlite3.Connection, message: str) -> list[Sent]:
        """Return what was sent in answer to an accepted message, oldest first."""
        rows = self._sql.rows(connection, "list_sent_of_message", message=message)
        return [self._sent(connection, row) for row in rows]

    def of_message(self, connection: sqlite3.Connection, message: str) -> list[sqlite3.Row]:
        """Return the deliveries of a message in any state, for `trace`."""
        return self._sql.rows(connection, "list_of_message", message=message)

    def remove_of_group(self, connection: sqlite3.Connection, group: str, most: int) -> int:
        """Erase at most so many deliveries of an agent group, its cards included; return how many.

        The newest of all stays as a line without its words: orders, which clients count by, never go back.
        """
        self._sql.change(connection, "keep_newest_order", agent_group_id=group, words=ERASED)
        rows = self._sql.rows(connection, "list_of_group", agent_group_id=group, most=most)
        ids = json.dumps([row["id"] for row in rows])
        self._sql.change(connection, "forget_edited", ids=ids)
        return self._sql.change(connection, "remove_deliveries", ids=ids)

    def last_order(self, connection: sqlite3.Connection) -> int:
        """Return the newest `Sent.order`, 0 when nothing was sent."""
        row = self._sql.row(connection, "last_order")
        return int(row["n"]) if row else 0

    def newest_id(self, connection: sqlite3.Connection) -> str:
        """Return the greatest id, '' when there is none: new ids must be greater, also after a clock was set back."""
        row = self._sql.row(connection, "newest_id")
        return str(row["id"]) if row else ""

    def count_waiting(self, connection: sqlite3.Connection) -> int:
        """Return how many deliveries have not ended, for `status`."""
        row = self._sql.row(connection, "count_waiting")
        return int(row["n"]) if row else 0

    def _sent(self, connection: sqlite3.Connection, row: sqlite3.Row) -> Sent:
        answered = self._sql.rows(
            connection, "list_answered", session_id=row["session_id"], turn=row["turn"], reply_to=row["reply_to"]
        )
        answers = tuple(str(item["inbound_id"]) for item in answered)
        return Sent(
            id=row["id"],
            order=row["sent_order"],
            text=row["text"],
            notice=bool(row["notice"]) and row["seq"] is None,  # a box cannot speak in the host's voice
            maybe_duplicate=bool(row["maybe_duplicate"]),
            reply_to=row["inbound_id"],
            answers=answers,
        )
