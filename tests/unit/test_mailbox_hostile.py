"""The host reads `outbound.db` as hostile: every forgery is a fault or a wait, in bounded time, and changes nothing."""

from __future__ import annotations

import os
import sqlite3
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from nanoclaw.errors import AgentFault, MailboxBusy
from nanoclaw.sandbox.inbound import DestinationRow, InboundRow, RunRow
from nanoclaw.sandbox.mailbox import FILE_BYTES, ROWS_PER_READ, Mailbox, _open_hostile, create_mailbox
from nanoclaw.sandbox.wire import AckState, OutChat

CHAT = '{"text":"hi"}'
LOCK = (
    "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None); c.execute('BEGIN EXCLUSIVE');"
    "print('held', flush=True); sys.stdin.read()"
)
CRASH = """
import os, sqlite3, sys
c = sqlite3.connect(sys.argv[1], isolation_level=None)
c.execute("PRAGMA journal_mode=PERSIST"); c.execute("PRAGMA cache_size=1"); c.execute("PRAGMA cache_spill=1")
c.execute("BEGIN IMMEDIATE")
for n in range(1, 401, 2): c.execute("INSERT INTO messages VALUES (?, 't', 2, 'chat', ?)", (n, "x" * 20000))
os._exit(9)
"""
MUCH_STATE = (
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 40) INSERT INTO state SELECT i, '' FROM n"
)
MAGIC = bytes.fromhex("d9d505f920a163d7")


@pytest.fixture
def mailbox(tmp_path: Path) -> Mailbox:
    return create_mailbox(tmp_path / "7", RunRow(7, "S", "{}"), os.getuid(), os.getgid())


