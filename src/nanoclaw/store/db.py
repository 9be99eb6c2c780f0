"""The central store: one writer thread, readers beside it, and batches that share a commit.

`write(work)` runs `work(connection)` in the writer thread inside a transaction and returns when it is committed; what
waits meanwhile joins the same commit, each in a savepoint of its own. `read(work)` runs on a connection of its own.
Mailbox files are never touched on these threads (architecture section 6).
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from nanoclaw.errors import NanoClawError, StoreError, StoreFull

T = TypeVar("T")

BATCH = 50  # transactions that may share one commit (issue 3: batches of at most 50)
READERS = 2


@dataclass(slots=True)
class _Job:
    work: Callable[[sqlite3.Connection], object]
    future: Future[object] = field(default_factory=Future)
    result: object = None
    error: Exception | None = None


def open_connection(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """Open the store's file with its pragmas. Raises sqlite3.Error."""
    uri = f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rwc'}"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=5.0)
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA foreign_keys = ON")  # off by default in SQLite
    connection.execute("PRAGMA secure_delete = ON")  # a held message of a stranger leaves no byte in a free page
    if not read_only:
        connection.execute("PRAGMA journal_mode = WAL")  # readers never wait for the writer
        connection.execute("PRAGMA synchronous = FULL")  # what was accepted survives a power loss
    return connection


@contextmanager
def savepoint(connection: sqlite3.Connection) -> Generator[None]:
    """Undo what is done inside, and only that, when it raises."""
    connection.execute("SAVEPOINT part")
    try:
        yield
    except BaseException:
        if connection.in_transaction:  # else SQLite itself rolled everything back: disk full, I/O error
            connection.execute("ROLLBACK TO part")
            connection.execute("RELEASE part")
        raise
    connection.execute("RELEASE part")


class Store:
    """The open database. Made by `migrate.open_store`; `close()` waits for what was handed in."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._local = threading.local()
        self._open_readers: list[sqlite3.Connection] = []
        self._scrub = threading.Event()
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="store-read")
        connection = open_connection(path)  # here, so that whoever opens the store hears of a failure
        self._writer = threading.Thread(target=self._run_writer, args=(connection,), name="store-write", daemon=True)
        self._writer.start()

    async def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` in a transaction; return its result once committed.

        Raises what `work` raised (its changes are undone, others' are not), StoreFull, or StoreError.
        """
        job = _Job(work)
        self._jobs.put(job)
        return await asyncio.wrap_future(job.future)  # type: ignore[return-value]

    async def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` on a read-only connection. Raises StoreError."""
        return await asyncio.wrap_future(self._readers.submit(self._read, work))

    def request_scrub(self) -> None:
        """Have what was deleted vanish from the write-ahead log too, soon; never blocks."""
        self._scrub.set()
        self._jobs.put(_Job(_nothing))

    def close(self) -> None:
        """Finish what was handed in and close every connection."""
        self._readers.shutdown(wait=True)
        for connection in self._open_readers:
            connection.close()
        self._jobs.put(None)  # the writer last: the last connection to close folds the WAL into the database
        self._writer.join()

    def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return work(self._reader())
        except sqlite3.Error as error:
            raise as_store_error(error, self._path) from error

    def _reader(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = open_connection(self._path, read_only=True)
            self._local.connection = connection
            self._open_readers.append(connection)
        return connection

    def _run_writer(self, connection: sqlite3.Connection) -> None:
        while (job := self._jobs.get()) is not None:
            batch = [job]
            last = False
            while len(batch) < BATCH and not self._jobs.empty():
                more = self._jobs.get()
                if more is None:
                    last = True
                    break
                batch.append(more)
            self._commit(connection, batch)
            if self._scrub.is_set() and _truncate_log(connection):
                self._scrub.clear()
            if last:
                break
        connection.close()

    def _commit(self, connection: sqlite3.Connection, batch: list[_Job]) -> None:
        try:
            connection.execute("BEGIN IMMEDIATE")
            for job in batch:
                self._run(connection, job)
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            with suppress(sqlite3.Error):  # this thread must live: the next BEGIN says what is wrong
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
            for job in batch:
                job.error = as_store_error(error, self._path)
        for job in batch:
            if not job.future.set_running_or_notify_cancel():
                continue  # its caller has gone; from here on it cannot go any more, which would end this thread
            if job.error is not None:
                job.future.set_exception(job.error)
            else:
                job.future.set_result(job.result)

    def _run(self, connection: sqlite3.Connection, job: _Job) -> None:
        connection.execute("SAVEPOINT job")
        try:
            job.result = job.work(connection)
        except Exception as error:  # boundary: one bad transaction must not undo its neighbours
            if not connection.in_transaction:  # SQLite itself rolled everything back: disk full, I/O error
                raise error if isinstance(error, sqlite3.Error) else sqlite3.OperationalError(str(error)) from error
            connection.execute("ROLLBACK TO job")
            job.error = as_store_error(error, self._path) if isinstance(error, sqlite3.Error) else error
        connection.execute("RELEASE job")


def _nothing(connection: sqlite3.Connection) -> None:
    """Work that only wakes the writer."""


def _truncate_log(connection: sqlite3.Connection) -> bool:
    """Fold the write-ahead log into the database and cut it to nothing; False: a reader is still in it, try later."""
    try:
        return connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
    except sqlite3.Error:
        return False


def as_store_error(error: sqlite3.Error, path: Path) -> NanoClawError:
    """Turn SQLite's error into ours, in plain words."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is not None and code & 0xFF == sqlite3.SQLITE_FULL:
        return StoreFull(f"the disk that holds {path} is full; nothing was saved. Free some space and try again")
    if code is not None and code & 0xFF == sqlite3.SQLITE_IOERR:
        return StoreFull(f"writing {path} failed ({error}). Check the disk's space and health, then try again")
    return StoreError(f"the database {path} failed: {error}. `nanoclaw doctor` checks it")
