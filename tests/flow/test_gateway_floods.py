"""What a box may throw at the gateway by the gigabyte; a real process, its memory measured."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.flow.gateway_stand import ROUTE, Gateway, Seen, StandIn, running, until

GIB = 1024**3
PIECE = b"x" * 65536
MEMORY_KIB = 80 * 1024  # the figure


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    async with running(tmp_path / "gateway", StandIn()) as started:
        started.client.open_turn("s1", 1, "owner")
        await started.set_key()
        yield started


def peak_kib(gateway: Gateway) -> int:
    """The most memory the gateway's process has had."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{gateway.client.pid}/status").read_text())
    assert found is not None
    return int(found[1])


async def answer_gigabyte(_: Seen, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ncontent-length: %d\r\n\r\n" % GIB)
    for _piece in range(GIB // len(PIECE)):
        writer.write(PIECE)
        await writer.drain()


@pytest.mark.ci  # a gigabyte takes half a minute
@pytest.mark.parametrize("way", ["base-url", "tunnel"])
async def test_a_gigabyte_comes_through_in_little_memory(gateway: Gateway, way: str) -> None:
    gateway.upstream.answer = answer_gigabyte
    async with contextlib.AsyncExitStack() as stack:
        if way == "tunnel":
            line = await stack.enter_async_context(gateway.tunnel("api.anthropic.com", seconds=300))
            line.send(b"POST /v1/messages HTTP/1.1\r\nHost: api.anthropic.com\r\nContent-Length: 2\r\n\r\n{}")
        else:
            line = await stack.enter_async_context(gateway.open())
            line.send(f"POST {ROUTE} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 2\r\n\r\n{{}}".encode())
        head = await line.reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        left = GIB
        while left:
            left -= len(await line.reader.read(min(left, 1 << 20)))
    assert peak_kib(gateway) <= MEMORY_KIB


@pytest.mark.ci  # sends for as long as it is let
async def test_a_gigabyte_of_header_is_refused_after_its_first_part(gateway: Gateway) -> None:
    sent = 0
    async with gateway.open() as line:
        line.send(b"GET /anthropic/v1/messages HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Long: ")
        with contextlib.suppress(OSError):
            while sent < GIB:
                line.send(PIECE)
                sent += len(PIECE)
                await line.writer.drain()
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            assert (await line.reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 431 ")
    assert sent < 32 * 1024 * 1024
    await until(lambda: len(gateway.events) > 0)
    assert (await gateway.audit())[-1].status == 431
    assert peak_kib(gateway) <= MEMORY_KIB
    assert (await gateway.call()).status == 200


@pytest.mark.parametrize(
    "connections",
    [
        pytest.param(10_000, marks=pytest.mark.ci),  # half a minute beside other work
        pytest.param(100_000, marks=pytest.mark.long),  # five minutes
    ],
)
async def test_a_flood_of_connections_leaves_nothing_behind(gateway: Gateway, connections: int) -> None:
    loop = asyncio.get_running_loop()

    async def knock() -> None:
        for _ in range(connections // 40):
            with socket.socket() as sock:
                sock.setblocking(False)
                await loop.sock_connect(sock, ("127.0.0.1", gateway.port))

    async with asyncio.TaskGroup() as tasks, asyncio.timeout(900):
        for _ in range(40):
            tasks.create_task(knock())
    async with asyncio.timeout(30):
        assert (await gateway.call()).status == 200
    assert peak_kib(gateway) <= MEMORY_KIB
    descriptors = len(list(Path(f"/proc/{gateway.client.pid}/fd").iterdir()))
    assert descriptors < 200
