"""`ncl groups config add-mcp-server|remove-mcp-server|list-mcp-servers`: tool servers in an assistant's sandbox."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import replace

from nanoclaw.admin.call import Call
from nanoclaw.admin.resources.lists import Action
from nanoclaw.admin.resources.parts import Parts
from nanoclaw.admin.table import Table
from nanoclaw.channels.plain_text import one_line
from nanoclaw.domain.group import GroupConfig, McpServer
from nanoclaw.domain.servers import add_server, describe_command
from nanoclaw.errors import Refused
from nanoclaw.flow.aftermath import Aftermath

COLUMNS = ("server", "command", "env", "instructions")


class GroupServers:
    """The MCP servers of agent groups."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def reads(self) -> Mapping[str, Action]:
        """Return what shows them."""
        return {"groups config list-mcp-servers": self.list}

    def writes(self) -> Mapping[str, Action]:
        """Return what changes them."""
        return {"groups config add-mcp-server": self.add, "groups config remove-mcp-server": self.remove}

    def list(self, connection: sqlite3.Connection, call: Call, after: Aftermath) -> Table:
        """Show those of an assistant."""
        group = self._parts.find.group(connection, call.asker, call.text("id"), archived=True)
        servers = self._parts.tables.groups.config(connection, group.id).mcp_servers
        return Table(COLUMNS, tuple(_row(name, server) for name, server in sorted(servers.items())))

    def add(self, connection: sqlite3.Connection, call: Call, after: Aftermath) -> Table:
        """Add one, or put it in the place of the one of that name."""
        name = call.text("name")
        env = dict(_parse_variable(word) for word in call.many("env"))
        server = McpServer(call.text("command"), call.many("arg"), env, call.text("instructions").strip())

        def change(config: GroupConfig) -> GroupConfig:
            return replace(config, mcp_servers=add_server(config.mcp_servers, name, server))

        self._parts.configure(connection, call, after, change, f"MCP server {one_line(name, 40)}")
        return self.list(connection, call, after)

    def remove(self, connection: sqlite3.Connection, call: Call, after: Aftermath) -> Table:
        """Remove one. What its hosts are allowed stays: those are rules of the gateway."""
        name = call.text("name")

        def change(config: GroupConfig) -> GroupConfig:
            if name not in config.mcp_servers:
                there = ", ".join(config.mcp_servers) or "none"
                raise Refused(f"It has no MCP server {one_line(name, 40)!r}. It has: {there}.")
            left = {known: server for known, server in config.mcp_servers.items() if known != name}
            return replace(config, mcp_servers=left)

        self._parts.configure(connection, call, after, change, f"MCP server {one_line(name, 40)} removed")
        return self.list(connection, call, after)


def _parse_variable(word: str) -> tuple[str, str]:
    name, equals, value = word.partition("=")
    if not equals:
        raise Refused("--env is NAME=VALUE.")
    return name, value


def _row(name: str, server: McpServer) -> tuple[str, str, str, str]:
    env = " ".join(f"{variable}={value}" for variable, value in server.env.items())
    return name, describe_command(server), env, one_line(server.instructions, 80)
