"""The host's side of a run's mailbox: `in/inbound.db` is written (inbound.py), `out/outbound.db` read as hostile.

In: what a box wrote. Out: `Outbound`, typed by wire.py. Blocking: call it from a worker thread.
Writes: the folder, made before the box exists and removed after it; nothing below `out/` between.
Never: opens `outbound.db` read-write once a box has had it (a forged hot journal that names a super-journal made
such an open delete any file: architecture section 6).
Fails: MailboxBusy (locked or left hot; look again, 30 s of it is a fault), AgentFault (anything else that is wrong).
"""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from nanoclaw.contract.mailbox import ATTACHMENTS, INBOUND, JOURNAL, OUTBOUND, OUTBOX, mailbox_schema
from nanoclaw.errors import AgentFault, MailboxBusy
from nanoclaw.sandbox.allowance import Allowance, weigh
from nanoclaw.sandbox.inbound import InboundFile, RunRow
from nanoclaw.sandbox.mounts import remove_tree
from nanoclaw.sandbox.wire import (
    CONTENT_BYTES,
    OutAck,
    OutMessage,
    StateEntry,
    parse_ack,
    parse_message,
    parse_state,
)

FILE_BYTES = 64 * 1024 * 1024
LOCK_SECONDS = 0.5
READ_CPU_SECONDS = 0.1  # of this thread's own time: waiting for a lock or a processor is not the box's work
ROWS_PER_READ = 256
BYTES_PER_READ = 4 * 1024 * 1024
STATE_ROWS = 32
STEPS_PER_CHECK = 1000

LIMITS = (
    (sqlite3.SQLITE_LIMIT_LENGTH, CONTENT_BYTES + 4096),
    (sqlite3.SQLITE_LIMIT_SQL_LENGTH, 16 * 1024),
    (sqlite3.SQLITE_LIMIT_COLUMN, 16),
    (sqlite3.SQLITE_LIMIT_EXPR_DEPTH, 32),
    (sqlite3.SQLITE_LIMIT_COMPOUND_SELECT, 2),
    (sqlite3.SQLITE_LIMIT_VDBE_OP, 10_000),
    (sqlite3.SQLITE_LIMIT_ATTACHED, 0),
    (sqlite3.SQLITE_LIMIT_TRIGGER_DEPTH, 1),
    (sqlite3.SQLITE_LIMIT_WORKER_THREADS, 0),
)
READ_PRAGMAS = (
    "PRAGMA trusted_schema=OFF",  # functions in a forged schema must not run
    "PRAGMA cell_size_check=ON",  # corrupt pages are found before they are used
    "PRAGMA query_only=ON",
    "PRAGMA mmap_size=0",  # a file cut short under us must be an error, not SIGBUS
)
SCHEMA = "SELECT type, name, tbl_name, rootpage, sql FROM sqlite_schema ORDER BY rowid"
MESSAGES = "SELECT seq, turn, reply_to, kind, content FROM messages WHERE seq > ? ORDER BY seq"
ACKS = "SELECT rowid, seq, attempt, state, turn FROM acks WHERE rowid > ? ORDER BY rowid"
STATE = "SELECT key, value FROM state ORDER BY key"


@dataclass(frozen=True, slots=True)
class Outbound:
    """What was new in `outbound.db`. `more`: a cap was met, read again from the last rows seen.

    Acks come only with a read that took every message there was, so none overtakes the replies it finishes.
    """

    messages: tuple[OutMessage, ...]
    acks: tuple[OutAck, ...]
    state: tuple[StateEntry, ...]
    more: bool

    def state_of(self, key: str) -> str | None:
        """Return the value the runner keeps under `key`, or None."""
        return next((entry.value for entry in self.state if entry.key == key), None)


class Mailbox(InboundFile):
    """One run's two files. Methods block (0.3-3 ms, up to 0.5 s when the box holds a lock)."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.in_directory = directory / "in"
        self.out_directory = directory / "out"
        super().__init__(self.in_directory / INBOUND)
        self.outbound_db = self.out_directory / OUTBOUND
        self.outbound_journal = self.out_directory / JOURNAL
        self.outbox = self.out_directory / OUTBOX
        self.attachments = self.in_directory / ATTACHMENTS
        self._schema = expected_schema()
        self._allowance = Allowance()

    def read(self, after_message: int, after_ack: int) -> Outbound:
        """Return messages with seq > `after_message` and acks with rowid > `after_ack`, capped (`more`).

        MailboxBusy: locked, or a journal was left hot. AgentFault: anything else than what was agreed.
        """
        self._check_files()
        try:
            with closing(_open_hostile(self.outbound_db)) as connection:
                return self._read_all(connection, after_message, after_ack)
        except (sqlite3.Error, UnicodeError, MemoryError) as error:  # the words of an SQLite error may be the box's
            raise _fault_of(error) from None

    def _read_all(self, connection: sqlite3.Connection, after_message: int, after_ack: int) -> Outbound:
        connection.execute("BEGIN")  # schema and rows from the same moment
        if connection.execute(SCHEMA).fetchmany(len(self._schema) + 1) != self._schema:
            raise AgentFault("outbound.db has another schema than the one it was made with")
        messages, more_messages = _read_messages(connection, after_message)
        # A `finished` ack must not overtake replies of its own transaction that the cap held back.
        acks, more_acks = ([], True) if more_messages else _read_acks(connection, after_ack)
        self._allowance.take(len(messages), sum(map(weigh, messages)))
        state = connection.execute(STATE).fetchmany(STATE_ROWS + 1)
        if len(state) > STATE_ROWS:
            raise AgentFault("outbound.db keeps too much state")
        entries = tuple(parse_state(row) for row in state)
        return Outbound(tuple(messages), tuple(acks), entries, more_messages or more_acks)

    def _check_files(self) -> None:
        _check_plain(self.outbound_journal, self.outbound_journal.lstat)
        try:
            descriptor = os.open(self.outbound_db, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            raise AgentFault("outbound.db is gone or is not a plain file of its own") from None
        try:
            _check_plain(self.outbound_db, lambda: os.fstat(descriptor))
            header = os.read(descriptor, 100)
        finally:
            os.close(descriptor)
        if header[:16] != b"SQLite format 3\0" or header[18:20] != b"\1\1":
            # Versions 2 mean WAL: to read that, SQLite would make files beside it, as the host.
            raise AgentFault("outbound.db is not a database, or not one with a rollback journal")

    def has_hot_journal(self) -> bool:
        """Whether a transaction was left half done (SQLite's own test: the journal's first byte is not zero).

        Meaningful only when the box is gone; mended by a `--recover` box, never by the host.
        """
        try:
            with self.outbound_journal.open("rb") as journal:
                return journal.read(1) not in (b"", b"\0")
        except FileNotFoundError:
            return False

    def remove(self) -> None:
        """Remove the run's folder, whatever the box left in it; the box must be gone."""
        remove_tree(self.directory)


