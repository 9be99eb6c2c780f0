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
