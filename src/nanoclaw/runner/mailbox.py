"""The box's side of the mailbox: reads inbound.db, is the one writer of outbound.db. Holds all of the runner's SQL.

In: rows the host projected. Out: replies, acks and state. Writes: outbound.db, then one `o` on the doorbell.
Never: writes inbound.db; changes an ack. Fails: sqlite3.Error; a busy or half-written inbound.db is read again later.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from nanoclaw.contract.mailbox import INBOUND
from nanoclaw.contract.message import RunSettings, settings_from_json

# A connection that may not write takes the journal its writer has just begun for a hot one it would have to roll back
# ("attempt to write a readonly database", run); a moment later it can read.
READ_TRIES = 10
READ_AGAIN_SECONDS = 0.002

TAKEN = "taken"
FINISHED = "finished"
FAILED = "failed"

READ_RUN = "SELECT fence, session, settings FROM run"
READ_ROWS = "SELECT seq, inbox_id, attempt, kind, trigger, content FROM messages WHERE seq > ? ORDER BY seq"
READ_DESTINATIONS = "SELECT name, kind, display_name FROM destinations ORDER BY name"
READ_ANSWER = "SELECT content FROM answers WHERE id = ?"
HIGHEST_SEQ = "SELECT max(seq) FROM messages"
ADD_MESSAGE = "INSERT INTO messages (seq, turn, reply_to, kind, content) VALUES (?, ?, ?, ?, ?)"
ADD_ACK = "INSERT OR IGNORE INTO acks (seq, attempt, state, turn) VALUES (?, ?, ?, ?)"
PUT_STATE = "INSERT INTO state (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"


@dataclass(frozen=True, slots=True)
class RunRow:
    """Which run this is and what it was told."""

    fence: int
    session: str
    settings: RunSettings


@dataclass(frozen=True, slots=True)
class Row:
    """One row the host claimed for this run. A row without trigger rides along with the next one that has it."""

    seq: int
    inbox_id: str
    attempt: int
    kind: str
    trigger: bool
    content: str


@dataclass(frozen=True, slots=True)
class Destination:
    """A place the agent may send to, by name."""

    name: str
    kind: str
    display_name: str


@dataclass(frozen=True, slots=True)
class Draft:
    """A row for the host that has no seq yet."""

    kind: str
    content: str
    reply_to: int | None


@dataclass(frozen=True, slots=True)
class Ack:
    """What became of a row."""

    seq: int
    attempt: int
    state: str


class Inbound:
    """Reads inbound.db, each time through a connection of its own: the host is its writer."""

    def __init__(self, directory: str) -> None:
        self._uri = f"file:{os.path.join(directory, INBOUND)}?mode=ro"

    def read_run(self) -> RunRow:
        """Return the run this mailbox was made for. Raises sqlite3.Error or ValueError when there is none."""
        rows = self._read(READ_RUN, ())
        if not rows:
            raise ValueError("the table run is empty")
        fence, session, settings = rows[0]
        return RunRow(fence, session, settings_from_json(settings))

    def read_after(self, seq: int) -> tuple[Row, ...]:
        """Return the rows after `seq`, in order."""
        return tuple(Row(r[0], r[1], r[2], r[3], bool(r[4]), r[5]) for r in self._read(READ_ROWS, (seq,)))

    def read_destinations(self) -> tuple[Destination, ...]:
        """Return the places the agent may send to now."""
        return tuple(Destination(*row) for row in self._read(READ_DESTINATIONS, ()))

    def read_answer(self, answer_id: str) -> str | None:
        """Return the host's answer to a request, by the request's seq; None: it is not there yet."""
        rows = self._read(READ_ANSWER, (answer_id,))
        return rows[0][0] if rows else None

    def _read(self, statement: str, values: tuple[int | str, ...]) -> list[tuple[Any, ...]]:
        for _ in range(READ_TRIES - 1):
            try:
                return self._read_once(statement, values)
            except sqlite3.OperationalError:
                time.sleep(READ_AGAIN_SECONDS)
        return self._read_once(statement, values)

    def _read_once(self, statement: str, values: tuple[int | str, ...]) -> list[tuple[Any, ...]]:
        connection = sqlite3.connect(self._uri, uri=True, timeout=0.2, isolation_level=None)
        try:
            return connection.execute(statement, values).fetchall()
        finally:
            connection.close()


class Outbound:
    """Writes outbound.db. `ring` is called after each commit."""

    def __init__(self, path: str, first_seq: int, ring: Callable[[], None]) -> None:
        self._connection = open_outbound(path)
        highest = self._connection.execute(HIGHEST_SEQ).fetchone()[0] or -1
        self._next_seq = max(first_seq, highest + 2) | 1
        self._ring = ring

    def write(
        self,
        turn: str,
        drafts: Iterable[Draft] = (),
        acks: Iterable[Ack] = (),
        state: Iterable[tuple[str, str]] = (),
    ) -> list[int]:
        """Commit messages, acks and state together, then ring; return the messages' seqs.

        Raises sqlite3.Error, nothing written.
        """
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            first = seq = self._next_seq
            for draft in drafts:
                self._connection.execute(ADD_MESSAGE, (seq, turn, draft.reply_to, draft.kind, draft.content))
                seq += 2
            self._connection.executemany(ADD_ACK, [(a.seq, a.attempt, a.state, turn) for a in acks])
            self._connection.executemany(PUT_STATE, list(state))
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
        self._next_seq = seq
        self._ring()
        return list(range(first, seq, 2))

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


def open_outbound(path: str) -> sqlite3.Connection:
    """Open outbound.db as its writer."""
    connection = sqlite3.connect(f"file:{path}?mode=rw", uri=True, timeout=5.0, isolation_level=None)
    connection.execute("PRAGMA journal_mode=PERSIST")  # the journal is a file bind: it cannot be unlinked
    connection.execute("PRAGMA synchronous=OFF")  # outlives a killed box; after a power cut the store is the truth
    return connection


def recover(path: str) -> None:
    """Roll back a journal left hot by a killed runner; the host may not do it (architecture section 6).

    The journal is a file bind that cannot be unlinked, and SQLite ends a rollback by its journal mode, which it only
    learns afterwards: in exclusive mode it truncates instead.
    """
    connection = sqlite3.connect(f"file:{path}?mode=rw", uri=True, timeout=5.0, isolation_level=None)
    try:
        connection.execute("PRAGMA locking_mode=EXCLUSIVE")
        connection.execute("PRAGMA journal_mode=PERSIST")
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(HIGHEST_SEQ)
        connection.execute("COMMIT")
    finally:
        connection.close()
