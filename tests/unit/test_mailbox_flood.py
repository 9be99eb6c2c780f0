"""How much a run may say before it is at fault, and who may look at its mailbox."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from nanoclaw.errors import AgentFault
from nanoclaw.sandbox.allowance import BYTES_AT_ONCE, MESSAGES_AT_ONCE
from nanoclaw.sandbox.inbound import RunRow
from nanoclaw.sandbox.mailbox import Mailbox, create_mailbox

SHORT = json.dumps({"text": "hi"})
LONG = json.dumps({"text": "x" * 1_000_000})


@pytest.fixture
def mailbox(tmp_path: Path) -> Mailbox:
    return create_mailbox(tmp_path / "7", RunRow(7, "S", "{}"), os.getuid(), os.getgid())


@pytest.fixture
def box(mailbox: Mailbox) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(mailbox.outbound_db, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode=PERSIST")
        yield connection


def say(box: sqlite3.Connection, text: str, first: int, count: int) -> None:
    """What a box may do: drop what was read, write on."""
    box.execute("BEGIN")
    box.execute("DELETE FROM messages")
    rows = [(first + 2 * number, text) for number in range(count)]
    box.executemany("INSERT INTO messages VALUES (?, 't', 2, 'chat', ?)", rows)
    box.execute("COMMIT")


def read_all(mailbox: Mailbox, after: int = 0) -> int:
    more = True
    while more:
        read = mailbox.read(after, 0)
        after, more = read.messages[-1].seq, read.more
    return after


def test_a_flood_of_messages_is_a_fault(mailbox: Mailbox, box: sqlite3.Connection) -> None:
    say(box, SHORT, 1, MESSAGES_AT_ONCE - 1)
    after = read_all(mailbox)
    say(box, SHORT, after + 2, 200)
    with pytest.raises(AgentFault, match="more than 1000 messages in a row"):
        mailbox.read(after, 0)


def test_a_flood_of_text_is_a_fault_although_the_file_stays_small(mailbox: Mailbox, box: sqlite3.Connection) -> None:
    count = BYTES_AT_ONCE // 2 // 1_000_000
    say(box, LONG, 1, count)
    after = read_all(mailbox)
    say(box, LONG, after + 2, count)
    after = read_all(mailbox, after)
    say(box, LONG, after + 2, 4)
    with pytest.raises(AgentFault, match="more than 64 MiB of text in a row"):
        mailbox.read(after, 0)


def test_nobody_but_the_host_may_enter_a_mailbox(mailbox: Mailbox) -> None:
    assert stat.S_IMODE(mailbox.directory.stat().st_mode) == 0o700  # any user can read its path in /proc (run)
