"""The admin socket: who may ask, what is answered, with a host and without."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from io import StringIO
from pathlib import Path
from typing import Any, TypeVar

import pytest

from nanoclaw.admin.access import decide_access
from nanoclaw.admin.client import ask_host
from nanoclaw.admin.desk import Desk, Hands
from nanoclaw.admin.offline import ask_file
from nanoclaw.admin.request import Reply, Request
from nanoclaw.admin.resources.approvals import by_operator
from nanoclaw.admin.resources.host import HostFacts
from nanoclaw.admin.resources.parts import Machine
from nanoclaw.admin.server import AdminServer, Back
from nanoclaw.admin.table import Table, format_facts, format_table, format_time, to_json
from nanoclaw.boxes import make_folders, make_runtimes
from nanoclaw.clock import SystemClock
from nanoclaw.config import Config, Paths, Settings
from nanoclaw.domain.verdict import Allow, Deny
from nanoclaw.errors import OperatorError, Refused
from nanoclaw.flow.asking import build_asked
from nanoclaw.flow.means import Means
from nanoclaw.ids import UlidSource
from nanoclaw.log import open_log
from nanoclaw.sandbox.interpreter import find_interpreter
from nanoclaw.store.db import open_connection
from nanoclaw.store.defaults import Operator, make_defaults
from nanoclaw.store.inbound import NewInbound
from nanoclaw.store.migrate import open_store
from nanoclaw.store.tables import Tables, build_tables
from nanoclaw.supervise import ThreadBlocking
from tests.unit.office import no_preview

T = TypeVar("T")


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    """A home with the default group and one accepted message."""
    (tmp_path / "data").mkdir()
    paths = Paths(tmp_path, tmp_path)
    open_store(paths.database, 0).close()
    connection = open_connection(paths.database)
    make_message(connection, build_tables(UlidSource(SystemClock())))
    connection.close()
    return paths


def make_message(connection: sqlite3.Connection, tables: Tables) -> None:
    make_defaults(connection, tables, Operator("uid:0", "Ada"), 1_000)
    chat = tables.chats.find(connection, "terminal", "local")
    assert chat is not None
    new = NewInbound(
        channel_type="terminal",
        platform_id="c1",
        chat=chat.id,
        thread=None,
        sender="uid:0",
        sender_name="Ada",
        user=None,
        text="secret words",
        reply_to=None,
        is_group=False,
        is_mention=False,
        sent_at=1,
    )
    tables.inbound.add(connection, new, 5_000)


def message_of(paths: Paths) -> str:
    connection = sqlite3.connect(paths.database)
    try:
        return connection.execute("SELECT id FROM inbound").fetchone()[0]
    finally:
        connection.close()


@asynccontextmanager
async def serve(paths: Paths, host_uid: int = 0, stopped: Callable[[], None] = lambda: None) -> AsyncIterator[None]:
    tables = build_tables(UlidSource(SystemClock()))
    store = open_store(paths.database, 0)
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:

        def spawn(work: Coroutine[Any, Any, None], name: str = "") -> None:
            group.create_task(work)

        log = open_log(stream=StringIO())
        config = Config(paths, Settings(), "0badcafe", "UTC", "root", 0)
        means = Means(config, store, tables, SystemClock(), log, spawn, ThreadBlocking(), lambda point: None)
        facts = HostFacts(pid=42, started_at=1_000, model="rehearsal", boxes=1)
        asked = build_asked(means)
        decide = by_operator(asked.approvals)
        machine = Machine(make_folders(config), config.box_uid, make_runtimes(config, find_interpreter()))
        asks = (asked.groups, decide, asked.pairing.create, ("terminal", "uid:0"))
        hands = Hands(*asks, machine, no_preview, lambda: facts, stopped)
        back = Back(store, tables, SystemClock(), lambda after: None)
        desk = Desk(tables, str(paths.home), hands)
        server = AdminServer(paths.admin_socket, desk, back, host_uid, log, spawn)
        running = group.create_task(server.run(stop))
        async with asyncio.timeout(5):
            while not paths.admin_socket.is_socket() and not running.done():
                await asyncio.sleep(0.001)
        await asyncio.sleep(0)
        try:
            yield
        finally:
            stop.set()
    store.close()


async def ask(paths: Paths, request: Request) -> Table:
    table = await asyncio.to_thread(ask_host, paths.admin_socket, request)
    assert table is not None
    return table


async def test_status_and_trace_are_answered_over_the_socket(paths: Paths) -> None:
    async with serve(paths):
        assert stat.S_IMODE(paths.admin_socket.stat().st_mode) == 0o600
        status = await ask(paths, Request("host", "status"))
        assert dict(zip(status.columns, status.rows[0], strict=True))["model"] == "rehearsal"
        trace = await ask(paths, Request("messages", "trace", message_of(paths)[:20]))
        assert [row[1] for row in trace.rows] == ["received"]
        assert "secret words" not in to_json(trace)
    assert not paths.admin_socket.exists()


async def test_what_is_not_there_is_refused_with_words(paths: Paths) -> None:
    async with serve(paths):
        for request, words in (
            (Request("sessions", "burn"), "There is no"),
            (Request("moon", "list"), "There is no"),
            (Request("messages", "trace", "01"), "first 6 characters"),
            (Request("messages", "trace", "ZZZZZZZZ"), "No message"),
        ):
            with pytest.raises(Refused, match=words):
                await ask(paths, request)


async def test_stop_asks_the_host_to_stop(paths: Paths) -> None:
    asked: list[str] = []
    async with serve(paths, stopped=lambda: asked.append("stop")):
        await ask(paths, Request("host", "stop"))
    assert asked == ["stop"]


async def test_garbage_is_answered_and_an_endless_line_closes_the_connection(paths: Paths) -> None:
    async with serve(paths):
        reader, writer = await asyncio.open_unix_connection(str(paths.admin_socket))
        for line in (b"garbage\n", b"[]\n", b"\xff\n", b'{"resource": 1}\n'):
            writer.write(line)
            assert b"did not understand" in await reader.readline()
        writer.write(b"x" * 70_000)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
        writer.close()


def test_only_root_and_the_hosts_user_may_ask() -> None:
    assert isinstance(decide_access(0, 1000), Allow)
    assert isinstance(decide_access(1000, 1000), Allow)
    assert isinstance(decide_access(1001, 1000), Deny)
    assert isinstance(decide_access(None, 1000), Deny)


def test_without_a_host_the_file_answers(paths: Paths) -> None:
    assert ask_host(paths.admin_socket, Request("host", "status")) is None
    status = ask_file(paths, Request("host", "status"))
    assert status.rows[0][0] == "down"
    assert ask_file(paths, Request("groups", "list")).rows[0][1:3] == ("Andy", "main")
    assert ask_file(paths, Request("sessions", "list")).rows == ()
    assert ask_file(paths, Request("audit", "verify")).rows[0][1] is None
    assert len(ask_file(paths, Request("messages", "trace", message_of(paths))).rows) == 1
    with pytest.raises(OperatorError, match="no host runs"):
        ask_file(paths, Request("host", "stop"))


def test_a_home_without_a_database_says_so(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="nothing in"):
        ask_file(Paths(tmp_path, tmp_path), Request("groups", "list"))


def test_a_table_is_aligned_and_safe_to_print() -> None:
    table = Table(("id", "name", "set_at"), (("1", "a\x1b[31m\nb", 0), ("22", None, 1_700_000_000_123)))
    assert format_table(table, "UTC").splitlines() == [
        "id  name      set",
        "1   a␛[31m b",
        "22            2023-11-14 22:13:20.123",
    ]
    assert format_table(Table(("id",), ()), "UTC") == "(nothing)"
    assert format_facts(Table(("host", "is_up"), (("x", True),)), "UTC") == "host   x\nis up  yes"
    assert format_time(1_700_000_000_000, "No/Zone") == "2023-11-14 22:13:20.000"


def test_a_reply_is_small_words_for_a_machine() -> None:
    assert Reply(ok=False, error="no").table is None