@pytest.fixture
def box(mailbox: Mailbox) -> Iterator[sqlite3.Connection]:
    """What the box may do to its file: anything."""
    with closing(sqlite3.connect(mailbox.outbound_db, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=PERSIST")
        yield connection


def say(box: sqlite3.Connection, seq: int, content: str = CHAT) -> None:
    box.execute("INSERT INTO messages VALUES (?, '7-1', 2, 'chat', ?)", (seq, content))


def fault(mailbox: Mailbox, match: str = "outbound|as agreed|too long") -> None:
    started = time.thread_time()
    with pytest.raises(AgentFault, match=match) as caught:
        mailbox.read(0, 0)
    assert not isinstance(caught.value, MailboxBusy)
    assert time.thread_time() - started < 0.5


def forge_schema(box: sqlite3.Connection, *statements: str) -> None:
    box.execute("PRAGMA writable_schema=ON")
    for statement in statements:
        box.execute(statement)


def test_what_an_honest_runner_writes_is_read_once_and_in_order(mailbox: Mailbox, box: sqlite3.Connection) -> None:
    assert mailbox.read(0, 0).messages == ()
    box.execute("BEGIN IMMEDIATE")
    say(box, 1)
    box.execute("INSERT INTO acks VALUES (2, 1, 'taken', '7-1')")
    box.execute("INSERT INTO acks VALUES (2, 1, 'finished', '7-1')")
    box.execute("INSERT INTO state VALUES ('phase', 'idle')")
    assert mailbox.read(0, 0).messages == ()  # not yet committed
    box.execute("COMMIT")
    first = mailbox.read(0, 0)
    assert [(message.seq, message.body) for message in first.messages] == [(1, OutChat("hi"))]
    assert [ack.state for ack in first.acks] == [AckState.TAKEN, AckState.FINISHED]
    assert (first.state_of("phase"), first.state_of("tool"), first.more) == ("idle", None, False)
    say(box, 3)
    again = mailbox.read(1, first.acks[-1].rowid)
    assert ([message.seq for message in again.messages], again.acks) == ([3], ())
    assert not mailbox.has_hot_journal()


def test_many_rows_come_in_portions_and_no_ack_overtakes_its_replies(mailbox: Mailbox, box: sqlite3.Connection) -> None:
    box.execute("BEGIN")
    for seq in range(1, 2 * ROWS_PER_READ + 2, 2):
        say(box, seq)
    box.execute("INSERT INTO acks VALUES (2, 1, 'finished', '7-1')")
    box.execute("COMMIT")
    first = mailbox.read(0, 0)
    assert (len(first.messages), first.acks, first.more) == (ROWS_PER_READ, (), True)
    rest = mailbox.read(first.messages[-1].seq, 0)
    assert (len(rest.messages), len(rest.acks), rest.more) == (1, 1, False)


def test_large_rows_come_in_portions(mailbox: Mailbox, box: sqlite3.Connection) -> None:
    for seq in range(1, 21, 2):
        say(box, seq, '{"text":"' + "x" * 1_000_000 + '"}')
    seen, more = 0, True
    while more:
        read = mailbox.read(seen, 0)
        assert (
            sum(len(message.body.text) for message in read.messages if isinstance(message.body, OutChat)) <= 6_000_000
        )
        seen, more = read.messages[-1].seq, read.more
    assert seen == 19


def test_a_file_that_is_garbage_empty_cut_short_or_gone_is_a_fault(mailbox: Mailbox, box: sqlite3.Connection) -> None:
    say(box, 1, '{"text":"' + "x" * 100_000 + '"}')
    box.close()
    whole = mailbox.outbound_db.read_bytes()
    for content in (
        b"",
        b"garbage" * 1000,
        os.urandom(65536),
        whole[:4096],
        whole[:5000],
        whole[:100] + os.urandom(len(whole) - 100),
    ):
        mailbox.outbound_db.write_bytes(content)
        fault(mailbox)
    mailbox.outbound_db.unlink()
    fault(mailbox, "gone")


def test_every_byte_of_the_header_and_schema_turned_over_is_a_fault_or_harmless(
    mailbox: Mailbox, box: sqlite3.Connection
) -> None:
    say(box, 1)
    box.close()
    whole = mailbox.outbound_db.read_bytes()
    for position in (*range(110), *range(4096 - 700, 4096, 7), *range(4096, 4096 + 40)):
        changed = bytearray(whole)
        changed[position] ^= 0xFF
        mailbox.outbound_db.write_bytes(bytes(changed))
        try:
            read = mailbox.read(0, 0)
        except AgentFault:
            continue
        assert len(read.messages) <= 1


def test_a_huge_file_is_a_fault_before_it_is_opened(mailbox: Mailbox) -> None:
    for path in (mailbox.outbound_db, mailbox.outbound_journal):
        size = path.stat().st_size
        os.truncate(path, FILE_BYTES + 1)
        fault(mailbox, "64 MiB")
        os.truncate(path, size)
    mailbox.read(0, 0)


def test_a_link_a_pipe_or_a_second_name_in_its_place_is_a_fault(mailbox: Mailbox, tmp_path: Path) -> None:
    real = tmp_path / "real"
    mailbox.outbound_db.rename(real)
    mailbox.outbound_db.symlink_to(real)
    fault(mailbox, "plain file")
    mailbox.outbound_db.unlink()
    os.mkfifo(mailbox.outbound_db)
    fault(mailbox, "plain file")
    mailbox.outbound_db.unlink()
    os.link(real, mailbox.outbound_db)
    fault(mailbox, "plain file")


def test_a_view_in_an_endless_loop_is_stopped(mailbox: Mailbox, box: sqlite3.Connection) -> None:
    box.execute("DROP TABLE messages")
    box.execute(
        "CREATE VIEW messages AS WITH RECURSIVE spin(seq) AS (SELECT 1 UNION ALL SELECT seq FROM spin)"
        " SELECT seq, '' AS turn, 0 AS reply_to, '' AS kind, '' AS content FROM spin WHERE seq > 1"
    )
    fault(mailbox, "schema")


def test_the_reading_itself_is_stopped_after_its_share_of_time(mailbox: Mailbox) -> None:
    """Were the schema's check to miss a view that spins: here thirty million steps, to end some day."""
    spin = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 30000000) SELECT max(i) FROM n"
    with closing(_open_hostile(mailbox.outbound_db)) as reader:
        started = time.thread_time()
        with pytest.raises(sqlite3.OperationalError, match="interrupted"):
            reader.execute(spin).fetchall()
        assert time.thread_time() - started < 0.3


def test_a_reading_connection_can_neither_write_nor_attach(mailbox: Mailbox) -> None:
    with closing(_open_hostile(mailbox.outbound_db)) as reader:
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            reader.execute("UPDATE state SET value = 'x'")
        with pytest.raises(sqlite3.OperationalError, match="too many attached"):
            reader.execute("ATTACH ? AS other", (str(mailbox.inbound_db),))


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE extra (x)",
        "CREATE INDEX extra ON messages (turn)",
        "CREATE TRIGGER extra AFTER INSERT ON state BEGIN SELECT 1; END",
        "ALTER TABLE messages ADD COLUMN extra TEXT",
        "DROP TABLE state",
        "CREATE VIEW extra AS SELECT 1",
    ],
)
def test_any_other_schema_is_a_fault(mailbox: Mailbox, box: sqlite3.Connection, statement: str) -> None:
    box.execute(statement)
    fault(mailbox, "schema")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE sqlite_schema SET sql = sql || ' ' WHERE name = 'messages'",
        "UPDATE sqlite_schema SET sql = 'CREATE TABLE messages (seq, turn, reply_to, kind, content)' WHERE rowid = 1",
        "UPDATE sqlite_schema SET rootpage = 3 WHERE name = 'messages'",
        "UPDATE sqlite_schema SET rootpage = 1 WHERE name = 'messages'",
        "UPDATE sqlite_schema SET type = 'view' WHERE name = 'state'",
        "DELETE FROM sqlite_schema WHERE name LIKE 'sqlite_autoindex%'",
        "INSERT INTO sqlite_schema VALUES ('table', 'evil', 'evil', 0, 'CREATE VIRTUAL TABLE evil USING fts5(x)')",
        "UPDATE sqlite_schema SET sql = printf('%.*c', 30000, 'x') WHERE name = 'state'",
    ],
)
def test_a_forged_schema_is_a_fault(mailbox: Mailbox, box: sqlite3.Connection, statement: str) -> None:
    forge_schema(box, statement)
    fault(mailbox)


