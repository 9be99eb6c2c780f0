"""The ledger of everything accepted, and the channels' cursors."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from nanoclaw.store.people import NewId
from nanoclaw.store.sql import Sql


@dataclass(frozen=True, slots=True)
class NewInbound:
    """A message about to be accepted; times in epoch milliseconds."""

    channel_type: str
    platform_id: str
    chat: str
    thread: str | None
    sender: str
    sender_name: str
    user: str | None
    text: str
    reply_to: str | None
    is_group: bool
    is_mention: bool
    sent_at: int


class Inbound:
    """The only writer of `inbound` and `cursors`."""

    def __init__(self, new_id: NewId) -> None:
        self._sql = Sql("inbound.sql")
        self._new_id = new_id

    def find(self, connection: sqlite3.Connection, channel_type: str, chat: str, platform_id: str) -> str | None:
        """Return our id of a message that was accepted before."""
        row = self._sql.row(
            connection,
            "find_accepted",
            channel_type=channel_type,
            messaging_group_id=chat,
            platform_id=platform_id,
        )
        return str(row["id"]) if row else None

    def add(self, connection: sqlite3.Connection, message: NewInbound, now: int) -> str:
        """Record an accepted message; return its id."""
        message_id = self._new_id()
        self._sql.change(
            connection,
            "insert_inbound",
            id=message_id,
            channel_type=message.channel_type,
            platform_id=message.platform_id,
            messaging_group_id=message.chat,
            thread_id=message.thread,
            sender=message.sender,
            sender_name=message.sender_name,
            user_id=message.user,
            text=message.text,
            reply_to=message.reply_to,
            is_group=int(message.is_group),
            is_mention=int(message.is_mention),
            sent_at=message.sent_at,
            now=now,
        )
        return message_id

    def set_cursor(self, connection: sqlite3.Connection, channel_type: str, cursor: str, now: int) -> None:
        """Record how far a channel was heard, in the transaction of the batch."""
        self._sql.change(connection, "set_cursor", channel_type=channel_type, cursor=cursor, now=now)

    def remove_unread(self, connection: sqlite3.Connection, messages: Sequence[str | None]) -> None:
        """Erase those of these messages that no agent has any more."""
        ids = json.dumps([message for message in messages if message])
        self._sql.change(connection, "remove_unread", ids=ids)

    def get(self, connection: sqlite3.Connection, message: str) -> sqlite3.Row | None:
        """Return the ledger's row of a message, for `trace`."""
        return self._sql.row(connection, "get_inbound", id=message)

    def find_by_platform_id(self, connection: sqlite3.Connection, platform_id: str) -> list[str]:
        """Return up to two ids of messages that a platform calls so."""
        return [str(row["id"]) for row in self._sql.rows(connection, "find_by_platform_id", platform_id=platform_id)]

    def find_by_prefix(self, connection: sqlite3.Connection, prefix: str) -> list[str]:
        """Return up to two ids that begin with `prefix`."""
        rows = self._sql.rows(connection, "find_by_prefix", prefix=prefix, after=prefix + "\uffff")
        return [str(row["id"]) for row in rows]
