"""What the host decided, hash-chained: each row's hash covers the row before it, so an edit shows."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from dataclasses import astuple, dataclass

from nanoclaw.store.sql import Sql

FIRST = "0" * 64


@dataclass(frozen=True, slots=True)
class Entry:
    """One decision. `at` in epoch milliseconds; no message text ever."""

    at: int
    event: str
    actor: str
    subject: str
    verdict: str
    reason: str


class Audit:
    """The only writer of `audit`."""

    def __init__(self) -> None:
        self._sql = Sql("audit.sql")

    def append(self, connection: sqlite3.Connection, entry: Entry) -> None:
        """Add an entry to the chain, in the transaction of what it records."""
        row = self._sql.row(connection, "last_hash")
        previous = row["hash"] if row else FIRST
        self._sql.change(
            connection,
            "append",
            at=entry.at,
            event=entry.event,
            actor=entry.actor,
            subject=entry.subject,
            verdict=entry.verdict,
            reason=entry.reason,
            previous=previous,
            hash=chain_hash(previous, entry),
        )

    def last(self, connection: sqlite3.Connection, most: int) -> list[sqlite3.Row]:
        """Return the newest entries, oldest first."""
        return list(reversed(self._sql.rows(connection, "last_rows", most=most)))

    def about(self, connection: sqlite3.Connection, subject: str) -> list[sqlite3.Row]:
        """Return what was decided about a message or an approval, by its id or the beginning of it, oldest first."""
        return self._sql.rows(connection, "list_about", subject=subject, after=subject + "\uffff")

    def head(self, connection: sqlite3.Connection) -> tuple[int, str]:
        """Return the number and the hash of the last entry."""
        row = self._sql.row(connection, "find_head")
        return (int(row["n"]), str(row["hash"])) if row else (0, FIRST)

    def rows_after(self, connection: sqlite3.Connection, number: int, most: int) -> list[sqlite3.Row]:
        """Return entries after one of that number, in the order of the chain, with their hashes."""
        return self._sql.rows(connection, "list_rows", after=number, most=most)

    def verify(self, connection: sqlite3.Connection) -> tuple[int, int | None]:
        """Return (rows checked, number of the first row that does not fit its chain, or None)."""
        previous, after, checked = FIRST, 0, 0
        while rows := self._sql.rows(connection, "list_rows", after=after, most=1000):
            for row in rows:
                entry = Entry(row["at"], row["event"], row["actor"], row["subject"], row["verdict"], row["reason"])
                if row["previous"] != previous or row["hash"] != chain_hash(previous, entry):
                    return checked, int(row["n"])
                previous, after, checked = row["hash"], row["n"], checked + 1
        return checked, None


def chain_hash(previous: str, entry: Entry) -> str:
    """Return sha256 over the previous hash and the entry's fields as a JSON array."""
    return hashlib.sha256(json.dumps([previous, *astuple(entry)], ensure_ascii=False).encode()).hexdigest()
