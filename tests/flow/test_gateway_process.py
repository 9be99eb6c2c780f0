"""The gateway as its host and its operator see it: start, turns, keys, death, restart; a real process every time."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from nanoclaw.errors import OperatorError
from nanoclaw.gateway import admin_words, control
from nanoclaw.gateway.client import (
    GatewayClient,
    GatewayFds,
    Grant,
    ask_admin,
    open_admin_socket,
    spawn_as_same_user,
)
from nanoclaw.gateway.parts import ADMIN_CONNECTIONS, contain
from nanoclaw.gateway.vault import Vault
from nanoclaw.log import open_log
from tests.flow.gateway_stand import (
    HELLO_BODY,
    KEY,
    ROUTE,
    STREAM,
    SYS_PATH,
    Gateway,
    StandIn,
    running,
    spawn_measured,
    sse,
    until,
)


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    async with running(tmp_path / "gateway", StandIn()) as started:
        started.client.open_turn("s1", 1, "owner")
        await started.set_key()
        yield started


async def test_a_call_inside_a_turn_gets_the_real_key_and_streams_back(gateway: Gateway) -> None:
    reply = await gateway.call(
        ROUTE + "?beta=true", headers="x-api-key: sk-ant-placeholder\r\nCookie: a=b\r\nAccept-Encoding: gzip\r\n"
    )
    assert (reply.status, reply.body) == (200, sse(*STREAM))
    assert "set-cookie" not in reply.headers
    seen = gateway.upstream.seen[0]
    assert (seen.method, seen.target, seen.body) == ("POST", "/v1/messages?beta=true", HELLO_BODY)
    assert seen.headers["x-api-key"] == KEY
    assert seen.headers["accept-encoding"] == "identity"
    assert "cookie" not in seen.headers
    await until(lambda: any(isinstance(event, control.CallFinished) for event in gateway.events))
    while len(rows := await gateway.audit()) < 3:
        pass
    assert [row.event for row in rows] == ["changed", "allowed", "finished"]
    assert (rows[1].host, rows[1].path, rows[1].charge) == ("api.anthropic.com", "/v1/messages", "owner")
    assert (rows[2].call, rows[2].status, rows[2].received_bytes) == (rows[1].seq, 200, len(reply.body))
    finished = gateway.events[-1]
    assert isinstance(finished, control.CallFinished)
    assert (finished.input_tokens, finished.output_tokens, finished.model) == (12, 7, "claude-x")


async def test_a_killed_gateway_has_the_same_authority_again_and_tunnels_open_with_the_key(gateway: Gateway) -> None:
    before = gateway.client.outside.ca_pem
    async with gateway.tunnel("api.anthropic.com") as line:
        assert (await line.call("/v1/messages", host="api.anthropic.com")).status == 200
        old = gateway.client.pid
        assert old is not None
        os.kill(old, signal.SIGKILL)
        assert await line.reader.read() == b""
    await until(lambda: gateway.client.ready.is_set() and gateway.client.pid != old)
    assert gateway.client.outside.ca_pem == before != ""
    async with gateway.tunnel("api.anthropic.com") as line:
        assert (await line.call("/v1/messages", host="api.anthropic.com")).status == 200
    assert [seen.headers["x-api-key"] for seen in gateway.upstream.seen] == [KEY, KEY]
    verified = await gateway.ask(admin_words.AuditVerify(), admin_words.Verification)
    assert isinstance(verified, admin_words.Verification)
    assert (verified.broken_at, verified.rows >= 3) == (None, True)


async def test_a_call_outside_a_turn_is_denied_and_audited(gateway: Gateway) -> None:
    gateway.client.close_turn("s1", 1)
    reply = await gateway.call()
    assert reply.status == 403
    assert "No turn is open" in reply.message
    assert gateway.upstream.seen == []
    row = (await gateway.audit())[-1]
    assert (row.event, row.rule, row.session, row.fence, row.agent_group) == ("refused", "turn", "s1", 1, "main")


async def test_a_call_that_overtakes_the_word_of_its_turn_is_served(gateway: Gateway) -> None:
    gateway.client.close_turn("s1", 1)
    assert (await gateway.call()).status == 403
    async with gateway.open() as line:
        line.send(b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}" % ROUTE.encode())
        await asyncio.sleep(0.01)
        gateway.client.open_turn("s1", 1, "owner")
        assert (await line.reply()).status == 200


async def test_a_call_under_way_ends_by_itself_when_its_turn_closes(gateway: Gateway) -> None:
    go = asyncio.Event()

    async def answer_late(_: object, writer: asyncio.StreamWriter) -> None:
        await go.wait()
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")

    gateway.upstream.answer = answer_late
    async with gateway.open() as line:
        line.send(b"POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}" % ROUTE.encode())
        await until(lambda: gateway.upstream.seen)
        gateway.client.close_turn("s1", 1)
        go.set()
        assert (await line.reply()).body == b"ok"


async def test_without_a_key_the_rehearsal_is_asked_and_with_one_never_again(tmp_path: Path) -> None:
    rehearsal = StandIn()
    async with running(tmp_path / "gateway", StandIn()) as gateway, rehearsal.listening() as port:
        gateway.client.open_turn("s1", 1, "owner")
        assert gateway.keys == [False]
        none = await gateway.call()
        assert none.status == 503
        assert "nanoclaw vault set anthropic" in none.message
        gateway.client.set_rehearsal(port)
        assert (await gateway.call(headers="x-api-key: placeholder\r\nAuthorization: Bearer x\r\n")).status == 200
        assert not {"x-api-key", "authorization"} & set(rehearsal.seen[0].headers)
        await gateway.set_key()
        assert (await gateway.call()).status == 200
        assert (len(rehearsal.seen), len(gateway.upstream.seen)) == (1, 1)
        await until(lambda: gateway.client.model_key)
        await gateway.ask(admin_words.VaultRemove("anthropic"), bool)
        assert (await gateway.call()).status == 200
        assert (len(rehearsal.seen), len(gateway.upstream.seen)) == (2, 1)
        await until(lambda: gateway.keys == [False, True, False])
        rows = await gateway.audit()
        assert [row.rule for row in rows if row.event == "allowed"] == ["rehearsal", "model", "rehearsal"]
        assert [row.reason for row in rows if row.event == "changed"] == [
            f"anthropic for api.anthropic.com, by uid {os.getuid()}",
            f"anthropic, by uid {os.getuid()}",
        ]


async def test_a_killed_gateway_serves_the_same_listeners_and_turns_within_a_second(gateway: Gateway) -> None:
    took: list[float] = []
    for _ in range(3):
        pid = gateway.client.pid
        assert pid is not None
        killed_at = time.monotonic()
        os.kill(pid, signal.SIGKILL)
        reply = await gateway.call()
        took.append(time.monotonic() - killed_at)
        assert reply.status == 200
        assert gateway.client.pid != pid
        await until(gateway.client.ready.is_set)
    assert min(took) < 1.0  # the best of three: other work on a machine slows a process that starts
    verified = await gateway.ask(admin_words.AuditVerify(), admin_words.Verification)
    assert isinstance(verified, admin_words.Verification)
    assert verified.broken_at is None
    assert gateway.keys == [False, True]


async def test_a_box_that_is_gone_loses_its_listener_and_its_connections(gateway: Gateway) -> None:
    async with gateway.open() as line:
        assert (await line.call()).status == 200
        await gateway.client.unlisten("s1", 1)
        assert await line.reader.read() == b""
    with pytest.raises(OSError):
        await gateway.call()
    status = await gateway.ask(admin_words.Status(), admin_words.GatewayStatus)
    assert isinstance(status, admin_words.GatewayStatus)
    assert (status.boxes, status.open_turns, status.connections) == (0, 0, 0)


async def test_two_boxes_are_told_apart_by_their_listeners(gateway: Gateway) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        await gateway.client.listen(Grant("s2", 7, "other"), [listener])
        gateway.client.open_turn("s2", 7, "someone")
        gateway.port = listener.getsockname()[1]
    assert (await gateway.call()).status == 200
    row = [row for row in await gateway.audit() if row.event == "allowed"][-1]
    assert (row.session, row.fence, row.agent_group, row.charge) == ("s2", 7, "other", "someone")
    of_one = await gateway.ask(admin_words.AuditList(session="s1"), list[admin_words.AuditLine])
    assert of_one == []


async def test_the_operator_lists_and_removes_secrets_and_never_sees_a_value(gateway: Gateway) -> None:
    await gateway.ask(admin_words.VaultSet("github", "ghp_0123456789", ("api.github.com",)), admin_words.SecretLine)
    lines = await gateway.ask(admin_words.VaultList(), list[admin_words.SecretLine])
    assert [(line.name, line.kind) for line in lines] == [  # type: ignore[attr-defined]
        ("anthropic", "anthropic-key"),
        ("github", "bearer"),
    ]
    assert KEY not in repr(lines)
    with pytest.raises(OperatorError, match="There is no secret of that name"):
        await gateway.ask(admin_words.VaultRemove("nothing"), bool)
    with pytest.raises(OperatorError, match="sk-ant-"):
        await gateway.set_key("no-anthropic-key")


@pytest.mark.parametrize("line", [b"{", b'{"verb":"vault.show","name":"anthropic"}', b"x" * 100_000])
async def test_a_request_the_gateway_does_not_know_gets_no_more_than_an_error(gateway: Gateway, line: bytes) -> None:
    reader, writer = await asyncio.open_unix_connection(str(gateway.admin_path))
    writer.write(line + b"\n")
    answer = await reader.readline()
    assert answer == b"" or b'"ok":false' in answer
    writer.close()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be another user; run the tests as root")
async def test_another_user_gets_no_answer_on_the_admin_socket(gateway: Gateway) -> None:
    with TemporaryDirectory(dir=os.environ.get("PYTEST_DEBUG_TEMPROOT")) as directory:
        place = Path(directory)
        place.chmod(0o755)
        (place / "gateway.sock").hardlink_to(gateway.admin_path)
        gateway.admin_path.chmod(0o666)
        script = (
            "import socket, sys; s = socket.socket(socket.AF_UNIX); s.settimeout(5); s.connect(sys.argv[1])\n"
            "try: s.sendall(b'{}\\n'); print(s.recv(100) or 'refused')\n"
            "except ConnectionError: print('refused')"
        )
        ran = await asyncio.to_thread(
            subprocess.run,
            ["/usr/bin/python3", "-c", script, str(place / "gateway.sock")],
            user=65534,
            group=65534,
            extra_groups=[],
            capture_output=True,
            text=True,
            check=False,
        )
    assert ran.stdout.strip() == "refused", ran


async def test_the_process_shows_no_secret_and_no_environment(gateway: Gateway) -> None:
    await gateway.call()
    process = Path(f"/proc/{gateway.client.pid}")
    assert (process / "environ").read_bytes() == b""
    assert KEY.encode() not in (process / "cmdline").read_bytes()
    assert KEY not in "".join(gateway.log)
    for file in gateway.directory.iterdir():
        assert KEY.encode() not in file.read_bytes()
        assert file.stat().st_mode & 0o077 == 0


async def test_a_ledger_that_cannot_be_written_stops_calls_not_the_gateway(gateway: Gateway) -> None:
    with closing(sqlite3.connect(gateway.directory / "ledger.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        reply = await gateway.call()
        other.execute("ROLLBACK")
    assert reply.status == 503
    assert "cannot be written" in reply.message
    assert gateway.upstream.seen == []
    assert (await gateway.call()).status == 200


async def test_a_gateway_that_may_not_start_says_why_in_plain_words(tmp_path: Path) -> None:
    directory = tmp_path / "gateway"
    directory.mkdir()
    vault = Vault(directory)
    vault.load()
    vault.put("anthropic", KEY, (), 1)
    (directory / "vault.key").chmod(0o644)
    with pytest.raises(BaseExceptionGroup) as raised:
        async with running(directory, StandIn()):
            pass
    assert raised.group_contains(OperatorError, match="Others can read the vault's key file")


async def test_a_gateway_without_its_directory_or_with_a_bad_upstream_says_so(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs, open_admin_socket(tmp_path / "sock") as admin:
        for directory, upstream, said in (
            (tmp_path / "none", "http://127.0.0.1:1", "cannot be used: No such file or directory"),
            (tmp_path, "http://proxy.test", "would carry the key unencrypted"),
        ):
            process = spawn_measured(directory, upstream)(GatewayFds(theirs, admin))
            _, stderr = await asyncio.to_thread(process.communicate)
            assert process.returncode == 2
            assert said in stderr.decode().splitlines()[-1]


async def test_the_operators_socket_takes_only_so_many_at_once(gateway: Gateway) -> None:
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(ADMIN_CONNECTIONS):
            _, writer = await asyncio.open_unix_connection(str(gateway.admin_path))
            stack.callback(writer.close)
        reader, writer = await asyncio.open_unix_connection(str(gateway.admin_path))
        stack.callback(writer.close)
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
    while True:
        with contextlib.suppress(OperatorError):
            status = await gateway.ask(admin_words.Status(), admin_words.GatewayStatus)
            break
    assert isinstance(status, admin_words.GatewayStatus)


async def test_a_fault_in_one_connection_is_logged_and_ends_it_alone() -> None:
    stream = io.StringIO()

    async def fail() -> None:
        raise ZeroDivisionError

    await contain(fail(), open_log(stream=stream))
    assert "gateway.connection_failed" in stream.getvalue()


async def test_two_gateways_never_share_a_directory(gateway: Gateway, tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    (tmp_path / "second" / "gateway").symlink_to(gateway.directory)
    with pytest.raises(BaseExceptionGroup) as raised:
        async with running(tmp_path / "second" / "gateway", StandIn()):
            pass
    assert raised.group_contains(OperatorError, match="Another gateway already uses")


async def test_a_gateway_that_cannot_be_started_is_tried_again_and_named(tmp_path: Path) -> None:
    log: list[str] = []
    stop = asyncio.Event()

    def spawn(_: object) -> subprocess.Popen[bytes]:
        raise FileNotFoundError(2, "No such file", "python")

    with open_admin_socket(tmp_path / "sock") as admin:
        client = GatewayClient(spawn, admin, on_event=print, on_log=log.append, on_model_key=print)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(client.run(stop))
            with pytest.raises(OperatorError, match="cannot be started: No such file"):
                await client.wait_ready()
            stop.set()
    assert len(log) == 3


async def test_a_gateway_that_breaks_at_its_start_is_named_with_its_last_words(tmp_path: Path) -> None:
    stop = asyncio.Event()
    spawn = spawn_as_same_user(sys.executable, ["/nowhere"], tmp_path)
    with open_admin_socket(tmp_path / "sock") as admin:
        client = GatewayClient(spawn, admin, on_event=print, on_log=print, on_model_key=print)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(client.run(stop))
            with pytest.raises(OperatorError, match="No module named 'nanoclaw'"):
                await client.wait_ready()
            stop.set()


def test_an_admin_socket_without_a_gateway_is_named(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match=r"cannot be reached.*nanoclaw up"):
        ask_admin(tmp_path / "none.sock", admin_words.Status(), admin_words.GatewayStatus)
    with open_admin_socket(tmp_path / "deaf.sock"), pytest.raises(OperatorError, match="did not answer in time"):
        ask_admin(tmp_path / "deaf.sock", admin_words.Status(), admin_words.GatewayStatus, timeout_seconds=0.05)
    assert (tmp_path / "deaf.sock").stat().st_mode & 0o777 == 0o600


async def test_the_gateway_ends_when_its_host_is_gone(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with open_admin_socket(tmp_path / "sock") as admin, theirs:
        process = spawn_as_same_user(sys.executable, SYS_PATH, tmp_path)(GatewayFds(theirs, admin))
    ready = control.parse_gateway_event(await asyncio.to_thread(ours.recv, 65536))
    assert isinstance(ready, control.Ready)
    assert not ready.model_key
    ours.close()
    assert await asyncio.to_thread(process.wait, 5) == 0
    assert process.stderr is not None
    process.stderr.close()
