"""The MCP endpoint, against the official client and against bytes that are no MCP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client

from nanoclaw.runner.mcp import ToolServer
from nanoclaw.runner.start import listen_on_loopback
from nanoclaw.runner.tools import ToolRefused, build_tools


class Desk:
    def __init__(self) -> None:
        self.sent: list[tuple[str, str | None]] = []

    def send_message(self, text: str, to: str | None) -> str:
        if to == "nobody":
            raise ToolRefused("Not sent: there is no destination 'nobody'.")
        self.sent.append((text, to))
        return "Sent."


class Endpoint:
    def __init__(self, desk: Desk, port: int) -> None:
        self.desk, self.port = desk, port
        self.url = f"http://127.0.0.1:{port}/mcp"

    async def raw(self, data: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(data)
        writer.write_eof()
        async with asyncio.timeout(5):
            answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer

    async def post(self, body: object) -> tuple[bytes, dict[str, Any]]:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        head = f"POST /mcp HTTP/1.1\r\nhost: x\r\ncontent-length: {len(data)}\r\n\r\n".encode()
        top, _, rest = (await self.raw(head + data)).partition(b"\r\n\r\n")
        return top.split(b"\r\n")[0], json.loads(rest) if rest else {}


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    desk = Desk()
    listener = listen_on_loopback()
    port = listener.getsockname()[1]
    server = ToolServer(build_tools(desk))
    await server.start(listener)
    yield Endpoint(desk, port)
    await server.close()


async def test_the_official_client_lists_and_calls_the_tools(endpoint: Endpoint):
    async with (
        asyncio.timeout(20),
        streamable_http_client(endpoint.url) as streams,
        ClientSession(streams[0], streams[1]) as session,
    ):
        await session.initialize()
        await session.send_ping()
        tools = (await session.list_tools()).tools
        assert [tool.name for tool in tools] == ["send_message"]
        result = await session.call_tool("send_message", {"text": "hey", "to": "family"})
        assert not result.is_error and endpoint.desk.sent == [("hey", "family")]
        refused = await session.call_tool("send_message", {"text": "hey", "to": "nobody"})
        assert refused.is_error and "no destination" in str(refused.content)
        assert (await session.call_tool("send_message", {"text": "  "})).is_error


async def test_what_is_no_call_is_answered_and_the_endpoint_lives_on(endpoint: Endpoint):
    assert (await endpoint.post(b"nonsense"))[0] == b"HTTP/1.1 400 Bad Request"
    assert (await endpoint.post([1]))[0].startswith(b"HTTP/1.1 400")
    assert (await endpoint.post({"jsonrpc": "2.0", "method": "notifications/initialized"}))[0].startswith(
        b"HTTP/1.1 202"
    )
    assert (await endpoint.post({"id": 1, "method": "resources/list"}))[1]["error"]["code"] == -32601
    assert (await endpoint.post({"id": 1, "method": "tools/call", "params": {"name": "x"}}))[1]["error"][
        "code"
    ] == -32602
    assert (await endpoint.post({"id": [], "method": "ping"}))[1]["error"]["code"] == -32600
    assert (await endpoint.raw(b"GET /mcp HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 405")
    assert (await endpoint.raw(b"POST /other HTTP/1.1\r\ncontent-length: 0\r\n\r\n")).startswith(b"HTTP/1.1 404")
    assert (await endpoint.raw(b"POST /mcp HTTP/1.1\r\ncontent-length: 99999999\r\n\r\n")).startswith(b"HTTP/1.1 413")
    assert (await endpoint.raw(b"POST /mcp HTTP/1.1\r\ncontent-length: -1\r\n\r\n")).startswith(b"HTTP/1.1 400")
    assert (await endpoint.raw(b"POST /mcp HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n")).startswith(b"HTTP/1.1 411")
    assert (await endpoint.raw(b"\x16\x03\x01\x00\xff\r\n")).startswith(b"HTTP/1.1 400")
    assert (await endpoint.raw(b"POST /mcp HTTP/1.1\r\n" + b"a: b\r\n" * 200)).startswith(b"HTTP/1.1 400")
    assert (await endpoint.raw(b"x" * 100_000)) == b""
    assert (await endpoint.post({"id": "a", "method": "ping"}))[1] == {"jsonrpc": "2.0", "id": "a", "result": {}}
