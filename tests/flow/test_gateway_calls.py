"""What a box can do on its connection: real sockets on both sides of the proxy, limits made small."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from nanoclaw.clock import SystemClock
from nanoclaw.gateway import control, policy
from nanoclaw.gateway.boxes import Boxes, Limits
from nanoclaw.gateway.exchange import Desk, Route
from nanoclaw.gateway.ledger import Ledger
from nanoclaw.gateway.policy import Caller
from nanoclaw.gateway.proxy import serve_connection
from nanoclaw.gateway.upstream import Endpoint, UpstreamPool
from nanoclaw.gateway.vault import Vault
from tests.flow.gateway_stand import HELLO_BODY, KEY, ROUTE, STREAM, Line, Reply, Seen, StandIn, sse, until
from tests.unit.test_gateway_hello import hello_for

SMALL = Limits(
    connections=3,
    body_bytes=1024 * 1024,
    idle_seconds=5.0,
    header_seconds=0.1,
    stall_seconds=0.2,
    connect_seconds=0.5,
    answer_seconds=0.3,
)


@dataclass
class Bench:
    """A proxy in this process with one box in an open turn."""

    port: int
    upstream: StandIn
    ledger: Ledger
    boxes: Boxes
    events: list[control.GatewayEvent]
    route: list[Route | None]
    faults: list[Exception] = field(default_factory=list)

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[Line]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=2**16)
        try:
            yield Line(reader, writer)
        finally:
            writer.close()

    async def call(self, target: str = ROUTE, **options: Any) -> Reply:
        async with self.open() as line:
            return await line.call(target, **options)

    async def raw(self, data: bytes) -> bytes:
        async with self.open() as line, asyncio.timeout(5):
            line.send(data)
            return await line.reader.read()

    def rows(self) -> list[control.AuditLine]:
        return self.ledger.list_newest(100, None)

    async def finished(self, count: int = 1) -> control.CallFinished:
        def ended() -> list[control.CallFinished]:
            return [event for event in self.events if isinstance(event, control.CallFinished)]

        await until(lambda: len(ended()) >= count)
        return ended()[-1]


@contextlib.asynccontextmanager
async def running(directory: Path, limits: Limits = SMALL, pool: UpstreamPool | None = None) -> AsyncIterator[Bench]:
    vault = Vault(directory)
    vault.put("anthropic", KEY, (), 1)
    ledger = Ledger(directory / "ledger.db", SystemClock())
    ledger.open()
    pool = pool or UpstreamPool()
    upstream = StandIn()
    faults: list[Exception] = []
    events: list[control.GatewayEvent] = []

    async with contextlib.AsyncExitStack() as stack:
        stack.callback(ledger.close)
        upstream.port = await stack.enter_async_context(upstream.listening())
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        stack.callback(pool.close)

        async def guard(work: Coroutine[Any, Any, None]) -> None:
            try:
                await work
            except Exception as error:  # boundary: shown by the test
                faults.append(error)

        def spawn(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
            return tasks.create_task(guard(work))

        route: list[Route | None] = [Route(Endpoint("127.0.0.1", upstream.port, tls=False), vault.find("anthropic"))]
        desk = Desk(
            rules=policy.DEFAULT_RULES,
            find_route=lambda _: route[-1],
            secret_values=vault.values,
            ledger=ledger,
            pool=pool,
            clock=SystemClock(),
            limits=limits,
            spawn=spawn,
            tell=events.append,
        )
        boxes = Boxes(spawn, lambda box, sock: serve_connection(desk, box, sock), limits)
        stack.callback(boxes.close)
        listener = socket.create_server(("127.0.0.1", 0))
        boxes.add(Caller("s1", 1, "main"), [listener])
        boxes.open_turn("s1", 1, "owner")
        yield Bench(listener.getsockname()[1], upstream, ledger, boxes, events, route, faults)
    assert faults == []


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with running(tmp_path) as started:
        yield started


def answers(*pieces: bytes) -> Callable[[Seen, asyncio.StreamWriter], Coroutine[Any, Any, None]]:
    async def answer(_: Seen, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()

    return answer


def whole(status: str, body: bytes, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


# What is refused


@pytest.mark.parametrize(
    ("request_line", "host", "path"),
    [
        ("GET /", "gateway", "/"),
        ("GET /anthropic/api/claude_code/settings?secret=1", "gateway", "/anthropic/api/claude_code/settings"),
        ("POST /anthropic/v1/../v1/messages", "gateway", "/anthropic/v1/../v1/messages"),
        ("CONNECT example.org:443", "example.org", ""),
        ("GET http://169.254.169.254/latest?x=1", "169.254.169.254", "/latest"),
        ("GET https://api.anthropic.com/v1/models", "api.anthropic.com", "/v1/models"),
    ],
)
async def test_what_no_rule_allows_is_a_403_that_is_already_in_the_audit(
    bench: Bench, request_line: str, host: str, path: str
) -> None:
    async with bench.open() as line:
        line.send(f"{request_line} HTTP/1.1\r\nHost: 127.0.0.1:3128\r\n\r\n".encode())
        reply = await line.reply()
    row = bench.rows()[-1]
    assert reply.status == 403
    assert msgspec.json.decode(reply.body) == {
        "type": "error",
        "error": {"type": "permission_error", "message": row.reason},
    }
    assert "nanoclaw" in row.reason or "plainly" in row.reason
    assert (row.event, row.status, row.host, row.path) == ("refused", 403, host, path)
    told = bench.events[-1]
    assert isinstance(told, control.CallRefused)
    assert (told.host, told.path, told.reason) == (host, path, row.reason)
    assert bench.upstream.connections == 0


async def test_a_tls_handshake_is_ended_with_an_alert_and_its_host_is_in_the_audit(bench: Bench) -> None:
    hello = hello_for("api.anthropic.com")
    async with bench.open() as line, asyncio.timeout(5):
        line.send(hello[:100])
        await asyncio.sleep(0.01)
        line.send(hello[100:])
        assert await line.reader.read() == bytes((0x15, 3, 3, 0, 2, 2, 49))
    row = bench.rows()[-1]
    assert (row.event, row.method, row.host) == ("refused", "TLS", "api.anthropic.com")


async def test_a_tls_handshake_that_stalls_is_ended_too(bench: Bench) -> None:
    async with bench.open() as line, asyncio.timeout(5):
        line.send(b"\x16\x03\x01")
        line.writer.write_eof()
        assert (await line.reader.read())[:1] == b"\x15"
    assert bench.rows()[-1].host == ""


async def test_a_refused_call_leaves_its_connection_usable(bench: Bench) -> None:
    async with bench.open() as line:
        assert (await line.call("/x", body=b"b" * 200_000)).status == 403
        assert (await line.call()).status == 200


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x00\x01\x02 not http\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: x\r\n\r\n", 501),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 200_000 + b"\r\n\r\n", 431),
    ],
)
async def test_what_is_not_http_is_refused_audited_and_ends_the_connection(
    bench: Bench, data: bytes, status: int
) -> None:
    answer = await bench.raw(data)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    row = bench.rows()[-1]
    assert (row.event, row.rule, row.status) == ("refused", "http", status)


async def test_a_second_request_smuggled_behind_both_framings_is_judged_by_itself(bench: Bench) -> None:
    hidden = b"GET /hidden HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    data = (
        f"POST {ROUTE} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    )
    async with bench.open() as line:
        line.send(data.encode() + hidden)
        with contextlib.suppress(asyncio.IncompleteReadError):
            await line.reply()
            assert (await line.reply()).status == 403
    for seen in bench.upstream.seen:
        assert seen.body == b""
        assert not {"content-length"} & set(seen.headers)


# What is limited


async def test_a_body_that_declares_too_much_is_refused_before_anything_is_sent(bench: Bench) -> None:
    async with bench.open() as line:
        line.send(f"POST {ROUTE} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9999999\r\n\r\n".encode())
        reply = await line.reply()
    assert reply.status == 413
    assert "larger than 1 MiB" in reply.message
    assert bench.upstream.connections == 0


async def test_a_body_in_chunks_that_grows_too_large_is_broken_off(bench: Bench) -> None:
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    async with bench.open() as line:
        line.send(f"POST {ROUTE} HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        line.send(chunk * 20)
        reply = await line.reply()
    assert reply.status == 413
    assert bench.upstream.seen == []
    assert "larger than 1 MiB" in (await until_finished(bench)).reason


async def until_finished(bench: Bench) -> control.AuditLine:
    await bench.finished()
    await until(lambda: bench.rows()[-1].event == "finished")
    return bench.rows()[-1]


async def test_a_head_that_comes_too_slowly_loses_its_connection(bench: Bench) -> None:
    assert await bench.raw(b"POST / HT") == b""


async def test_a_body_that_stops_coming_ends_the_call(bench: Bench) -> None:
    answer = await bench.raw(f"POST {ROUTE} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\nabc".encode())
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"The request broke off" in answer


async def test_an_idle_connection_is_closed_after_its_time(tmp_path: Path) -> None:
    async with running(tmp_path, replace(SMALL, idle_seconds=0.05)) as bench:
        async with bench.open() as line, asyncio.timeout(5):
            assert (await line.call()).status == 200
            assert await line.reader.read() == b""
        assert await bench.raw(b"") == b""


async def test_a_box_has_only_so_many_connections_and_the_next_one_waits(bench: Bench) -> None:
    async with contextlib.AsyncExitStack() as stack:
        lines = [await stack.enter_async_context(bench.open()) for _ in range(SMALL.connections)]
        for line in lines:
            assert (await line.call()).status == 200
        async with bench.open() as late:
            late.send(f"POST {ROUTE} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 2\r\n\r\n{{}}".encode())
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await late.reader.read(1)
            lines[0].writer.close()
            assert (await late.reply()).status == 200


# What is streamed


async def test_an_event_arrives_before_the_next_one_is_made(bench: Bench) -> None:
    go_on = asyncio.Event()

    async def answer(_: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        for event in STREAM:
            data = sse(event)
            writer.write(b"%x\r\n%s\r\n" % (len(data), data))
            async with asyncio.timeout(5):
                await go_on.wait()
            go_on.clear()
        writer.write(b"0\r\n\r\n")

    bench.upstream.answer = answer
    async with bench.open() as line:
        line.send(f"POST {ROUTE} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 2\r\n\r\n{{}}".encode())
        await line.reader.readuntil(b"\r\n\r\n")
        came: list[bytes] = []
        async for chunk in line.chunks():
            came.append(chunk)
            go_on.set()
        assert came == [sse(event) for event in STREAM]


async def test_an_echo_of_the_key_is_blotted_out_across_chunks_and_in_headers(bench: Bench) -> None:
    key = KEY.encode()
    bench.upstream.answer = answers(
        b"HTTP/1.1 200 OK\r\nx-echo: Bearer " + key + b"\r\ncontent-length: %d\r\n\r\n" % (len(key) * 2 + 6),
        b"<" + key[:7],
        key[7:] + b"><" + key[:-1],
        key[-1:] + b">ok",
    )
    reply = await bench.call()
    stars = "*" * len(KEY)
    assert reply.headers["x-echo"] == f"Bearer {stars}"
    assert reply.body.decode() == f"<{stars}><{stars}>ok"


async def test_a_slow_client_slows_the_upstream_and_a_dead_one_ends_the_call(bench: Bench) -> None:
    sent = 0
    block = b"x" * 65536

    async def answer(_: Seen, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (len(block) * 1000))
        while sent < len(block) * 1000:
            writer.write(block)
            await writer.drain()
            sent += len(block)

    bench.upstream.answer = answer
    async with bench.open() as line:
        line.send(f"POST {ROUTE} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 2\r\n\r\n{{}}".encode())
        ended = await until_finished(bench)
        assert (ended.status, ended.reason) == (200, "The client went away.")
    assert sent < len(block) * 500


async def test_a_client_that_goes_ends_the_call_upstream(bench: Bench) -> None:
    gone = asyncio.Event()

    async def answer(_: Seen, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        gone.set()

    bench.upstream.answer = answer
    async with bench.open() as line:
        line.send(f"POST {ROUTE} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 2\r\n\r\n{{}}".encode())
        await until(lambda: bench.upstream.seen)
    ended = await until_finished(bench)
    assert (ended.status, ended.reason) == (0, "The client went away.")


async def test_calls_on_one_connection_share_one_connection_upstream(bench: Bench) -> None:
    async with bench.open() as line:
        for _ in range(3):
            assert (await line.call()).status == 200
    await bench.finished(3)
    assert (await bench.call()).status == 200
    assert bench.upstream.connections == 1
    assert len(bench.upstream.seen) == 4


async def test_requests_sent_ahead_are_answered_in_order(bench: Bench) -> None:
    one = f"POST {ROUTE} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 2\r\n\r\n{{}}"
    async with bench.open() as line:
        line.send((one + one + "GET /no HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" + one).encode())
        assert [(await line.reply()).status for _ in range(4)] == [200, 200, 403, 200]


async def test_a_client_that_asks_before_sending_its_body_is_told_to_go_on(bench: Bench) -> None:
    async with bench.open() as line:
        head = f"POST {ROUTE} HTTP/1.1\r\nHost: 127.0.0.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
        line.send(head.encode())
        assert (await line.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
        line.send(b"{}")
        assert (await line.reply()).status == 200
    assert "expect" not in bench.upstream.seen[0].headers


async def test_a_body_in_chunks_arrives_whole(bench: Bench) -> None:
    async with bench.open() as line:
        line.send(f"POST {ROUTE} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        line.send(b"3\r\nabc\r\n")
        line.send(b"3\r\ndef\r\n0\r\n\r\n")
        assert (await line.reply()).status == 200
    assert bench.upstream.seen[0].body == b"abcdef"


async def test_an_http_1_0_client_is_answered_until_the_connection_closes(bench: Bench) -> None:
    answer = await bench.raw(f"POST {ROUTE} HTTP/1.0\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{{}}".encode())
    assert answer.endswith(sse(*STREAM))


async def test_an_early_answer_to_a_body_that_still_comes_is_passed_on(bench: Bench) -> None:
    class Hasty(StandIn):
        async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(whole("413 Too Large", b"no"))
            await reader.read()
            writer.close()

    async with Hasty().listening() as port, bench.open() as line:
        bench.route.append(Route(Endpoint("127.0.0.1", port, tls=False), None))
        line.send(f"POST {ROUTE} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\nabc".encode())
        reply = await line.reply()
        assert (reply.status, reply.body) == (413, b"no")


# What fails upstream


@pytest.mark.parametrize(
    ("status", "headers"),
    [("401 Unauthorized", ()), ("429 Too Many", ("retry-after: 7",)), ("500 Oops", ()), ("529 Overloaded", ())],
)
async def test_an_error_of_the_model_passes_through(bench: Bench, status: str, headers: tuple[str, ...]) -> None:
    bench.upstream.answer = answers(whole(status, b'{"type":"error"}', *headers))
    reply = await bench.call()
    assert (reply.status, reply.body) == (int(status[:3]), b'{"type":"error"}')
    assert reply.headers.get("retry-after") == ("7" if headers else None)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"\x00garbage\r\n\r\n", "not HTTP"),
        (b"", "not HTTP or broke off|without an answer"),
        (b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n", "without an answer|not HTTP"),
        (whole("200 OK", b"\x1f\x8b", "content-encoding: gzip"), "encoding that cannot be checked"),
    ],
)
async def test_an_upstream_that_answers_nonsense_becomes_an_api_error(bench: Bench, answer: bytes, said: str) -> None:
    async def answer_and_close(_: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        writer.close()

    bench.upstream.answer = answer_and_close
    reply = await bench.call()
    assert reply.status == 502
    assert msgspec.json.decode(reply.body)["error"]["type"] == "api_error"
    assert any(part in reply.message for part in said.split("|"))
    assert (await until_finished(bench)).status == 502


async def test_an_upstream_that_says_nothing_becomes_an_api_error_not_a_hang(bench: Bench) -> None:
    async def answer(_: Seen, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    bench.upstream.answer = answer
    reply = await bench.call()
    assert reply.status == 504
    assert "did not answer in time" in reply.message


async def test_an_upstream_that_cannot_be_reached_becomes_an_api_error(bench: Bench) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    bench.route.append(Route(Endpoint("127.0.0.1", port, tls=False), None))
    reply = await bench.call()
    assert reply.status == 502
    assert "The rehearsal model could not be asked" in reply.message
    bench.route.append(Route(Endpoint("no-such-host.invalid", port, tls=False), bench.route[0].secret))  # type: ignore[union-attr]
    reply = await bench.call()
    assert (reply.status, "cannot be reached" in reply.message) == (502, True)


async def test_an_upstream_that_accepts_nothing_is_given_up_in_time(bench: Bench) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        port = full.getsockname()[1]
        with contextlib.ExitStack() as stack:
            for _ in range(3):
                waiting = stack.enter_context(socket.socket())
                waiting.setblocking(False)
                waiting.connect_ex(("127.0.0.1", port))
            bench.route.append(Route(Endpoint("127.0.0.1", port, tls=False), None))
            reply = await bench.call()
    assert reply.status == 502
    assert "in time" in reply.message


async def test_an_answer_that_breaks_off_is_broken_off_for_the_client_too(bench: Bench) -> None:
    async def answer(_: Seen, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
        await writer.drain()
        writer.close()

    bench.upstream.answer = answer
    with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
        await bench.call()
    ended = await until_finished(bench)
    assert (ended.status, ended.received_bytes) == (200, 4)
    assert "broke off" in ended.reason


async def test_a_connection_on_which_something_came_unasked_is_not_used_again(bench: Bench) -> None:
    bench.upstream.answer = answers(whole("200 OK", b"one") + whole("200 OK", b"forged"))
    assert (await bench.call()).body == b"one"
    bench.upstream.answer = answers(whole("200 OK", b"two"))
    assert (await bench.call()).body == b"two"
    assert bench.upstream.connections == 2


async def test_a_connection_that_the_other_side_closed_while_idle_is_not_used_again(bench: Bench) -> None:
    writers: list[asyncio.StreamWriter] = []

    async def answer(_: Seen, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        writer.write(whole("200 OK", b"ok"))

    bench.upstream.answer = answer
    for _ in range(2):
        assert (await bench.call()).body == b"ok"
        await bench.finished(len(writers))
        writers[-1].close()
        await writers[-1].wait_closed()
    assert bench.upstream.connections == 2


async def test_a_route_for_another_host_than_the_secrets_own_is_refused(bench: Bench, tmp_path: Path) -> None:
    assert bench.route[0] is not None
    assert bench.route[0].secret is not None
    stored, secret = bench.route[0].secret
    elsewhere = msgspec.structs.replace(stored, hosts=("other.test",))
    bench.route.append(Route(bench.route[0].endpoint, (elsewhere, secret)))
    reply = await bench.call()
    assert (reply.status, "may not be sent to" in reply.message) == (403, True)
    assert bench.upstream.connections == 0


# TLS


def certificate_for(directory: Path, name: str) -> tuple[ssl.SSLContext, Path]:
    """A server context for a self-signed certificate, and the file a client has to trust."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=2))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = directory / "server.pem"
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(certificate.public_bytes(pem) + secret)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context, path