def create_mailbox(directory: Path, run: RunRow, box_uid: int, box_gid: int) -> Mailbox:
    """Make a run's folder and both files afresh; `directory` must not exist (its parent must).

    `in/` is the host's; `outbound.db`, its journal and `outbox/` belong to the box's uid. Nobody else may enter: any
    local user can read the paths of a box's mounts in /proc (run), and a root host mounts without the box's uid.
    """
    mailbox = Mailbox(directory)
    directory.mkdir(mode=0o700)
    for folder in (mailbox.in_directory, mailbox.attachments, mailbox.out_directory, mailbox.outbox):
        folder.mkdir(mode=0o755)
    mailbox.create(run)
    with closing(sqlite3.connect(mailbox.outbound_db, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=PERSIST")  # the box can neither create nor replace the journal
        connection.execute("PRAGMA synchronous=OFF")  # an empty file is no loss
        connection.executescript(mailbox_schema(OUTBOUND))
    mailbox.outbound_journal.touch()
    for path, mode in ((mailbox.outbound_db, 0o600), (mailbox.outbound_journal, 0o600), (mailbox.outbox, 0o700)):
        path.chmod(mode)
        os.chown(path, box_uid, box_gid)
    return mailbox


def expected_schema() -> list[tuple[object, ...]]:
    """Return the rows that `sqlite_schema` of an honest `outbound.db` has."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.text_factory = bytes
        connection.executescript(mailbox_schema(OUTBOUND))
        return connection.execute(SCHEMA).fetchall()


def _check_plain(path: Path, stat_of: Callable[[], os.stat_result]) -> None:
    try:
        found = stat_of()
    except FileNotFoundError:
        raise AgentFault(f"{path.name} is gone") from None
    if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
        raise AgentFault(f"{path.name} is not a plain file of its own")
    if found.st_size > FILE_BYTES:
        raise AgentFault(f"{path.name} has grown over 64 MiB")


def _open_hostile(path: Path) -> sqlite3.Connection:
    address = f"file:{quote(str(path))}?mode=ro"
    connection = sqlite3.connect(address, uri=True, timeout=LOCK_SECONDS, isolation_level=None, cached_statements=0)
    for category, limit in LIMITS:
        connection.setlimit(category, limit)
    connection.text_factory = bytes
    connection.set_progress_handler(_watch_cpu(), STEPS_PER_CHECK)
    for pragma in READ_PRAGMAS:
        connection.execute(pragma)
    return connection


def _watch_cpu() -> Callable[[], bool]:
    deadline = time.thread_time() + READ_CPU_SECONDS
    return lambda: time.thread_time() > deadline


def _read_messages(connection: sqlite3.Connection, after: int) -> tuple[list[OutMessage], bool]:
    messages: list[OutMessage] = []
    size = 0
    for row in connection.execute(MESSAGES, (after,)):
        if len(messages) == ROWS_PER_READ or size > BYTES_PER_READ:
            return messages, True
        messages.append(parse_message(row, messages[-1].seq if messages else after))
        size += sum(len(value) for value in row if isinstance(value, bytes))
    return messages, False


def _read_acks(connection: sqlite3.Connection, after: int) -> tuple[list[OutAck], bool]:
    acks: list[OutAck] = []
    for row in connection.execute(ACKS, (after,)):
        if len(acks) == ROWS_PER_READ:
            return acks, True
        acks.append(parse_ack(row, acks[-1].rowid if acks else after))
    return acks, False


def _fault_of(error: Exception) -> AgentFault:
    code = getattr(error, "sqlite_errorcode", None)
    if code is not None and code & 0xFF == sqlite3.SQLITE_BUSY:
        return MailboxBusy("The sandbox holds a lock on outbound.db.")
    if code is not None and code & 0xFF == sqlite3.SQLITE_READONLY:
        # a reader that may not write sees this for a journal left hot, and while the box just begins a commit
        return MailboxBusy("A transaction in outbound.db is half done.")
    if code is not None and code & 0xFF == sqlite3.SQLITE_INTERRUPT:
        return AgentFault("outbound.db took too long to read")
    return AgentFault(f"outbound.db cannot be read: {type(error).__name__} {code or ''}".rstrip())