def test_a_schema_of_very_many_tables_is_stopped_in_time(mailbox: Mailbox, box: sqlite3.Connection) -> None:
    box.execute("PRAGMA journal_mode=MEMORY")
    forge_schema(
        box,
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)"
        " INSERT INTO sqlite_schema SELECT 'table', 't' || i, 't' || i, 2, 'CREATE TABLE t' || i || '(a, b, c)' FROM n",
    )
    fault(mailbox)


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO messages VALUES (1, '7-1', 2, 'chat', 'not json')",
        "INSERT INTO messages VALUES (1, '7-1', 2, 'chat', CAST(x'ff' AS TEXT))",
        "INSERT INTO messages VALUES (1, '7-1', 2, 'shell', '{}')",
        "INSERT INTO messages VALUES (9223372036854775807, '7-1', 2, 'chat', '{\"text\":\"\"}')",
        "INSERT INTO messages VALUES (1, '7-1', 2, 'chat', printf('%.*c', 2000000, 'x'))",
        MUCH_STATE,
        "INSERT INTO state VALUES ('phase', printf('%.*c', 5000, 'x'))",
    ],
)
def test_rows_that_are_not_as_agreed_are_a_fault(mailbox: Mailbox, box: sqlite3.Connection, statement: str) -> None:
    box.execute(statement)
    fault(mailbox)


def test_constraints_the_box_switched_off_are_checked_again(mailbox: Mailbox, box: sqlite3.Connection) -> None:
    box.execute("PRAGMA ignore_check_constraints=ON")
    box.execute("INSERT INTO acks VALUES (2, 1, 'exploded', '7-1')")
    fault(mailbox, "unknown state")
    box.execute("DELETE FROM acks")
    box.execute("INSERT INTO messages VALUES (2, '7-1', 2, 'chat', ?)", (CHAT,))
    fault(mailbox, "seq 2")


def test_another_text_encoding_is_read_and_wal_is_a_fault_that_leaves_no_file(mailbox: Mailbox) -> None:
    mailbox.outbound_db.unlink()
    mailbox.outbound_db.touch()
    with closing(sqlite3.connect(mailbox.outbound_db, isolation_level=None)) as box:
        from nanoclaw.contract.mailbox import mailbox_schema

        box.execute("PRAGMA encoding='UTF-16le'")
        box.execute("PRAGMA journal_mode=PERSIST")
        box.executescript(mailbox_schema("outbound.db"))
        say(box, 1)
        assert mailbox.read(0, 0).messages[0].body == OutChat("hi")
    header = bytearray(mailbox.outbound_db.read_bytes())
    header[18:20] = b"\2\2"  # says it is in WAL mode
    mailbox.outbound_db.write_bytes(bytes(header))
    before = sorted(path.name for path in mailbox.out_directory.iterdir())
    fault(mailbox, "rollback journal")
    assert sorted(path.name for path in mailbox.out_directory.iterdir()) == before


