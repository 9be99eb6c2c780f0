"""The MCP endpoint of a box: streamable HTTP on loopback, as little of it as the clients need.

POST carries one JSON-RPC message and gets one JSON answer (202 for a notification), which may take as long as a person
takes; other calls go on meanwhile. GET and DELETE get 405: there is no stream of our own and no session. `/ncl` takes
the arguments of the command `ncl` of the box (runner/ncl.py) and gives the host's answer. Everything in the box may
call both: it can do no more than the agent itself.
Source: modelcontextprotocol.io, specification 2025-06-18, transports. Checked against the official client in tests.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from nanoclaw.contract.message import ToolAnswer
from nanoclaw.runner.fields import Fields, parse_object
from nanoclaw.runner.tools import Tool, ToolRefused

VERSIONS = ("2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")
MAX_BODY_BYTES = 8 * 1024 * 1024
MAX_HEADERS = 100
PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
REASONS = {200: "OK", 202: "Accepted", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed",
           411: "Length Required", 413: "Content Too Large"}  # fmt: skip


class BadRequest(Exception):
    """The bytes are no request we serve; `status` says why."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request."""

    method: str
    path: str
    body: bytes
    keep_alive: bool


class ToolServer:
    """Serves a table of tools on a listener that is already bound."""

    def __init__(
        self, tools: tuple[Tool, ...], ncl: Callable[[list[str]], Awaitable[ToolAnswer]] | None = None
    ) -> None:
        self._tools = {tool.name: tool for tool in tools}
        self._ncl = ncl
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self, listener: socket.socket) -> None:
        """Begin to serve."""
        self._server = await asyncio.start_server(self._serve, sock=listener)

    async def close(self) -> None:
        """Stop serving; open connections are cut."""
        if self._server is not None:
            self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            keep_alive = True
            while keep_alive:
                request = await read_request(reader)
                if request is None:
                    break
                keep_alive = request.keep_alive
                status, body = await self._respond(request)
                writer.write(response_bytes(status, body))
                await writer.drain()
        except BadRequest as error:
            writer.write(response_bytes(error.status, b""))
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
            pass  # the client went away or spoke no HTTP; there is nobody to answer
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _respond(self, request: Request) -> tuple[int, bytes]:
        path = request.path.split("?", 1)[0]
        if path not in ("/mcp", "/ncl"):
            return 404, b""
        if request.method != "POST":
            return 405, b""
        if path == "/ncl":
            return await self._respond_ncl(request.body)
        message = parse_object(request.body)
        if message is None:
            return 400, to_bytes(error_answer(None, PARSE_ERROR, "not one JSON-RPC message"))
        answer = await self.answer(message)
        return (202, b"") if answer is None else (200, to_bytes(answer))

    async def _respond_ncl(self, body: bytes) -> tuple[int, bytes]:
        if self._ncl is None:
            return 404, to_bytes({"status": "refused", "text": "ncl is not offered to this agent."})
        message = parse_object(body)
        if message is None:
            return 400, to_bytes({"status": "refused", "text": "not one JSON object with `arguments`"})
        answer = await self._ncl(list(message.texts("arguments")))
        return 200, to_bytes({"status": answer.status, "text": answer.text})

    async def answer(self, message: Fields) -> dict[str, object] | None:
        """Answer one JSON-RPC message; None for a notification."""
        number = message.values.get("id")
        if number is None:
            return None
        if not isinstance(number, str | int):
            return error_answer(None, INVALID_REQUEST, "id must be a string or a number")
        params = message.child("params")
        match message.text("method"):
            case "initialize":
                return result_answer(number, initialize_result(params.text("protocolVersion")))
            case "ping":
                return result_answer(number, {})
            case "tools/list":
                return result_answer(number, {"tools": [describe(tool) for tool in self._tools.values()]})
            case "tools/call":
                return await self._call(number, params)
            case method:
                return error_answer(number, METHOD_NOT_FOUND, f"no method {method!r}")

    async def _call(self, number: str | int, params: Fields) -> dict[str, object]:
        tool = self._tools.get(params.text("name"))
        if tool is None:
            return error_answer(number, INVALID_PARAMS, f"no tool {params.text('name')!r}")
        try:
            words, failed = await tool.call(params.child("arguments")), False
        except ToolRefused as refused:
            words, failed = str(refused), True
        return result_answer(number, {"content": [{"type": "text", "text": words}], "isError": failed})


def initialize_result(wanted: str) -> dict[str, object]:
    """What the server says of itself; the client's protocol version when we know it."""
    return {
        "protocolVersion": wanted if wanted in VERSIONS else VERSIONS[1],
        "capabilities": {"tools": {"listChanged": False}},
        "serverInfo": {"name": "nanoclaw", "version": "1"},
    }


def describe(tool: Tool) -> dict[str, object]:
    """A tool as the client sees it. `anthropic/alwaysLoad`: in the first prompt, not behind Claude's tool search."""
    meta = {"anthropic/alwaysLoad": True}
    return {"name": tool.name, "description": tool.description, "inputSchema": tool.schema, "_meta": meta}


def result_answer(number: str | int, result: dict[str, object]) -> dict[str, object]:
    """A JSON-RPC result."""
    return {"jsonrpc": "2.0", "id": number, "result": result}


def error_answer(number: str | int | None, code: int, words: str) -> dict[str, object]:
    """A JSON-RPC error."""
    return {"jsonrpc": "2.0", "id": number, "error": {"code": code, "message": words}}


def to_bytes(value: dict[str, object]) -> bytes:
    """Serialise an answer."""
    return json.dumps(value, separators=(",", ":")).encode()


def response_bytes(status: int, body: bytes) -> bytes:
    """An HTTP/1.1 response with its length."""
    kind = "content-type: application/json\r\n" if body else ""
    closing = "connection: close\r\n" if status >= 400 else ""
    head = f"HTTP/1.1 {status} {REASONS[status]}\r\n{kind}{closing}content-length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def read_request(reader: asyncio.StreamReader) -> Request | None:
    """Read one request; None at the connection's end. Raises BadRequest, ConnectionError, IncompleteReadError."""
    line = await reader.readline()
    if not line.strip():
        return None
    parts = line.decode("latin-1").split()
    if len(parts) != 3:
        raise BadRequest(400)
    method, path, version = parts
    headers = await read_headers(reader)
    keep_alive = version == "HTTP/1.1" and headers.get("connection", "").lower() != "close"
    if "transfer-encoding" in headers:
        raise BadRequest(411)
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit()):
        raise BadRequest(400)
    if len(length) > 9 or int(length) > MAX_BODY_BYTES:
        raise BadRequest(413)
    return Request(method, path, await reader.readexactly(int(length)), keep_alive)


async def read_headers(reader: asyncio.StreamReader) -> dict[str, str]:
    """Read the header lines up to the empty one; names in lower case."""
    headers: dict[str, str] = {}
    for _ in range(MAX_HEADERS):
        line = (await reader.readline()).decode("latin-1").strip()
        if not line:
            return headers
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    raise BadRequest(400)
