"""The MCP endpoint, against the official client and against bytes that are no MCP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client

from nanoclaw.contract.message import ToolAnswer
from nanoclaw.runner.mcp import ToolServer
from nanoclaw.runner.start import listen_on_loopback
from nanoclaw.runner.tools import ToolRefused, build_tools, offer_ncl


class Desk:
    def __init__(self) -> None:
        self.sent: list[tuple[str, str | None]] = []
        self.asked: list[tuple[str, dict[str, object], float]] = []
        self.answers: asyncio.Queue[ToolAnswer] = asyncio.Queue()

    async def send_message(self, text: str, to: str | None) -> str:
        if to == "nobody":
            raise ToolRefused("Not sent: there is no destination 'nobody'.")
        self.sent.append((text, to))
        return "Sent."

    async def send_file(self, path: str, to: str | None, text: str, name: str | None) -> str:
        self.sent.append((f"{path} as {name}: {text}", to))
        return "Sent."

    async def ask(self, action: str, arguments: dict[str, object], seconds: float = 30.0) -> ToolAnswer:
        self.asked.append((action, arguments, seconds))
        return await self.answers.get()


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

    async def ncl(self, body: object, path: str = "/ncl") -> tuple[bytes, dict[str, Any]]:
        data = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(data)}\r\n\r\n".encode()
        top, _, rest = (await self.raw(head + data)).partition(b"\r\n\r\n")
        return top.split(b"\r\n")[0], json.loads(rest) if rest else {}

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
    server = ToolServer(build_tools(desk, 1800.0), offer_ncl(desk))
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
        assert [tool.name for tool in tools] == [
            "send_message",
            "send_file",
            "ask_user_question",
            "create_agent",
            "request_access",
        ]
        result = await session.call_tool("send_message", {"text": "hey", "to": "family"})
        assert not result.is_error and endpoint.desk.sent == [("hey", "family")]
        refused = await session.call_tool("send_message", {"text": "hey", "to": "nobody"})
        assert refused.is_error and "no destination" in str(refused.content)
        assert (await session.call_tool("send_message", {"text": "  "})).is_error
        wish = {"host": "api.example.org", "path": "/v1/**", "reason": "To read the weather."}
        misspelt = await session.call_tool("request_access", wish)
        assert misspelt.is_error and "no argument is called path" in str(misspelt.content)
        assert endpoint.desk.asked == []


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


def call(number: int, tool: str, /, **arguments: object) -> dict[str, object]:
    params = {"name": tool, "arguments": arguments}
    return {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}


async def test_a_tool_that_waits_for_a_person_holds_up_no_other_call(endpoint: Endpoint):
    question = call(1, "ask_user_question", title="Lunch", question="Where?", options=["here", {"label": "there"}])
    async with asyncio.TaskGroup() as group:
        asked = group.create_task(endpoint.post(question))
        while not endpoint.desk.asked:
            await asyncio.sleep(0)
        _, answer = await endpoint.post(call(2, "send_message", text="meanwhile"))
        assert answer["result"]["isError"] is False and endpoint.desk.sent == [("meanwhile", None)]
        assert not asked.done()
        endpoint.desk.answers.put_nowait(ToolAnswer("done", "there"))
    assert asked.result()[1]["result"] == {"content": [{"type": "text", "text": "there"}], "isError": False}
    ((action, arguments, seconds),) = endpoint.desk.asked
    assert (action, arguments["timeout_seconds"], seconds) == ("ask_user_question", 300, 310.0)
    assert arguments["options"] == ["here", {"label": "there", "value": "there"}]


@pytest.mark.parametrize(("timeout", "waited"), [(1, 1), (0, 300), (-5, 1), (10**9, 1740), ("soon", 300), (None, 300)])
async def test_a_question_never_waits_longer_than_a_tool_may(endpoint: Endpoint, timeout: object, waited: int):
    endpoint.desk.answers.put_nowait(ToolAnswer("expired", "Nobody answered in time."))
    question = call(1, "ask_user_question", title="x", question="Where?", options=["here"], timeout=timeout)
    _, answer = await endpoint.post(question)
    assert answer["result"]["isError"] is True and "Nobody answered" in str(answer)
    assert endpoint.desk.asked[0][1]["timeout_seconds"] == waited


@pytest.mark.parametrize("options", [[], ["ok", 5], [[]], "here", None])
async def test_a_question_without_options_that_can_be_shown_is_not_asked(endpoint: Endpoint, options: object):
    _, answer = await endpoint.post(call(1, "ask_user_question", title="x", question="Where?", options=options))
    assert answer["result"]["isError"] is True and endpoint.desk.asked == []


async def test_another_agent_is_asked_for_and_what_a_person_must_agree_to_is_no_error(endpoint: Endpoint):
    endpoint.desk.answers.put_nowait(ToolAnswer("pending", "Your operator is asked."))
    _, answer = await endpoint.post(call(1, "create_agent", name=" Researcher ", instructions="find out"))
    assert answer["result"] == {"content": [{"type": "text", "text": "Your operator is asked."}], "isError": False}
    assert endpoint.desk.asked == [("create_agent", {"name": "Researcher", "instructions": "find out"}, 30.0)]
    assert (await endpoint.post(call(2, "create_agent", name="  ")))[1]["result"]["isError"] is True


async def test_the_ncl_of_a_box_is_answered_and_a_refusal_is_told_from_an_answer(endpoint: Endpoint):
    endpoint.desk.answers.put_nowait(ToolAnswer("done", "id  name"))
    assert await endpoint.ncl({"arguments": ["groups", "list"]}) == (
        b"HTTP/1.1 200 OK", {"status": "done", "text": "id  name"},
    )  # fmt: skip
    assert endpoint.desk.asked == [("ncl", {"arguments": ["groups", "list"]}, 30.0)]
    assert (await endpoint.ncl(["no object"]))[0] == b"HTTP/1.1 400 Bad Request"
    assert (await endpoint.ncl({}, "/nowhere"))[0] == b"HTTP/1.1 404 Not Found"
    assert b"405" in await endpoint.raw(b"GET /ncl HTTP/1.1\r\nhost: x\r\n\r\n")


async def test_a_box_that_is_not_offered_ncl_is_told_so():
    listener = listen_on_loopback()
    server = ToolServer(build_tools(Desk(), 1800.0))
    await server.start(listener)
    status, answer = await Endpoint(Desk(), listener.getsockname()[1]).ncl({"arguments": ["help"]})
    assert status == b"HTTP/1.1 404 Not Found" and answer["text"] == "ncl is not offered to this agent."
    await server.close()
