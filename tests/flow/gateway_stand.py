"""A real gateway process with real sockets on both sides, and a scripted stand-in for the model's host."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import subprocess
import sys
import sysconfig
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import coverage
import h11
import msgspec

import nanoclaw
from nanoclaw.gateway import admin_words, control
from nanoclaw.gateway.client import (
    GatewayClient,
    GatewayFds,
    Grant,
    SpawnGateway,
    ask_admin,
    gateway_command,
    open_admin_socket,
    spawn_as_same_user,
)

KEY = "sk-ant-api03-REALKEY-0123456789abcdef"
SOURCE = str(Path(nanoclaw.__path__[0]).parent)
SYS_PATH = [SOURCE, sysconfig.get_paths()["purelib"]]
ROUTE = "/anthropic/v1/messages"
HELLO_BODY = b'{"model":"claude-x","messages":[]}'

Answer = Callable[["Seen", asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Seen:
    """A request as it arrived at the stand-in."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes


def sse(*events: str) -> bytes:
    return b"".join(b"event: x\ndata: %s\n\n" % event.encode() for event in events)


STREAM = (
    '{"type":"message_start","message":{"model":"claude-x","usage":{"input_tokens":12,"output_tokens":1}}}',
    '{"type":"content_block_delta","delta":{"text":"PONG"}}',
    '{"type":"message_delta","delta":{},"usage":{"output_tokens":7}}',
    '{"type":"message_stop"}',
)


async def answer_stream(seen: Seen, writer: asyncio.StreamWriter) -> None:
    writer.write(
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\nset-cookie: a=b\r\n\r\n"
    )
    for event in STREAM:
        data = sse(event)
        writer.write(b"%x\r\n%s\r\n" % (len(data), data))
        await writer.drain()
    writer.write(b"0\r\n\r\n")


@dataclass
class StandIn:
    """An upstream with a script; keeps what it saw."""

    answer: Answer = answer_stream
    seen: list[Seen] = field(default_factory=list)
    connections: int = 0
    port: int = 0
    writers: set[asyncio.StreamWriter] = field(default_factory=set)
    readers: dict[asyncio.StreamWriter, asyncio.StreamReader] = field(default_factory=dict)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.add(writer)
        self.readers[writer] = reader
        parser = h11.Connection(h11.SERVER)
        with contextlib.suppress(ConnectionError, h11.RemoteProtocolError):
            while (seen := await self._read(parser, reader)) is not None:
                self.seen.append(seen)
                await self.answer(seen, writer)
                await writer.drain()
                parser = h11.Connection(h11.SERVER)
        writer.close()
        self.writers.discard(writer)

    @contextlib.asynccontextmanager
    async def listening(self, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
        """Listen on a port of its own until the block ends."""
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0, ssl=context)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            for writer in self.writers:
                writer.transport.abort()
            await until(lambda: not self.writers)

    async def _read(self, parser: h11.Connection, reader: asyncio.StreamReader) -> Seen | None:
        head: h11.Request | None = None
        body = b""
        while True:
            event = parser.next_event()
            if event is h11.NEED_DATA:
                parser.receive_data(await reader.read(65536))
            elif isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage) and head is not None:
                headers = {name.decode(): value.decode() for name, value in head.headers}
                return Seen(head.method.decode(), head.target.decode(), headers, body)
            else:
                return None