def test_a_lock_held_by_the_box_is_busy_and_not_a_fault(mailbox: Mailbox, box: sqlite3.Connection) -> None:
    holder = subprocess.Popen(
        [
            sys.executable, "-c", LOCK, str(mailbox.outbound_db),
        ],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert holder.stdout
    with holder:
        assert holder.stdout.readline() == b"held\n"
        started = time.monotonic()
        with pytest.raises(MailboxBusy, match="lock"):
            mailbox.read(0, 0)
        assert time.monotonic() - started < 5
        holder.kill()
    assert mailbox.read(0, 0).messages == ()


def forge_hot_journal(mailbox: Mailbox, super_journal: Path) -> None:
    """A journal as SQLite's file format describes it: one page record, and at its end the super-journal's name."""
    page = mailbox.outbound_db.read_bytes()[:4096]
    sector = 512
    header = MAGIC + struct.pack(">IIIII", 1, 0, mailbox.outbound_db.stat().st_size // 4096, sector, 4096)
    name = os.fsencode(super_journal)
    checksum = sum(name) & 0xFFFFFFFF
    trailer = struct.pack(">I", 0x40000000 // 4096 + 1) + name + struct.pack(">II", len(name), checksum) + MAGIC
    record = (
        struct.pack(">I", 1) + page + struct.pack(">I", sum(page[i] for i in range(4096 - 200, 0, -200)) & 0xFFFFFFFF)
    )
    mailbox.outbound_journal.write_bytes(header.ljust(sector, b"\0") + record + trailer)


def test_a_forged_hot_journal_that_names_a_super_journal_deletes_nothing(mailbox: Mailbox, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious" * 100)
    forge_hot_journal(mailbox, victim)
    assert mailbox.has_hot_journal()
    with pytest.raises(MailboxBusy, match="half done"):
        mailbox.read(0, 0)
    assert victim.read_bytes() == b"precious" * 100
    assert mailbox.outbound_journal.stat().st_size > 4096
    # That the forgery is a good one: what the host never does, an open for writing, deletes the file.
    with closing(sqlite3.connect(mailbox.outbound_db)) as writer:
        writer.execute("SELECT * FROM messages").fetchall()
    assert not victim.exists()


def test_a_journal_left_hot_is_seen_and_read_after_it_was_rolled_back(mailbox: Mailbox) -> None:
    subprocess.run([sys.executable, "-c", CRASH, str(mailbox.outbound_db)], check=False)
    assert mailbox.has_hot_journal()
    with pytest.raises(MailboxBusy, match="half done"):
        mailbox.read(0, 0)
    with closing(sqlite3.connect(mailbox.outbound_db)) as recovery:  # in life: a throw-away box
        recovery.execute("PRAGMA locking_mode=EXCLUSIVE")  # then the journal is emptied, not unlinked: in a box it
        recovery.execute("PRAGMA journal_mode=PERSIST")  # cannot be, and the roll-back would fail
        recovery.execute("SELECT * FROM messages").fetchall()
    assert not mailbox.has_hot_journal()
    assert mailbox.read(0, 0).messages == ()


def test_what_the_host_writes_is_there_once(mailbox: Mailbox) -> None:
    row = InboundRow(2, "01A", 1, "chat", True, "{}")
    mailbox.project([row, InboundRow(4, "01B", 1, "chat", False, "{}")])
    mailbox.project([row])
    mailbox.put_destinations([DestinationRow("local", "chat", "Local")])
    mailbox.put_destinations([DestinationRow("family", "chat", "Family")])
    mailbox.put_receipt(1, "sent", "")
    mailbox.put_receipt(1, "failed", "no such chat")
    mailbox.put_answer("q1", "yes")
    with closing(sqlite3.connect(f"file:{mailbox.inbound_db}?mode=ro", uri=True)) as runner:
        assert runner.execute("SELECT seq, inbox_id, trigger FROM messages ORDER BY seq").fetchall() == [
            (2, "01A", 1),
            (4, "01B", 0),
        ]
        assert runner.execute("SELECT name FROM destinations").fetchall() == [("family",)]
        assert runner.execute("SELECT * FROM receipts").fetchall() == [(1, "failed", "no such chat")]
        assert runner.execute("SELECT * FROM answers").fetchall() == [("q1", "yes")]
        assert runner.execute("SELECT * FROM run").fetchall() == [(7, "S", "{}")]


def test_a_box_that_locks_what_the_host_writes_is_busy(mailbox: Mailbox) -> None:
    with closing(sqlite3.connect(f"file:{mailbox.inbound_db}?mode=ro", uri=True, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM messages").fetchall()
        with pytest.raises(MailboxBusy):
            mailbox.project([InboundRow(2, "01A", 1, "chat", True, "{}")])


def test_a_mailbox_is_made_once_and_removed_whole(mailbox: Mailbox) -> None:
    with pytest.raises(FileExistsError):
        create_mailbox(mailbox.directory, RunRow(7, "S", "{}"), os.getuid(), os.getgid())
    (mailbox.outbox / "deep").mkdir()
    (mailbox.outbox / "link").symlink_to("/etc")
    mailbox.remove()
    mailbox.remove()
    assert not mailbox.directory.exists()
    assert Path("/etc/passwd").exists()
