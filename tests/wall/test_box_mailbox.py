"""The mailbox as a real box sees it: two files it can write, and can neither replace, nor link, nor lose."""

from __future__ import annotations

import asyncio
import dataclasses
import os

import pytest

from nanoclaw.errors import MailboxBusy
from nanoclaw.sandbox.inbound import InboundRow
from nanoclaw.sandbox.spec import build_spec
from nanoclaw.sandbox.wire import OutChat
from tests.wall.conftest import Wall

CRASH = """
import os, sqlite3
c = sqlite3.connect("/session/out/outbound.db", isolation_level=None)
c.execute("PRAGMA journal_mode=PERSIST"); c.execute("PRAGMA cache_size=1"); c.execute("PRAGMA cache_spill=1")
c.execute("BEGIN IMMEDIATE")
for n in range(1, 401, 2): c.execute("INSERT INTO messages VALUES (?, 't', 2, 'chat', ?)", (n, "x" * 20000))
os._exit(9)
"""


async def test_a_message_goes_in_and_its_reply_comes_out(wall: Wall) -> None:
    wall.mailbox.project([InboundRow(2, "01A", 1, "chat", True, '{"text":"hi"}')])
    box = await wall.start("""
        import os, sqlite3, sys
        def rows():
            c = sqlite3.connect("file:/session/in/inbound.db?mode=ro", uri=True)
            try: return c.execute("SELECT seq, content FROM messages ORDER BY seq").fetchall()
            finally: c.close()
        out = sqlite3.connect("/session/out/outbound.db", isolation_level=None)
        out.execute("PRAGMA journal_mode=PERSIST")
        seq = 1
        while True:
            for row in rows()[seq // 2:]:
                out.execute("BEGIN IMMEDIATE")
                out.execute("INSERT INTO messages VALUES (?, '1-1', ?, 'chat', ?)", (seq, row[0], row[1]))
                out.execute("INSERT INTO acks VALUES (?, 1, 'finished', '1-1')", (row[0],))
                out.execute("COMMIT")
                seq += 2
                os.write(1, b"o")
            if not os.read(0, 1): break
    """)
    replies: list[object] = []
    async with asyncio.timeout(10):
        async for _ in box.bells():
            read = wall.mailbox.read(2 * len(replies) - 1 if replies else 0, len(replies))
            replies += [message.body for message in read.messages]
            if len(replies) == 2:
                break
            wall.mailbox.project([InboundRow(4, "01B", 1, "chat", True, '{"text":"more"}')])
            box.ring()
    assert replies == [OutChat("hi"), OutChat("more")]
    await box.stop(5)


async def test_neither_file_can_be_replaced_linked_or_unlinked(wall: Wall) -> None:
    inodes = {path: path.stat().st_ino for path in (wall.mailbox.outbound_db, wall.mailbox.outbound_journal)}
    said = await wall.probe("""
        import shutil
        os.mkdir("/workspace/out"); open("/workspace/fake", "w").close(); open("/session/out/outbox/fake", "w").close()
        for name in ("outbound.db", "outbound.db-journal"):
            path = "/session/out/" + name
            for tried in (lambda: os.unlink(path),
                          lambda: os.rename(path, "/session/out/outbox/x"),
                          lambda: os.rename("/session/out/outbox/fake", path),
                          lambda: os.replace("/workspace/fake", path),
                          lambda: os.symlink("/etc/passwd", path + "-x"), lambda: os.link(path, "/session/out/second"),
                          lambda: os.link(path, "/session/out/outbox/second"),
                          lambda: os.link(path, "/workspace/second"),
                          lambda: os.rename("/session/out", "/session/gone"), lambda: os.rmdir("/session/out"),
                          lambda: os.mkdir("/session/out/new"), lambda: os.mkfifo("/session/out/fifo"),
                          lambda: shutil.rmtree("/session/in/inbox"),
                          lambda: os.chmod("/session/in/inbound.db", 0o666)):
                try: tried(); say("DID", name, tried.__code__.co_firstlineno)
                except OSError: pass
            with open(path, "r+b"): pass
    """)
    assert said == ""
    assert {path: path.stat().st_ino for path in inodes} == inodes
    assert {path.stat().st_nlink for path in inodes} == {1}
    assert sorted(path.name for path in wall.mailbox.out_directory.iterdir()) == [
        "outbound.db",
        "outbound.db-journal",
        "outbox",
    ]


async def test_what_the_host_writes_cannot_be_written_by_the_box(wall: Wall) -> None:
    said = await wall.probe("""
        import sqlite3
        for uri in ("file:/session/in/inbound.db", "file:/session/in/inbound.db?mode=rwc", "file:/session/in/other.db"):
            try:
                c = sqlite3.connect(uri, uri=True)
                c.execute("INSERT INTO receipts VALUES (1, 'x', 'y')"); c.commit(); say("WROTE")
            except sqlite3.Error: pass
    """)
    assert said == ""


async def test_a_transaction_left_half_done_is_rolled_back_by_a_throw_away_box(wall: Wall) -> None:
    assert (await wall.run(CRASH)).code == 9
    assert wall.mailbox.has_hot_journal()
    with pytest.raises(MailboxBusy, match="half done"):
        wall.mailbox.read(0, 0)
    await recover(wall)
    assert not wall.mailbox.has_hot_journal()
    assert wall.mailbox.read(0, 0).messages == ()


async def test_a_recovery_box_that_rolls_a_forgery_back_touches_nothing_but_the_mailbox(wall: Wall) -> None:
    """A super-journal's name is looked up inside the box: there it can only be the agent's own or nothing."""
    victim = wall.root / "victim"
    victim.write_bytes(b"precious" * 100)
    victim.chmod(0o666)
    from tests.unit.test_mailbox_hostile import forge_hot_journal

    forge_hot_journal(wall.mailbox, victim)
    await recover(wall, may_fail=True)
    assert victim.read_bytes() == b"precious" * 100


async def recover(wall: Wall, may_fail: bool = False) -> None:
    spec = build_spec(dataclasses.replace(wall.inputs, recover=True))
    box = await wall.runtime.start(spec, wall.label())
    assert box.listeners == []
    box.release()
    ended = await box.wait()
    assert may_fail or ended.code == 0, ended


async def test_a_box_starts_with_the_files_of_its_uid_only(wall: Wall) -> None:
    for path, mode in (
        (wall.mailbox.outbound_db, 0o600),
        (wall.mailbox.outbound_journal, 0o600),
        (wall.mailbox.outbox, 0o700),
    ):
        assert path.stat().st_mode & 0o777 == mode
        assert path.stat().st_uid == (wall.inputs.host_uid or os.geteuid())
