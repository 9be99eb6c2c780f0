"""Pairing codes: whoever writes one in a direct chat is that user there. Only a hash of a code is kept."""

from __future__ import annotations

import hashlib
import hmac
import sqlite3

from nanoclaw.domain.people import UserId
from nanoclaw.store.people import NewId
from nanoclaw.store.sql import Sql


class Pairing:
    """The only writer of `pairing_codes`."""

    def __init__(self, new_id: NewId) -> None:
        self._sql = Sql("pairing.sql")
        self._new_id = new_id

    def add(self, connection: sqlite3.Connection, user: str, code: str, tries: int, life: tuple[int, int]) -> None:
        """Open a code for a user from `life[0]` until `life[1]` (epoch milliseconds); an earlier one is withdrawn."""
        code_id = self._new_id()
        now, expires_at = life
        self._sql.change(connection, "withdraw_codes", user_id=user, now=now)
        self._sql.change(
            connection,
            "insert_code",
            id=code_id,
            user_id=user,
            code_hash=_hash(code_id, code),
            tries_left=tries,
            now=now,
            expires_at=expires_at,
        )

    def has_open(self, connection: sqlite3.Connection, now: int) -> bool:
        """Return whether any code may be used."""
        return bool(self._sql.rows(connection, "list_open_codes", now=now))

    def find(self, connection: sqlite3.Connection, code: str, now: int) -> tuple[str, UserId] | None:
        """Return (id, user) of an open code."""
        for row in self._sql.rows(connection, "list_open_codes", now=now):
            if hmac.compare_digest(row["code_hash"], _hash(row["id"], code)):
                return row["id"], UserId(row["user_id"])
        return None

    def count_try(self, connection: sqlite3.Connection, now: int) -> None:
        """A wrong code is a try at every open one."""
        self._sql.change(connection, "count_try", now=now)

    def use(self, connection: sqlite3.Connection, code_id: str, now: int) -> bool:
        """Use a code up. Returns False when it cannot be used any more."""
        return self._sql.change(connection, "use_code", id=code_id, now=now) == 1


def _hash(code_id: str, code: str) -> str:
    return hmac.new(code_id.encode(), code.encode(), hashlib.sha256).hexdigest()
