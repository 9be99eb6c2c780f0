"""Users, their identities and their rights."""

from __future__ import annotations

import sqlite3
from typing import Protocol

from nanoclaw.domain.people import Role, Standing, UserId
from nanoclaw.store.sql import Sql


class NewId(Protocol):
    """Where ids come from: a fresh ULID at each call."""

    def __call__(self) -> str:
        """Return a new id."""
        ...


class People:
    """The only writer of `users`, `identities`, `user_roles`, `agent_group_members`, `user_dms`."""

    def __init__(self, new_id: NewId) -> None:
        self._sql = Sql("people.sql")
        self._new_id = new_id

    def find_by_identity(self, connection: sqlite3.Connection, channel_type: str, handle: str) -> UserId | None:
        """Return the user a platform's handle belongs to."""
        row = self._sql.row(connection, "find_user_by_identity", channel_type=channel_type, handle=handle)
        return UserId(row["user_id"]) if row else None

    def standing(self, connection: sqlite3.Connection, user: UserId | None, agent_group: str | None) -> Standing:
        """Return how a user stands to an agent group; None: to the whole home. Nobody is a stranger."""
        if user is None:
            return Standing.STRANGER
        row = self._sql.row(connection, "find_standing", user_id=user, agent_group_id=agent_group)
        return Standing.STRANGER if row is None or row["standing"] is None else Standing(row["standing"])

    def find_owner(self, connection: sqlite3.Connection) -> UserId | None:
        """Return the first owner."""
        row = self._sql.row(connection, "find_owner")
        return UserId(row["user_id"]) if row else None

    def find_owner_chat(self, connection: sqlite3.Connection) -> str | None:
        """Return the chat in which an owner is told something; None: there is none yet."""
        row = self._sql.row(connection, "find_owner_chat")
        return str(row["messaging_group_id"]) if row else None

    def add(self, connection: sqlite3.Connection, name: str, channel_type: str, handle: str, now: int) -> UserId:
        """Make a user with one identity."""
        user = UserId(self._new_id())
        self._sql.change(connection, "insert_user", id=user, name=name, now=now)
        self._sql.change(
            connection,
            "insert_identity",
            channel_type=channel_type,
            handle=handle,
            user_id=user,
            display_name=name,
            now=now,
        )
        return user

    def rename(self, connection: sqlite3.Connection, user: UserId, name: str) -> None:
        """Set a user's name."""
        self._sql.change(connection, "rename_user", id=user, name=name)

    def grant(
        self,
        connection: sqlite3.Connection,
        user: UserId,
        role: Role,
        now: int,
        *,
        agent_group: str | None = None,
        by: UserId | None = None,
    ) -> bool:
        """Give a user a role, of one agent group or (None) of all; False: they have it already."""
        changed = self._sql.change(
            connection,
            "insert_role",
            id=self._new_id(),
            user_id=user,
            role=role,
            agent_group_id=agent_group,
            granted_by=by,
            now=now,
        )
        return changed == 1

    def add_member(
        self, connection: sqlite3.Connection, user: UserId, agent_group: str, now: int, *, by: UserId | None = None
    ) -> bool:
        """Make a user known to an agent group; False: they were."""
        changed = self._sql.change(
            connection, "insert_member", user_id=user, agent_group_id=agent_group, added_by=by, now=now
        )
        return changed == 1

    def approvers(self, connection: sqlite3.Connection, agent_group: str | None) -> list[UserId]:
        """Return who decides for an agent group: its own admins, then global admins, then owners; each once.

        Source of the order: architecture section 11. Without a group its own admins are nobody.
        """
        rows = self._sql.rows(connection, "list_approvers", agent_group_id=agent_group)
        return list(dict.fromkeys(UserId(row["user_id"]) for row in rows))

    def name_of(self, connection: sqlite3.Connection, user: str | None) -> str:
        """Return what a user is called, 'somebody' when they are gone."""
        row = self._sql.row(connection, "get_name", id=user)
        return str(row["name"]) if row else "somebody"

    def has_role(self, connection: sqlite3.Connection, user: str) -> bool:
        """Return whether a user decides for any agent group."""
        return self._sql.row(connection, "has_role", user_id=user) is not None

    def note_dm(self, connection: sqlite3.Connection, user: str, channel_type: str, chat: str, now: int) -> None:
        """Remember where a user can be written to alone; writes only what is new."""
        row = self._sql.row(connection, "find_dm", user_id=user, channel_type=channel_type)
        if row is None or row["messaging_group_id"] != chat:
            self._sql.change(
                connection, "note_dm", user_id=user, channel_type=channel_type, messaging_group_id=chat, now=now
            )

    def dms(self, connection: sqlite3.Connection, user: str) -> list[tuple[str, str]]:
        """Return (channel, chat) of every direct chat with a user that is known, latest first."""
        return [
            (row["channel_type"], row["messaging_group_id"])
            for row in self._sql.rows(connection, "list_dms", user_id=user)
        ]

    def identities(self, connection: sqlite3.Connection, user: str) -> list[tuple[str, str]]:
        """Return (channel, handle) of everything a user is on a platform, oldest first."""
        return [
            (row["channel_type"], row["handle"]) for row in self._sql.rows(connection, "list_identities", user_id=user)
        ]

    def move_identity(self, connection: sqlite3.Connection, identity: tuple[str, str], user: UserId) -> None:
        """Make the (channel, handle) of one user that of another, who becomes a member wherever the first one is."""
        other = self.find_by_identity(connection, *identity)
        self._sql.change(connection, "take_memberships", user_id=user, other=other)
        self._sql.change(connection, "move_identity", channel_type=identity[0], handle=identity[1], user_id=user)

    def add_identity(self, connection: sqlite3.Connection, identity: tuple[str, str], user: UserId, now: int) -> None:
        """Give a user a (channel, handle) that nobody has."""
        self._sql.change(
            connection,
            "insert_identity",
            channel_type=identity[0],
            handle=identity[1],
            user_id=user,
            display_name=self.name_of(connection, user),
            now=now,
        )

    def add_user(self, connection: sqlite3.Connection, name: str, now: int) -> UserId:
        """Make a user without an identity."""
        user = UserId(self._new_id())
        self._sql.change(connection, "insert_user", id=user, name=name, now=now)
        return user

    def unlink(self, connection: sqlite3.Connection, user: UserId, channel_type: str, handle: str) -> bool:
        """Take an identity, and the direct chat found by it; False: it is not theirs."""
        changed = self._sql.change(
            connection, "remove_identity", channel_type=channel_type, handle=handle, user_id=user
        )
        if changed:
            self._sql.change(connection, "remove_dm", user_id=user, channel_type=channel_type)
        return changed == 1

    def set_timezone(self, connection: sqlite3.Connection, user: UserId, timezone: str | None) -> None:
        """Set a user's time zone; None: the host's."""
        self._sql.change(connection, "set_timezone", id=user, timezone=timezone)

    def revoke(self, connection: sqlite3.Connection, user: UserId, role: Role, agent_group: str | None) -> bool:
        """Take a role; False: they do not have it."""
        changed = self._sql.change(connection, "remove_role", user_id=user, role=role, agent_group_id=agent_group)
        return changed == 1

    def count_owners(self, connection: sqlite3.Connection) -> int:
        """Return how many owners there are."""
        row = self._sql.row(connection, "count_owners")
        return 0 if row is None else int(row["owners"])

    def remove_member(self, connection: sqlite3.Connection, user: UserId, agent_group: str) -> bool:
        """Make a user unknown to an agent group; False: they were."""
        return self._sql.change(connection, "remove_member", user_id=user, agent_group_id=agent_group) == 1
