"""Users, their identities and their rights."""

from __future__ import annotations

import sqlite3
from typing import Protocol

from nanoclaw.domain.people import Role, UserId
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

    def is_known(self, connection: sqlite3.Connection, user: UserId | None, agent_group: str) -> bool:
        """Return whether a user is owner, admin or member of an agent group; nobody is not known."""
        if user is None:
            return False
        row = self._sql.row(connection, "find_standing", user_id=user, agent_group_id=agent_group)
        return row is not None and row["standing"] is not None

    def find_owner(self, connection: sqlite3.Connection) -> UserId | None:
        """Return the first owner."""
        row = self._sql.row(connection, "find_owner")
        return UserId(row["user_id"]) if row else None

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

    def grant(self, connection: sqlite3.Connection, user: UserId, role: Role, now: int) -> None:
        """Give a user a global role."""
        self._sql.change(
            connection,
            "insert_role",
            id=self._new_id(),
            user_id=user,
            role=role,
            agent_group_id=None,
            granted_by=None,
            now=now,
        )
