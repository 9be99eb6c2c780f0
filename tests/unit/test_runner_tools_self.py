"""What the runner says itself about calls by which an agent asks for more in its sandbox."""

from __future__ import annotations

import json

import pytest

from nanoclaw.contract.message import ToolAnswer
from nanoclaw.runner.fields import Fields
from nanoclaw.runner.providers.base import Activity, Init, Missing
from nanoclaw.runner.providers.claude_stream import ClaudeStream
from nanoclaw.runner.tools import ToolRefused
from nanoclaw.runner.tools_self import self_tools


class Desk:
    """Keeps what the host is asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, object]]] = []

    async def send_message(self, text: str, to: str | None) -> str:
        raise AssertionError(text, to)

    async def send_file(self, path: str, to: str | None, text: str, name: str | None) -> str:
        raise AssertionError(path, to, text, name)

    async def ask(self, action: str, arguments: dict[str, object], seconds: float = 0.0) -> ToolAnswer:
        self.asked.append((action, arguments))
        return ToolAnswer("pending", "A person is asked.")


async def call(desk: Desk, tool_name: str, /, **arguments: object) -> str:
    (tool,) = (tool for tool in self_tools(desk) if tool.name == tool_name)
    return await tool.call(Fields(arguments))


async def test_the_host_is_asked_with_what_was_named_and_nothing_else() -> None:
    desk = Desk()
    assert await call(desk, "install_packages", apt=["jq"], reason=" JSON ") == "A person is asked."
    await call(desk, "add_mcp_server", name="w", command="npx", args=["-y"], env={"A": "b"}, hosts=["a.b"], reason="x")
    assert desk.asked == [
        ("install_packages", {"apt": ["jq"], "reason": "JSON"}),
        (
            "add_mcp_server",
            {"name": "w", "command": "npx", "reason": "x", "args": ["-y"], "hosts": ["a.b"], "env": {"A": "b"}},
        ),
    ]


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("install_packages", {"reason": "x"}, "name packages"),
        ("install_packages", {"apt": [], "reason": "x"}, "name packages"),
        ("install_packages", {"apt": ["jq"]}, "reason is empty"),
        ("install_packages", {"apt": "jq", "reason": "x"}, "apt is a list of texts"),
        ("install_packages", {"apt": ["jq", 3], "reason": "x"}, "apt is a list of texts"),
        ("install_packages", {"packages": ["jq"], "reason": "x"}, "no argument is called packages"),
        ("add_mcp_server", {"command": "npx", "reason": "x"}, "name is empty"),
        (
            "add_mcp_server",
            {"name": "w", "command": "npx", "reason": "x", "env": {"A": 1}},
            "env is an object of texts",
        ),
        ("add_mcp_server", {"name": "w", "command": "npx", "reason": "x", "env": ["A"]}, "env is an object of texts"),
        ("add_mcp_server", {"name": "w", "command": "npx", "reason": "x", "url": "y"}, "no argument is called url"),
    ],
)
async def test_what_would_be_lost_silently_is_refused(name: str, arguments: dict[str, object], words: str) -> None:
    desk = Desk()
    with pytest.raises(ToolRefused, match=words):
        await call(desk, name, **arguments)
    assert desk.asked == []


def test_servers_that_did_not_start_are_named_once() -> None:
    servers = [("good", "connected"), ("dies", "failed"), ("hangs", "pending")]
    named = [{"name": name, "status": status} for name, status in servers]
    line = {"type": "system", "subtype": "init", "session_id": "s", "mcp_servers": named}
    stream = ClaudeStream()
    assert stream.read(json.dumps(line).encode()) == (Init("s"), Missing(("dies", "hangs")))
    assert stream.read(json.dumps(line).encode()) == (Activity(),)
