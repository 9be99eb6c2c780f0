"""The host's own file of a mailbox, `in/inbound.db`: rows the store has claimed, places, receipts, answers.

In: rows for one run. Writes: the file, which the box can read and not change. Blocking: call it from a worker thread.
Fails: MailboxBusy, the box holds a lock on it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from nanoclaw.contract.mailbox import INBOUND, mailbox_schema
from nanoclaw.errors import MailboxBusy

LOCK_SECONDS = 0.5

PUT_RUN = "INSERT INTO run (fence, session, settings) VALUES (?, ?, ?)"
PUT_MESSAGE = (
    "INSERT OR IGNORE INTO messages (seq, inbox_id, attempt, kind, trigger, content) VALUES (?, ?, ?, ?, ?, ?)"
)
DROP_DESTINATIONS = "DELETE FROM destinations"
PUT_DESTINATION = "INSERT INTO destinations (name, kind, display_name) VALUES (?, ?, ?)"
PUT_RECEIPT = "INSERT OR REPLACE INTO receipts (seq, state, detail) VALUES (?, ?, ?)"
PUT_ANSWER = "INSERT OR REPLACE INTO answers (id, content) VALUES (?, ?)"


@dataclass(frozen=True, slots=True)
class RunRow:
    """The `run` row: which run this mailbox belongs to. `settings` is RunSettings as JSON."""

    fence: int
    session: str
    settings: str


@dataclass(frozen=True, slots=True)
class InboundRow:
    """One row the store has claimed for this run."""

    seq: int
    inbox_id: str
    attempt: int
    kind: str
    trigger: bool
    content: str
    files: str = "[]"  # what comes with it (flow/files.py), not for the box's eyes


@dataclass(frozen=True, slots=True)
class DestinationRow:
    """A place the agent may send to."""

    name: str
    kind: str
    display_name: str


class InboundFile:
    """One run's inbound.db. Methods block (0.3-3 ms, up to 0.5 s when the box holds a lock)."""

    def __init__(self, path: Path) -> None:
        self.inbound_db = path

    def create(self, run: RunRow) -> None:
        """Make the file; its folder is there."""
        with closing(sqlite3.connect(self.inbound_db, isolation_level=None)) as connection:
            connection.execute("PRAGMA journal_mode=DELETE")
            connection.execute("PRAGMA synchronous=OFF")  # rebuilt from the store at every start
            connection.executescript(mailbox_schema(INBOUND))
            connection.execute(PUT_RUN, (run.fence, run.session, run.settings))
        self.inbound_db.chmod(0o644)

    def project(self, rows: Sequence[InboundRow]) -> None:
        """Insert claimed rows; one that is there already stays as it is. MailboxBusy when the box blocks the file."""
        self._write(PUT_MESSAGE, [(r.seq, r.inbox_id, r.attempt, r.kind, int(r.trigger), r.content) for r in rows])

    def put_destinations(self, rows: Sequence[DestinationRow]) -> None:
        """Replace the list of places the agent may send to."""
        self._write(PUT_DESTINATION, [(r.name, r.kind, r.display_name) for r in rows], first=DROP_DESTINATIONS)

    def put_receipt(self, seq: int, state: str, detail: str) -> None:
        """Tell the box what became of its message `seq`."""
        self._write(PUT_RECEIPT, [(seq, state, detail)])

    def put_answer(self, answer_id: str, content: str) -> None:
        """Tell the box a person's answer to its question."""
        self._write(PUT_ANSWER, [(answer_id, content)])

    def _write(self, statement: str, rows: Sequence[tuple[object, ...]], first: str | None = None) -> None:
        try:
            with closing(_open_inbound(self.inbound_db)) as connection:
                connection.execute("BEGIN IMMEDIATE")
                if first is not None:
                    connection.execute(first)
                connection.executemany(statement, rows)
                connection.execute("COMMIT")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY:
                raise MailboxBusy("The sandbox holds a lock on inbound.db.") from None
            raise


def _open_inbound(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=LOCK_SECONDS, isolation_level=None)
    connection.execute("PRAGMA synchronous=OFF")  # rebuilt from the store at every start
    return connection
