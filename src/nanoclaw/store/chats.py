"""Chats (messaging groups), which agents they wake (wirings), and where agents may send (destinations)."""

from __future__ import annotations

import re
import sqlite3
from dataclasses import dataclass

from nanoclaw.domain.wiring import (
    AgentGroupId,
    EngageMode,
    IgnoredMessagePolicy,
    MessagingGroupId,
    SenderScope,
    SessionMode,
    UnknownSenderPolicy,
    WiringId,
)
from nanoclaw.errors import StoreError
from nanoclaw.store.people import NewId
from nanoclaw.store.sql import Sql


@dataclass(frozen=True, slots=True)
class Chat:
    """One chat, room or DM on one channel."""

    id: MessagingGroupId
    channel_type: str
    platform_id: str
    is_group: bool
    unknown_senders: UnknownSenderPolicy


@dataclass(frozen=True, slots=True)
class Wiring:
    """This chat wakes this agent group."""

    id: WiringId
    agent_group: AgentGroupId
    engage: EngageMode
    pattern: str | None
    session_mode: SessionMode
    sender_scope: SenderScope
    ignored: IgnoredMessagePolicy


@dataclass(frozen=True, slots=True)
class Destination:
    """A name an agent may send to."""

    name: str
    kind: str
    display_name: str


class Chats:
    """The only writer of `messaging_groups`, `messaging_group_agents` and `agent_destinations`."""

    def __init__(self, new_id: NewId) -> None:
        self._sql = Sql("chats.sql")
        self._new_id = new_id

    def find(self, connection: sqlite3.Connection, channel_type: str, platform_id: str) -> Chat | None:
        """Return the chat of a platform's chat id."""
        row = self._sql.row(connection, "find_chat", channel_type=channel_type, platform_id=platform_id)
        return _chat(row) if row else None

    def get(self, connection: sqlite3.Connection, chat: str) -> Chat:
        """Return a chat. Raises StoreError when there is none."""
        row = self._sql.row(connection, "get_chat", id=chat)
        if row is None:
            raise StoreError(f"messaging group {chat} is gone")
        return _chat(row)

    def add(
        self, connection: sqlite3.Connection, channel_type: str, platform_id: str, now: int, *, is_group: bool
    ) -> Chat:
        """Make a chat, with the strict policy towards strangers."""
        self._sql.change(
            connection,
            "insert_chat",
            id=self._new_id(),
            channel_type=channel_type,
            platform_id=platform_id,
            name=platform_id,
            is_group=int(is_group),
            now=now,
        )
        chat = self.find(connection, channel_type, platform_id)
        if chat is None:
            raise StoreError("a new messaging group is not there")
        return chat

    def wire(self, connection: sqlite3.Connection, chat: Chat, agent_group: str, now: int) -> None:
        """Wire a chat to an agent group for every message, and make the chat a destination of the group."""
        self._sql.change(
            connection,
            "insert_wiring",
            id=self._new_id(),
            messaging_group_id=chat.id,
            agent_group_id=agent_group,
            engage_mode=EngageMode.PATTERN,
            engage_pattern=".",
            now=now,
        )
        base = re.sub(r"[^a-z0-9]+", "-", chat.platform_id.lower()).strip("-") or "unnamed"
        name, number = base, 1
        while self.find_destination(connection, agent_group, name) is not None:
            number += 1
            name = f"{base}-{number}"
        self._sql.change(
            connection,
            "insert_destination",
            agent_group_id=agent_group,
            local_name=name,
            target_type="channel",
            target_id=chat.id,
            now=now,
        )

    def wirings(self, connection: sqlite3.Connection, chat: str) -> list[Wiring]:
        """Return a chat's wirings, highest priority first."""
        return [
            Wiring(
                id=WiringId(row["id"]),
                agent_group=AgentGroupId(row["agent_group_id"]),
                engage=EngageMode(row["engage_mode"]),
                pattern=row["engage_pattern"],
                session_mode=SessionMode(row["session_mode"]),
                sender_scope=SenderScope(row["sender_scope"]),
                ignored=IgnoredMessagePolicy(row["ignored_message_policy"]),
            )
            for row in self._sql.rows(connection, "list_wirings", messaging_group_id=chat)
        ]

    def find_destination(self, connection: sqlite3.Connection, agent_group: str, name: str) -> tuple[str, str] | None:
        """Return (target type, target id) of a destination; None: the agent may not send there."""
        row = self._sql.row(connection, "find_destination", agent_group_id=agent_group, local_name=name)
        return (row["target_type"], row["target_id"]) if row else None

    def destination_name(self, connection: sqlite3.Connection, agent_group: str, chat: str) -> str:
        """Return the name under which an agent group knows a chat, '' when it may not send there."""
        row = self._sql.row(connection, "find_destination_name", agent_group_id=agent_group, target_id=chat)
        return str(row["local_name"]) if row else ""

    def destinations(self, connection: sqlite3.Connection, agent_group: str) -> list[Destination]:
        """Return everywhere an agent group may send."""
        rows = self._sql.rows(connection, "list_destinations", agent_group_id=agent_group)
        return [Destination(row["local_name"], row["target_type"], row["display_name"]) for row in rows]


def _chat(row: sqlite3.Row) -> Chat:
    return Chat(
        id=MessagingGroupId(row["id"]),
        channel_type=row["channel_type"],
        platform_id=row["platform_id"],
        is_group=bool(row["is_group"]),
        unknown_senders=UnknownSenderPolicy(row["unknown_sender_policy"]),
    )