@dataclass
class Gateway:
    """A running gateway with one box `s1`, as its host sees it."""

    client: GatewayClient
    admin_path: Path
    directory: Path
    upstream: StandIn
    port: int
    events: list[control.GatewayEvent]
    log: list[str]
    keys: list[bool]

    async def ask(self, request: admin_words.AdminRequest, kind: type) -> object:
        return await asyncio.to_thread(ask_admin, self.admin_path, request, kind)

    async def audit(self) -> list[admin_words.AuditLine]:
        return await self.ask(admin_words.AuditList(), list[admin_words.AuditLine])  # type: ignore[return-value]

    async def set_key(self, key: str = KEY) -> None:
        await self.ask(admin_words.VaultSet("anthropic", key), admin_words.SecretLine)

    async def call(
        self, target: str = ROUTE, *, method: str = "POST", headers: str = "", body: bytes = HELLO_BODY
    ) -> Reply:
        async with self.open() as line:
            return await line.call(target, method=method, headers=headers, body=body)

    @contextlib.asynccontextmanager
    async def tunnel(self, host: str, seconds: float = 10) -> AsyncIterator[Line]:
        """Open a tunnel by CONNECT and TLS in it, as a client does that trusts the install's authority alone."""
        async with self.open() as line, asyncio.timeout(seconds):
            line.send(f"CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n\r\n".encode())
            assert (await line.reply()).status == 200
            trusting = ssl.create_default_context(cadata=self.client.outside.ca_pem)
            await line.writer.start_tls(trusting, server_hostname=host)
            yield line

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[Line]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            yield Line(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def message(self) -> str:
        return msgspec.json.decode(self.body)["error"]["message"]


@dataclass
class Line:
    """One client connection from inside a box."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def send(self, raw: bytes) -> None:
        self.writer.write(raw)

    async def call(
        self,
        target: str = ROUTE,
        *,
        method: str = "POST",
        host: str = "127.0.0.1:3128",
        headers: str = "",
        body: bytes = HELLO_BODY,
    ) -> Reply:
        head = f"{method} {target} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
        self.send(head.encode("latin-1") + body)
        return await self.reply()

    async def reply(self) -> Reply:
        async with asyncio.timeout(10):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            status = int(head.split(" ")[1])
            fields = [line.split(": ", 1) for line in head.split("\r\n")[1:] if line]
            headers = {name.lower(): value for name, value in fields}
            if headers.get("transfer-encoding") == "chunked":
                return Reply(status, headers, b"".join([chunk async for chunk in self.chunks()]))
            return Reply(status, headers, await self.reader.readexactly(int(headers.get("content-length", "0"))))

    async def chunks(self) -> AsyncIterator[bytes]:
        while size := int(await self.reader.readline(), 16):
            yield await self.reader.readexactly(size)
            await self.reader.readexactly(2)
        await self.reader.readline()


MEASURED = """
import sys; sys.path[:0] = sys.argv[1].split(':')
import coverage
measure = coverage.Coverage(data_file={data_file!r}, data_suffix=True, branch=True, source=["nanoclaw"])
measure.start()
from nanoclaw.gateway.main import main
status = main(sys.argv[2:])
measure.stop()
measure.save()
sys.exit(status)
"""


def spawn_measured(directory: Path, upstream: str) -> SpawnGateway:
    """Return a spawner that counts covered lines in the gateway too, while the tests are measured."""
    running = coverage.Coverage.current()
    if running is None:
        return spawn_as_same_user(sys.executable, SYS_PATH, directory, upstream=upstream)

    def spawn(fds: GatewayFds) -> subprocess.Popen[bytes]:
        command = gateway_command(sys.executable, SYS_PATH, directory, fds, admin_uid=os.getuid(), upstream=upstream)
        command[command.index("-c") + 1] = MEASURED.format(data_file=running.config.data_file)
        return subprocess.Popen(
            command,
            env={},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=(fds.control.fileno(), fds.admin.fileno()),
        )

    return spawn


async def until(condition: Callable[[], object], seconds: float = 5.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.002)


@contextlib.asynccontextmanager
async def running(directory: Path, upstream: StandIn, mirrors: tuple[str, ...] = ()) -> AsyncIterator[Gateway]:
    directory.mkdir(exist_ok=True)
    admin_path = directory.parent / "gateway.sock"
    async with contextlib.AsyncExitStack() as stack:
        upstream.port = await stack.enter_async_context(upstream.listening())
        admin = stack.enter_context(open_admin_socket(admin_path))
        spawn = spawn_measured(directory, f"http://127.0.0.1:{upstream.port}")
        events: list[control.GatewayEvent] = []
        log: list[str] = []
        keys: list[bool] = []
        client = GatewayClient(
            spawn, admin, on_event=events.append, on_log=log.append, on_model_key=keys.append, mirrors=mirrors
        )
        stop = asyncio.Event()
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        tasks.create_task(client.run(stop))
        stack.callback(stop.set)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            await client.wait_ready()
            await client.listen(Grant("s1", 1, "main", "main"), [listener])
            port = listener.getsockname()[1]
        yield Gateway(client, admin_path, directory, upstream, port, events, log, keys)
