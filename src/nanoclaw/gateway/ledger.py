"""What was refused, allowed and used: ledger.db, an append-only audit whose rows are chained by hash, and token usage.

In: entries of the proxy and the admin socket. Out: their row numbers, once they are on the disk.
Writes: ledger.db, from one thread; entries that wait together share a commit.
Never: holds a body, a query string or a secret; changes or removes a row.
Fails: OperatorError when the file cannot be opened; LedgerError when an entry cannot be written (the call is refused).

Each row's hash is SHA-256 over the hash before it and the row's own values, so an edited, removed or inserted row
breaks the chain at its place (`verify`). Rows cut off at the end are seen by comparing the head with an earlier one.
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import queue
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from itertools import compress
from pathlib import Path
from typing import Any, cast

import aiosql
import msgspec

from nanoclaw.clock import Clock
from nanoclaw.errors import NanoClawError, OperatorError
from nanoclaw.gateway.admin_words import AuditLine, Verification
from nanoclaw.gateway.policy import Caller
from nanoclaw.gateway.target import shown
from nanoclaw.gateway.usage import Usage

VERSION = 1
START_HASH = "0" * 64
BATCH = 256
LAZY_SECONDS = 0.005
CLOSE_SECONDS = 2.0
LOCK_SECONDS = 0.5  # nobody else writes; a lock is a stranger with a database tool
REASON_CHARACTERS = 500
LIST_LIMIT = 10_000


class LedgerError(NanoClawError):
    """An entry could not be written; what it was about must not happen."""


class Event(StrEnum):
    """What a row tells."""

    REFUSED = "refused"
    ALLOWED = "allowed"
    FINISHED = "finished"
    CHANGED = "changed"  # the operator changed the vault


@dataclass(frozen=True, slots=True)
class Entry:
    """One row to write. `call` is the `allowed` row that a `finished` one ends; `path` without its query."""

    event: Event
    caller: Caller
    charge: str = ""
    method: str = ""
    host: str = ""
    path: str = ""
    rule: str = ""
    reason: str = ""
    call: int = 0
    status: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0
    took_ms: int = 0


@dataclass(frozen=True, slots=True)
class _Waiting:
    entry: Entry
    usage: Usage | None
    at: int
    written: Future[int]


class Ledger:
    """The open ledger; `record` and `submit` from the loop, everything else is its own thread's."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._sql = _load_sql()
        self._waiting: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write_all, name="ledger", daemon=True)
        self.rows = 0
        self.head = START_HASH

    def open(self) -> None:
        """Open or make the file, find the end of the chain, start the thread. Raises OperatorError."""
        try:
            self._connection = sqlite3.connect(
                self._path, isolation_level=None, check_same_thread=False, timeout=LOCK_SECONDS
            )
            self._prepare()
        except sqlite3.Error as error:
            raise OperatorError(
                f"The gateway's ledger {self._path} cannot be used: {error}. Move it away to begin a new one."
            ) from None
        self._thread.start()

    def close(self) -> None:
        """Write what waits and end the thread (bounded: 2 s)."""
        if self._thread.is_alive():
            self._waiting.put(None)
            self._thread.join(CLOSE_SECONDS)

    async def record(self, entry: Entry) -> int:
        """Return the row's number once it is committed; raises LedgerError."""
        return await asyncio.wrap_future(self.submit(entry))

    def submit(self, entry: Entry, usage: Usage | None = None) -> Future[int]:
        """Queue an entry, with the usage of the call it finishes; the future tells its row number or LedgerError."""
        waiting = _Waiting(entry, usage, self._clock.now_ms(), Future())
        self._waiting.put(waiting)
        return waiting.written

    def list_newest(self, limit: int, session: str | None) -> list[AuditLine]:
        """Return the newest rows, oldest first. Blocking; on its own connection."""
        limit = max(1, min(limit, LIST_LIMIT))
        query = "list_newest" if session is None else "list_newest_of_session"
        found = self._read(query, limit=limit, session=session)
        return [AuditLine(*row) for row in reversed(found)]

    def verify(self) -> Verification:
        """Recompute the chain from its first row. Blocking; on its own connection."""
        head, seq = START_HASH, 0
        for row in self._read_chain():
            if row.seq != seq + 1 or row.hash != _chain(head, row):
                return Verification(seq, head, broken_at=row.seq)
            head, seq = row.hash, row.seq
        return Verification(seq, head)

    def list_usage(self, since: int) -> list[tuple[str, Usage]]:
        """Return (charge, usage) of every call that ended since `since` (epoch milliseconds). Blocking."""
        return [(row[5], Usage(*row[7:])) for row in self._read("list_usage", since=since)]

    def _read(self, query: str, **parameters: int | str | None) -> list[tuple[Any, ...]]:
        """Return a query's rows, from a connection of its own. Raises LedgerError."""
        try:
            with closing(sqlite3.connect(f"{self._path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
                return connection.execute(self._sql[query], parameters).fetchall()
        except sqlite3.Error as error:
            raise LedgerError(f"The gateway's ledger cannot be read: {error}.") from None

    def _read_chain(self) -> Iterator[AuditLine]:
        after = 0
        while found := self._read("list_chain", after=after):
            yield from (AuditLine(*values) for values in found)
            after = found[-1][0]

    def _prepare(self) -> None:
        self._connection.execute("PRAGMA journal_mode = WAL")  # readers (audit, verify) never wait for the writer
        self._connection.execute("PRAGMA synchronous = FULL")  # a refusal is on the disk before the agent hears it
        self._connection.execute("PRAGMA foreign_keys = ON")
        version = self._connection.execute(self._sql["get_version"]).fetchone()[0]
        if version > VERSION:
            raise OperatorError(
                f"The gateway's ledger {self._path} was written by a newer NanoClaw (version {version}, this one knows "
                f"{VERSION}). Update NanoClaw."
            )
        if version == 0:
            self._connection.executescript(self._sql["create_schema"])
        if (last := self._connection.execute(self._sql["find_head"]).fetchone()) is not None:
            self.rows, self.head = last

    def _write_all(self) -> None:
        """The thread: take what waits, one transaction for all of it."""
        going = True
        while going:
            batch = self._take_batch()
            going = None not in batch
            self._write_batch([waiting for waiting in batch if waiting is not None])
        self._connection.close()

    def _take_batch(self) -> list[_Waiting | None]:
        """Return what waits; while only ends of calls do, nobody waits for them and an urgent entry may join."""
        batch = [self._waiting.get()]
        while len(batch) < BATCH:
            last = batch[-1]
            idle = last is not None and last.entry.event is Event.FINISHED
            try:
                batch.append(self._waiting.get(timeout=LAZY_SECONDS if idle else 0))
            except queue.Empty:
                break
        return batch

    def _write_batch(self, batch: list[_Waiting]) -> None:
        rows, head = self.rows, self.head
        asked = [waiting.written.set_running_or_notify_cancel() for waiting in batch]  # written even if nobody asks
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            for waiting in batch:
                rows += 1
                head = self._add(waiting, rows, head)
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            failure = LedgerError(f"The gateway's ledger cannot be written: {error}.")
            for waiting in compress(batch, asked):
                waiting.written.set_exception(failure)
            return
        numbers = range(self.rows + 1, rows + 1)
        self.rows, self.head = rows, head
        for number, waiting in compress(zip(numbers, batch, strict=True), asked):
            waiting.written.set_result(number)

    def _add(self, waiting: _Waiting, seq: int, head: str) -> str:
        entry = waiting.entry
        row = AuditLine(
            seq=seq,
            at=waiting.at,
            event=entry.event,
            session=entry.caller.session,
            fence=entry.caller.fence,
            agent_group=entry.caller.group,
            charge=entry.charge,
            method=shown(entry.method),
            host=shown(entry.host),
            path=shown(entry.path.partition("?")[0]),
            rule=entry.rule,
            reason=entry.reason[:REASON_CHARACTERS],
            call=entry.call,
            status=entry.status,
            sent_bytes=entry.sent_bytes,
            received_bytes=entry.received_bytes,
            took_ms=entry.took_ms,
            hash="",
        )
        row = msgspec.structs.replace(row, hash=_chain(head, row))
        self._connection.execute(self._sql["add_audit"], msgspec.structs.asdict(row))
        if waiting.usage is not None:
            known = msgspec.structs.asdict(row) | dataclasses.asdict(waiting.usage)
            self._connection.execute(self._sql["add_usage"], known)
        return row.hash


def _load_sql() -> dict[str, str]:
    """Return the statements of ledger.sql by name."""
    path = Path(__file__).with_name("ledger.sql")
    queries = aiosql.from_path(path, "sqlite3", mandatory_parameters=False)  # pyright: ignore[reportUnknownMemberType]
    return {name: cast("str", getattr(queries, name).sql) for name in queries.available_queries}


def _chain(head: str, row: AuditLine) -> str:
    """Return the hash of a row that follows `head`."""
    values = msgspec.structs.astuple(row)[:-1]
    return hashlib.sha256(head.encode("ascii") + b"\n" + msgspec.json.encode(values)).hexdigest()
