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

MOST_NAME = 64  # characters of a destination's name


@dataclass(frozen=True, slots=True)
class Chat:
    """One chat, room or DM on one channel."""

    id: MessagingGroupId
    channel_type: str
    platform_id: str
    is_group: bool
    unknown_senders: UnknownSenderPolicy
    name: str | None = None
    denied_at: int | None = None


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
    agent_name: str = ""  # the agent group's, by which people call it: `@Andy`
    priority: int = 0


@dataclass(frozen=True, slots=True)
class WiringRules:
    """When and for whom a wiring engages; the defaults are those of a group chat."""

    engage: EngageMode = EngageMode.MENTION
    pattern: str | None = None  # of EngageMode.PATTERN alone; `.` means always
    session_mode: SessionMode = SessionMode.SHARED
    sender_scope: SenderScope = SenderScope.ALL
    ignored: IgnoredMessagePolicy = IgnoredMessagePolicy.DROP
    priority: int = 0


ALWAYS = WiringRules(engage=EngageMode.PATTERN, pattern=".")  # a direct chat: every message


@dataclass(frozen=True, slots=True)
class Destination:
    """A name an agent may send to."""

    name: str
    kind: str
    display_name: str


class Chats:
    """The only writer of `messaging_groups`, `messaging_group_agents`, `agent_destinations` and what hangs on them."""

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
        self,
        connection: sqlite3.Connection,
        channel_type: str,
        platform_id: str,
        now: int,
        *,
        is_group: bool,
        unknown_senders: UnknownSenderPolicy = UnknownSenderPolicy.STRICT,
    ) -> Chat:
        """Make a chat; the policy towards strangers is strict unless said otherwise."""
        chat = MessagingGroupId(self._new_id())
        self._sql.change(
            connection,
            "insert_chat",
            id=chat,
            channel_type=channel_type,
            platform_id=platform_id,
            name=platform_id,
            is_group=int(is_group),
            unknown_sender_policy=unknown_senders,
            now=now,
        )
        return self.get(connection, chat)

    def rename(self, connection: sqlite3.Connection, chat: str, name: str) -> None:
        """Set the name people see; a new chat has its platform's id."""
        self._sql.change(connection, "rename_chat", id=chat, name=name)

    def deny(
        self, connection: sqlite3.Connection, channel_type: str, platform_id: str, now: int, *, is_group: bool
    ) -> None:
        """Refuse a chat for good: nobody is asked about it again."""
        self._sql.change(
            connection,
            "deny_chat",
            id=self._new_id(),
            channel_type=channel_type,
            platform_id=platform_id,
            is_group=int(is_group),
            now=now,
        )

    def open_up(self, connection: sqlite3.Connection, chat: str, unknown_senders: UnknownSenderPolicy) -> None:
        """Set what a chat does with strangers, and take back that it was refused."""
        self._sql.change(connection, "open_chat", id=chat, unknown_sender_policy=unknown_senders)

    def wire(
        self, connection: sqlite3.Connection, chat: Chat, agent_group: str, now: int, rules: WiringRules = ALWAYS
    ) -> WiringId:
        """Wire a chat to an agent group and make the chat a destination of the group, unless it is one.

        Raises sqlite3.IntegrityError when they are wired already. Patterns are checked before.
        """
        wiring = WiringId(self._new_id())
        self._sql.change(
            connection,
            "insert_wiring",
            id=wiring,
            messaging_group_id=chat.id,
            agent_group_id=agent_group,
            engage_mode=rules.engage,
            engage_pattern=rules.pattern,
            session_mode=rules.session_mode,
            sender_scope=rules.sender_scope,
            ignored_message_policy=rules.ignored,
            priority=rules.priority,
            now=now,
        )
        if not self.destination_name(connection, agent_group, chat.id):
            self.add_destination(connection, agent_group, chat.name or chat.platform_id, ("channel", chat.id), now)
        return wiring

    def add_destination(
        self, connection: sqlite3.Connection, agent_group: str, wanted: str, target: tuple[str, str], now: int
    ) -> str:
        """Let an agent group send to (kind, id) under a name made from `wanted`; return the name."""
        name = base = decide_local_name(wanted)
        number = 1
        while self.find_destination(connection, agent_group, name) is not None:
            number += 1
            name = f"{base}-{number}"
        self._sql.change(
            connection,
            "insert_destination",
            agent_group_id=agent_group,
            local_name=name,
            target_type=target[0],
            target_id=target[1],
            now=now,
        )
        return name

    def find_agent_destination(self, connection: sqlite3.Connection, agent_group: str, target: str) -> str:
        """Return the name under which an agent group knows another agent group, '' when it may not send there."""
        row = self._sql.row(connection, "find_agent_destination", agent_group_id=agent_group, target_id=target)
        return str(row["local_name"]) if row else ""

    def list_knowing(self, connection: sqlite3.Connection, agent_group: str) -> list[str]:
        """Return the agent groups that may send to an agent group."""
        return [row["agent_group_id"] for row in self._sql.rows(connection, "list_knowing", target_id=agent_group)]

    def forget_agent(self, connection: sqlite3.Connection, agent_group: str) -> None:
        """Take an agent group out of everybody's destinations."""
        self._sql.change(connection, "forget_agent", target_id=agent_group)

    def subscribe(self, connection: sqlite3.Connection, wiring: str, thread: str, now: int) -> None:
        """Let a `mention-sticky` wiring listen to the rest of a thread."""
        self._sql.change(connection, "subscribe", wiring_id=wiring, thread_id=thread, now=now)

    def is_subscribed(self, connection: sqlite3.Connection, wiring: str, thread: str | None) -> bool:
        """Return whether a wiring listens to a thread."""
        if thread is None:
            return False
        return self._sql.row(connection, "find_subscription", wiring_id=wiring, thread_id=thread) is not None

    def block(self, connection: sqlite3.Connection, chat: str, handle: str, by: str | None, now: int) -> None:
        """Deny a sender of a chat for good."""
        self._sql.change(connection, "block", messaging_group_id=chat, handle=handle, blocked_by=by, now=now)

    def is_blocked(self, connection: sqlite3.Connection, chat: str, handle: str) -> bool:
        """Return whether a sender was denied for good in a chat."""
        return self._sql.row(connection, "find_block", messaging_group_id=chat, handle=handle) is not None

    def wirings(self, connection: sqlite3.Connection, chat: str) -> list[Wiring]:
        """Return a chat's wirings to agent groups that are not archived, highest priority first."""
        return [
            Wiring(
                id=WiringId(row["id"]),
                agent_group=AgentGroupId(row["agent_group_id"]),
                engage=EngageMode(row["engage_mode"]),
                pattern=row["engage_pattern"],
                session_mode=SessionMode(row["session_mode"]),
                sender_scope=SenderScope(row["sender_scope"]),
                ignored=IgnoredMessagePolicy(row["ignored_message_policy"]),
                agent_name=row["agent_name"],
                priority=row["priority"],
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

    def set_policy(self, connection: sqlite3.Connection, chat: str, policy: UnknownSenderPolicy) -> None:
        """Set what becomes of strangers' messages."""
        self._sql.change(connection, "set_policy", id=chat, unknown_sender_policy=policy)

    def set_denied(self, connection: sqlite3.Connection, chat: str, at: int | None) -> None:
        """Refuse a chat for good, or (None) no longer."""
        self._sql.change(connection, "set_denied", id=chat, denied_at=at)

    def remove(self, connection: sqlite3.Connection, chat: str) -> tuple[bool, list[str]]:
        """Forget a chat. Returns whether its row went too (not while messages of it are kept), and who sent there."""
        senders = [str(row["agent_group_id"]) for row in self._sql.rows(connection, "list_senders", id=chat)]
        self._sql.change(connection, "remove_wirings_of", id=chat)
        self._sql.change(connection, "remove_destinations_to", id=chat)
        if self._sql.row(connection, "find_use", id=chat) is not None:
            return False, senders
        return self._sql.change(connection, "remove_chat", id=chat) == 1, senders

    def set_rules(self, connection: sqlite3.Connection, wiring: str, rules: WiringRules) -> None:
        """Change when a wiring engages. Patterns are checked before."""
        self._sql.change(
            connection,
            "set_rules",
            id=wiring,
            engage_mode=rules.engage,
            engage_pattern=rules.pattern,
            session_mode=rules.session_mode,
            sender_scope=rules.sender_scope,
            ignored_message_policy=rules.ignored,
            priority=rules.priority,
        )

    def unwire(self, connection: sqlite3.Connection, wiring: str) -> None:
        """Remove a wiring; its destination stays."""
        self._sql.change(connection, "remove_wiring", id=wiring)

    def remove_destination(self, connection: sqlite3.Connection, agent_group: str, name: str) -> bool:
        """Take back a name and the right to send there; False: there is no such."""
        return self._sql.change(connection, "remove_destination", agent_group_id=agent_group, local_name=name) == 1


def _chat(row: sqlite3.Row) -> Chat:
    return Chat(
        id=MessagingGroupId(row["id"]),
        channel_type=row["channel_type"],
        platform_id=row["platform_id"],
        is_group=bool(row["is_group"]),
        unknown_senders=UnknownSenderPolicy(row["unknown_sender_policy"]),
        name=row["name"],
        denied_at=row["denied_at"],
    )


def decide_local_name(wanted: str) -> str:
    """Return a destination's name made from any text: lower case, digits and dashes, at most 64 characters."""
    return re.sub(r"[^a-z0-9]+", "-", wanted.lower())[:MOST_NAME].strip("-") or "unnamed"