@pytest.mark.parametrize(("name", "status"), [("localhost", 200), ("api.anthropic.com", 502)])
async def test_a_tls_upstream_is_used_only_when_its_certificate_fits(tmp_path: Path, name: str, status: int) -> None:
    server_context, trusted = certificate_for(tmp_path, name)
    pool = UpstreamPool(lambda: ssl.create_default_context(cafile=str(trusted)))
    limits = replace(SMALL, connect_seconds=5.0, answer_seconds=5.0)
    async with running(tmp_path, limits, pool) as bench, contextlib.AsyncExitStack() as stack:
        port = await stack.enter_async_context(bench.upstream.listening(server_context))
        assert bench.route[0] is not None
        bench.route.append(Route(Endpoint("localhost", port, tls=True), bench.route[0].secret))
        for _ in range(2):
            reply = await bench.call()
            assert reply.status == status
        if status == 502:
            assert "certificate" in reply.message
        else:
            assert bench.upstream.connections == 1
            assert bench.upstream.seen[0].headers["host"] == f"localhost:{port}"
            assert bench.upstream.seen[0].body == HELLO_BODY


async def test_an_untrusted_certificate_is_named(tmp_path: Path) -> None:
    server_context, _ = certificate_for(tmp_path, "localhost")
    upstream = StandIn()
    async with (
        running(tmp_path, replace(SMALL, connect_seconds=5.0)) as bench,
        upstream.listening(server_context) as port,
    ):
        bench.route.append(Route(Endpoint("localhost", port, tls=True), None))
        reply = await bench.call()
        assert (reply.status, "self-signed certificate" in reply.message) == (502, True)
