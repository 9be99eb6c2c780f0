"""What was refused, allowed and used: ledger.db, an append-only audit whose rows are chained by hash, and money spent.

In: entries of the proxy and the admin socket. Out: their row numbers, once they are on the disk.
Writes: ledger.db, from one thread; entries that wait together share a commit.
Never: holds a body, a query string or a secret; changes or removes a row of the audit.
Fails: OperatorError when the file cannot be opened; LedgerError when an entry cannot be written (the call is refused).

Each row's hash is SHA-256 over the hash before it and the row's own values, so an edited, removed or inserted row
breaks the chain at its place (`verify`). Rows cut off at the end are seen by comparing the head with an earlier one.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import compress
from pathlib import Path

import msgspec

from nanoclaw.clock import Clock
from nanoclaw.gateway.audit_row import START_HASH, Entry, Event, chain_hash, make_row
from nanoclaw.gateway.ledger_file import LedgerError, Value, open_ledger
from nanoclaw.gateway.ledger_read import LedgerReader
from nanoclaw.gateway.spending import Reservation, Spent

BATCH = 256
LAZY_SECONDS = 0.005
CLOSE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class _Waiting:
    """An entry, or no entry and one statement. `statements` are of the same commit; `written` is told the outcome."""

    entry: Entry | None
    statements: tuple[str, ...]
    values: Mapping[str, Value]
    at: int
    written: Future[int]


class Ledger(LedgerReader):
    """The open ledger; `record`, `submit` and `change` from the loop, everything else is its own thread's."""

    def __init__(self, path: Path, clock: Clock) -> None:
        super().__init__(path)
        self._clock = clock
        self._waiting: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write_all, name="ledger", daemon=True)
        self.rows = 0
        self.head = START_HASH

    def open(self) -> None:
        """Open or make the file, find the end of the chain, start the thread. Raises OperatorError."""
        self._connection = open_ledger(self.path, self.statements)
        if (last := self._connection.execute(self.statements["find_head"]).fetchone()) is not None:
            self.rows, self.head = last
        self._thread.start()

    def close(self) -> None:
        """Write what waits and end the thread (bounded: 2 s)."""
        if self._thread.is_alive():
            self._waiting.put(None)
            self._thread.join(CLOSE_SECONDS)

    async def record(self, entry: Entry, reservation: Reservation | None = None) -> int:
        """Return the row's number once it is committed, with what its call may cost; raises LedgerError."""
        if reservation is None or not (reservation.input_tokens or reservation.output_tokens):
            return await asyncio.wrap_future(self._put(entry, (), {}))
        return await asyncio.wrap_future(self._put(entry, ("add_reservation",), reservation.columns()))

    def submit(self, entry: Entry, spent: Spent | None = None) -> Future[int]:
        """Queue an entry, with what the call it finishes cost; the future tells its row number or LedgerError."""
        if spent is None:
            return self._put(entry, (), {})
        return self._put(entry, ("add_usage", "add_spending", "remove_reservation"), spent.columns())

    async def change(self, statement: str, **values: Value) -> int:
        """Return how many rows a statement of ledger.sql changed, once it is committed; raises LedgerError."""
        return await asyncio.wrap_future(self._put(None, (statement,), values))

    async def add_grant(self, digest: str, group: str, approval: str, expires_at: int) -> bool:
        """Keep that a call may go once until `expires_at`; False when this approval's grant is already there."""
        row = {"digest": digest, "agent_group": group, "approval": approval, "expires_at": expires_at}
        return await self.change("add_grant", **row) == 1

    async def take_grant(self, digest: str, group: str, now: int) -> bool:
        """Use a call's grant up, exactly once and on the disk before this returns; False when there is none."""
        return await self.change("take_grant", digest=digest, agent_group=group, now=now) == 1

    def _put(self, entry: Entry | None, statements: tuple[str, ...], values: Mapping[str, Value]) -> Future[int]:
        waiting = _Waiting(entry, statements, values, self._clock.now_ms(), Future())
        self._waiting.put(waiting)
        return waiting.written

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
            idle = last is not None and last.entry is not None and last.entry.event is Event.FINISHED
            try:
                batch.append(self._waiting.get(timeout=LAZY_SECONDS if idle else 0))
            except queue.Empty:
                break
        return batch

    def _write_batch(self, batch: list[_Waiting]) -> None:
        end = self.rows, self.head
        outcomes: list[int] = []
        asked = [waiting.written.set_running_or_notify_cancel() for waiting in batch]  # written even if nobody asks
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            for waiting in batch:
                end, outcome = self._write(waiting, *end)
                outcomes.append(outcome)
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            failure = LedgerError(f"The gateway's ledger cannot be written: {error}.")
            for waiting in compress(batch, asked):
                waiting.written.set_exception(failure)
            return
        self.rows, self.head = end
        for outcome, waiting in compress(zip(outcomes, batch, strict=True), asked):
            waiting.written.set_result(outcome)

    def _write(self, waiting: _Waiting, rows: int, head: str) -> tuple[tuple[int, str], int]:
        """Return the new end of the chain, and the entry's row number or how many rows a lone statement changed."""
        if waiting.entry is None:
            values = {"at": waiting.at, **waiting.values}
            return (rows, head), self._connection.execute(self.statements[waiting.statements[0]], values).rowcount
        row = make_row(waiting.entry, rows + 1, waiting.at)
        row = msgspec.structs.replace(row, hash=chain_hash(head, row))
        values = {**msgspec.structs.asdict(row), **waiting.values}
        self._connection.execute(self.statements["add_audit"], values)
        for statement in waiting.statements:
            self._connection.execute(self.statements[statement], values)
        return (row.seq, row.hash), row.seq
