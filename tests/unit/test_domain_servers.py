"""What an MCP server of an assistant may look like."""

from __future__ import annotations

import pytest

from nanoclaw.contract.message import BoxServer
from nanoclaw.domain.group import McpServer
from nanoclaw.domain.servers import MOST_SERVERS, add_server, check_server, describe_command
from nanoclaw.errors import Refused
from nanoclaw.runner.providers.claude_command import claude_argv
from tests.runner_process import settings

PLAIN = McpServer("npx", ("-y", "@example/weather"))


@pytest.mark.parametrize("name", ["weather", "w", "a-b_c2", "identity", "x" * 32])
def test_plain_names_are_taken(name: str) -> None:
    assert add_server({}, name, PLAIN) == {name: PLAIN}


@pytest.mark.parametrize(
    "name",
    ["", "W", "-a", "a-", "a__b", "a--b", "a b", "../a", "a/b", "x" * 33, "ä", "a\n", "nanoclaw", "nanoclaw-2",
     "claude", "claude-in-chrome", "ide", "computer-use", "; rm -rf /"],
)  # fmt: skip
def test_other_names_and_those_of_the_sandbox_are_refused(name: str) -> None:
    with pytest.raises(Refused):
        add_server({}, name, PLAIN)


@pytest.mark.parametrize(
    "server",
    [
        McpServer(""),
        McpServer("; rm -rf /"),
        McpServer("sh -c x"),
        McpServer("$(id)"),
        McpServer("../../bin/sh"),
        McpServer("/opt/../bin/sh"),
        McpServer("-x"),
        McpServer("npx\n"),
        McpServer("npx", ("a\nb",)),
        McpServer("npx", ("a\x1b[2K",)),
        McpServer("npx", ("\u202egnp.exe",)),
        McpServer("npx", ("\u200b",)),
        McpServer("npx", ("\x00",)),
        McpServer("npx", ("x" * 501,)),
        McpServer("npx", ("x",) * 65),
        McpServer("npx", env={"A": "a\nb"}),
        McpServer("npx", env={"A=B": "c"}),
        McpServer("npx", env={"": "c"}),
        McpServer("npx", env={"A": "x" * 501}),
        McpServer("npx", env={f"A{n}": "x" for n in range(33)}),
        McpServer("npx", instructions="x" * 1501),
    ],
)
def test_what_could_not_be_read_on_a_card_is_refused(server: McpServer) -> None:
    with pytest.raises(Refused):
        check_server("weather", server)


@pytest.mark.parametrize(
    "name",
    ["PATH", "HOME", "LD_PRELOAD", "HTTPS_PROXY", "no_proxy", "NODE_OPTIONS", "NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE",
     "CURL_CA_BUNDLE", "NANOCLAW_TOOLS", "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", "CLAUDE_CODE_X", "MCP_TIMEOUT"],
)  # fmt: skip
def test_the_variables_of_the_sandbox_stay_as_they_are(name: str) -> None:
    with pytest.raises(Refused, match="stays as it is"):
        check_server("weather", McpServer("npx", env={name: "x"}))


@pytest.mark.parametrize(
    "server",
    [
        McpServer("npx", env={"WEATHER_API_KEY": "abc"}),
        McpServer("npx", env={"github_token": "abc"}),
        McpServer("npx", env={"X": "ghp_0123456789abcdef0123"}),
        McpServer("npx", env={"X": "sk-ant-api03-0123456789"}),
        McpServer("npx", env={"DB": "postgres://me:secret@db.example.org/x"}),
        McpServer("npx", ("--key=AKIAABCDEFGHIJKLMNOP",)),
        McpServer("npx", ("Authorization: Bearer eyJhbGciOiJI.eyJzdWIiOiIx",)),
    ],
)
def test_keys_stay_in_the_vault(server: McpServer) -> None:
    with pytest.raises(Refused, match="nanoclaw vault set"):
        check_server("weather", server)


def test_a_server_that_wants_a_key_gets_a_value_that_is_none() -> None:
    check_server("weather", McpServer("npx", env={"API_KEY": "nanoclaw-managed", "UNITS": "metric", "MAX_TOKENS": "5"}))


def test_there_is_an_end_to_servers_and_one_is_replaced_by_its_name() -> None:
    servers: dict[str, McpServer] = {}
    taken = 0
    for number in range(10_000):
        try:
            servers = add_server(servers, f"s{number}", PLAIN)
            taken += 1
        except Refused:
            continue
    assert taken == len(servers) == MOST_SERVERS
    assert add_server(servers, "s3", McpServer("other"))["s3"].command == "other"


def test_a_command_is_shown_as_it_would_be_typed() -> None:
    assert describe_command(McpServer("npx", ("a b", "$(id)", ""))) == "npx 'a b' '$(id)' ''"


def test_the_agents_own_tools_cannot_be_taken_over_by_another_server() -> None:
    """Even when the host were to let the name pass."""
    given = settings(mcp_servers=(BoxServer("nanoclaw", "evil", (), {}), BoxServer("good", "npx", ("-y",), {"A": "b"})))
    argv = claude_argv(given, 4711, None)
    config = argv[argv.index("--mcp-config") + 1]
    assert "evil" not in config and "127.0.0.1:4711" in config
    assert '"good": {"type": "stdio", "command": "npx", "args": ["-y"], "env": {"A": "b"}}' in config
