"""The proxy in this process with one box in an open turn, limits made small: what tests of single calls run on."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nanoclaw.clock import SystemClock
from nanoclaw.gateway import admin_words, control
from nanoclaw.gateway.boxes import Boxes, Limits
from nanoclaw.gateway.budget import Purse
from nanoclaw.gateway.ca import Certificates, make_authority
from nanoclaw.gateway.cashier import open_purse
from nanoclaw.gateway.custody import Custody
from nanoclaw.gateway.door import serve_connection
from nanoclaw.gateway.exchange import Desk, Route
from nanoclaw.gateway.holds import Holds
from nanoclaw.gateway.ledger import Ledger
from nanoclaw.gateway.oauth import AccessTokens
from nanoclaw.gateway.parts import NO_MODEL
from nanoclaw.gateway.policy import DEFAULT_RULES, Caller, Moment, Rule
from nanoclaw.gateway.rates import Rates
from nanoclaw.gateway.rules import Rulebook
from nanoclaw.gateway.upstream import Endpoint, UpstreamPool
from nanoclaw.gateway.vault import Vault
from nanoclaw.gateway.wanted import SecretWatch
from tests.flow.gateway_stand import KEY, ROUTE, Line, Reply, Seen, StandIn, until

SMALL = Limits(
    connections=3,
    body_bytes=1024 * 1024,
    idle_seconds=5.0,
    header_seconds=0.1,
    stall_seconds=0.2,
    connect_seconds=0.5,
    answer_seconds=0.3,
)


class FixedRules(Rulebook):
    """Rules that are given, for every group."""

    def __init__(self, rules: tuple[Rule, ...]) -> None:
        self.rules = rules

    def rules_for(self, folder: str) -> tuple[Rule, ...]:
        return self.rules

    def moment(self) -> Moment | None:
        return None


@dataclass
class Bench:
    """A proxy in this process with one box in an open turn."""

    port: int
    upstream: StandIn
    ledger: Ledger
    boxes: Boxes
    events: list[control.GatewayEvent]
    route: list[Route | None]
    purse: Purse
    rules: FixedRules
    certificates: Certificates
    holds: Holds
    desk: Desk
    vault: Vault
    faults: list[Exception] = field(default_factory=list)

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[Line]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=2**16)
        try:
            yield Line(reader, writer)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def call(self, target: str = ROUTE, **options: Any) -> Reply:
        async with self.open() as line:
            return await line.call(target, **options)

    async def raw(self, data: bytes) -> bytes:
        async with self.open() as line, asyncio.timeout(5):
            line.send(data)
            return await line.reader.read()

    def trusting(self) -> ssl.SSLContext:
        """Return a client's context that trusts the gateway's authority alone."""
        return ssl.create_default_context(cadata=self.certificates.pem)

    @contextlib.asynccontextmanager
    async def tunnel(self, host: str, port: int = 443, *, name: str | None = None) -> AsyncIterator[Line]:
        """Open a tunnel by CONNECT and TLS in it, `name` in place of the host as its server name."""
        async with self.open() as line, asyncio.timeout(10):
            line.send(f"CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
            assert (await line.reply()).status == 200
            await line.writer.start_tls(self.trusting(), server_hostname=name or host)
            yield line

    def rows(self) -> list[admin_words.AuditLine]:
        return self.ledger.list_newest(100, None)

    async def finished(self, count: int = 1) -> control.CallFinished:
        def ended() -> list[control.CallFinished]:
            return [event for event in self.events if isinstance(event, control.CallFinished)]

        await until(lambda: len(ended()) >= count)
        return ended()[-1]


@contextlib.asynccontextmanager
async def running(directory: Path, limits: Limits = SMALL, pool: UpstreamPool | None = None) -> AsyncIterator[Bench]:
    vault = Vault(directory)
    vault.load()
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

        route: list[Route | None] = [
            Route(Endpoint("127.0.0.1", upstream.port, tls=False, allow_private=True), vault.find("anthropic"))
        ]
        purse = open_purse(ledger, SystemClock())
        rules = FixedRules(DEFAULT_RULES)
        certificates = Certificates(SystemClock())
        certificates.open(make_authority("bench", SystemClock()))
        custody = Custody(vault, ledger, SystemClock(), events.append)
        desk = Desk(
            rules=rules,
            rates=Rates(SystemClock()),
            purse=purse,
            certificates=certificates,
            holds=Holds(ledger, events.append, SecretWatch(vault.values), SystemClock(), limits),
            find_route=lambda _rule, _target: route[-1] or NO_MODEL,
            custody=custody,
            access=AccessTokens(custody, pool, SystemClock(), spawn),
            secret_values=SecretWatch(vault.values),
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
        boxes.add(Caller("s1", 1, "main", "main"), [listener])
        boxes.open_turn("s1", 1, "owner")
        port = listener.getsockname()[1]
        yield Bench(
            port, upstream, ledger, boxes, events, route, purse, rules, certificates, desk.holds, desk, vault, faults
        )
    assert faults == []


def answers(*pieces: bytes) -> Callable[[Seen, asyncio.StreamWriter], Coroutine[Any, Any, None]]:
    async def answer(_: Seen, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()

    return answer


def whole(status: str, body: bytes, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def until_finished(bench: Bench) -> admin_words.AuditLine:
    await bench.finished()
    await until(lambda: bench.rows()[-1].event == "finished")
    return bench.rows()[-1]
