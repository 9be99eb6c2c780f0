"""7l self change: what an agent would like to have in its sandbox, packages or an MCP server, is there after a yes.

In: `install_packages` and `add_mcp_server` of an agent; the answer of an approver of its group.
Out: `pending` at once; after a yes a build is ordered (flow/builds.py), or the group's boxes are set up anew with the
server, and its hosts are allowed where the answer says so; the agent is told in its next box.
Writes: `approvals`, the cards; after a yes `package_builds` or `container_configs`, `audit`; notes to the agent.
Never: believes what the box has checked; shows a person less than what is run; lets a key into the config.
Fails: Refused with words the agent can mend it by; what fails after a yes is told to agent and approver.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

import msgspec

from nanoclaw.channels.plain_text import neutralise, one_line
from nanoclaw.contract.message import ToolAnswer
from nanoclaw.contract.request import ADD_MCP_SERVER, INSTALL_PACKAGES
from nanoclaw.domain.approval import APPROVE, DENY, ApprovalKind
from nanoclaw.domain.card import Option
from nanoclaw.domain.egress import DENIED_MS, MOST_REASON, find_host_fault
from nanoclaw.domain.group import McpServer, Packages
from nanoclaw.domain.packages import PackageChange, count, describe, parse_packages
from nanoclaw.domain.servers import MOST_HOSTS, add_server, describe_command
from nanoclaw.errors import Refused
from nanoclaw.flow.access import MOST_NAME, AccessRequests
from nanoclaw.flow.aftermath import Aftermath
from nanoclaw.flow.agent_requests import AgentRequests, Effect, Request, subject_of
from nanoclaw.flow.approvals import End
from nanoclaw.flow.builds import BuildOrder, request_build
from nanoclaw.flow.requests import Caller
from nanoclaw.store.audit import Entry
from nanoclaw.store.tables import Tables

MOST_AT_ONCE = 20  # packages of one request, as in the original
Kind = TypeVar("Kind", bound=msgspec.Struct)
WITH_HOSTS = Option("with_hosts", "Approve and allow the hosts")


class _Packages(msgspec.Struct, forbid_unknown_fields=True):
    """What an agent sends."""

    reason: str
    apt: list[str] = []
    npm: list[str] = []
    pip: list[str] = []


class _Server(msgspec.Struct, forbid_unknown_fields=True):
    """What an agent sends."""

    name: str
    command: str
    reason: str
    args: list[str] = []
    env: dict[str, str] = {}
    hosts: list[str] = []
    instructions: str = ""


class WantedPackages(msgspec.Struct, frozen=True):
    """What waits for a yes; without the reason, so that other words for the same are not another question."""

    group: str
    session: str
    packages: Packages


class WantedServer(msgspec.Struct, frozen=True):
    """What waits for a yes."""

    group: str
    name: str
    server: McpServer
    hosts: tuple[str, ...]


class SelfChange:
    """Puts to people what agents would like to have, and does it after a yes."""

    def __init__(self, tables: Tables, requests: AgentRequests, access: AccessRequests) -> None:
        self._tables = tables
        self._requests = requests
        self._access = access

    def effects(self) -> Mapping[str, Effect]:
        """Return what a yes does, by action."""
        return {INSTALL_PACKAGES: self._packages_approved, ADD_MCP_SERVER: self._server_approved}

    def ask_packages(
        self, connection: sqlite3.Connection, caller: Caller, arguments: str, after: Aftermath, now: int
    ) -> ToolAnswer:
        """Ask whether packages may be installed."""
        wanted = _read(arguments, _Packages, INSTALL_PACKAGES)
        reason = _check_reason(wanted.reason)
        packages = parse_packages(wanted.apt, wanted.npm, wanted.pip)
        if count(packages) > MOST_AT_ONCE:
            raise Refused(f"At most {MOST_AT_ONCE} packages at once.")
        lines = [
            f"To install: {describe(packages)}",
            f"Why, in its words: {reason}",
            "They are installed for this assistant alone and run inside its sandbox.",
        ]
        kept = WantedPackages(caller.agent_group, caller.session, packages)
        what = (INSTALL_PACKAGES, "asks to install packages", lines)
        return self._ask(connection, (caller, what, (APPROVE, DENY)), kept, after, now)

    def ask_server(
        self, connection: sqlite3.Connection, caller: Caller, arguments: str, after: Aftermath, now: int
    ) -> ToolAnswer:
        """Ask whether an MCP server may run in the agent's sandbox, and whether its hosts may be reached."""
        wanted = _read(arguments, _Server, ADD_MCP_SERVER)
        reason = _check_reason(wanted.reason)
        server = McpServer(wanted.command, tuple(wanted.args), wanted.env, wanted.instructions.strip())
        hosts = _check_hosts(wanted.hosts)
        known = self._tables.groups.config(connection, caller.agent_group).mcp_servers
        add_server(known, wanted.name, server)
        if known.get(wanted.name) == server and not hosts:
            return ToolAnswer("done", f"The MCP server {wanted.name} is set up just so already.")
        lines = [f"What runs: {describe_command(server)}"]
        if wanted.name in known:
            lines.append(f"It takes the place of {wanted.name} as it is now: {describe_command(known[wanted.name])}")
        lines += [f"With {name}={value}" for name, value in server.env.items()]
        lines.append(f"Why, in its words: {reason}")
        if server.instructions:
            quoted = [f"> {neutralise(line)}" for line in server.instructions.splitlines()]
            lines += ["What the assistant is told about it from then on:", *quoted]
        if hosts:
            lines.append(f"It wants to reach, all of each: {', '.join(hosts)}. No key is put on these calls.")
        lines.append("It runs inside the assistant's sandbox, with what the assistant can see there.")
        options = (APPROVE, WITH_HOSTS, DENY) if hosts else (APPROVE, DENY)
        what = (ADD_MCP_SERVER, f"asks for the MCP server {wanted.name}", lines)
        kept = WantedServer(caller.agent_group, wanted.name, server, hosts)
        return self._ask(connection, (caller, what, options), kept, after, now)

    def _ask(
        self,
        connection: sqlite3.Connection,
        asked: tuple[Caller, tuple[str, str, list[str]], tuple[Option, ...]],
        kept: WantedPackages | WantedServer,
        after: Aftermath,
        now: int,
    ) -> ToolAnswer:
        caller, (action, title, lines), options = asked
        group = self._tables.groups.get(connection, caller.agent_group)
        request = Request(
            action=action,
            agent_group=group.id,
            session=caller.session,
            title=f"{one_line(group.name, MOST_NAME)} {title}",
            text="\n".join(lines),
            payload=msgspec.json.encode(kept).decode(),
            chat=caller.place.chat if caller.place and caller.place.chat else caller.chat,
            options=options,
        )
        subject = subject_of(request)
        denied = self._tables.approvals.find_denied(connection, ApprovalKind.AGENT_REQUEST, subject, now - DENIED_MS)
        if denied is not None:
            name = self._tables.people.name_of(connection, denied.answered_by)
            raise Refused(f"{name} said no to this a short while ago. Do not ask again now.")
        return self._requests.ask_approvers(connection, request, after, now)

    def _packages_approved(
        self, connection: sqlite3.Connection, payload: str, end: End, after: Aftermath, now: int
    ) -> str:
        wanted = msgspec.json.decode(payload, type=WantedPackages)
        change = PackageChange(add=wanted.packages)
        order = BuildOrder(wanted.group, wanted.session, change, end.by)
        return request_build(connection, self._tables, order, after, now)

    def _server_approved(
        self, connection: sqlite3.Connection, payload: str, end: End, after: Aftermath, now: int
    ) -> str:
        wanted = msgspec.json.decode(payload, type=WantedServer)
        config = self._tables.groups.config(connection, wanted.group)
        servers = add_server(config.mcp_servers, wanted.name, wanted.server)
        self._tables.groups.configure(connection, wanted.group, replace(config, mcp_servers=servers), now)
        after.renew[wanted.group] = None
        actor = f"user:{end.by}" if end.by else "operator"
        entry = Entry(now, "group.configured", actor, wanted.group, "allow", f"MCP server {wanted.name}")
        self._tables.audit.append(connection, entry)
        words = f"The MCP server {wanted.name} runs in the sandbox from now on; its tools begin with {wanted.name}."
        if end.option != WITH_HOSTS:
            return words if not wanted.hosts else f"{words} Its hosts are not allowed by this."
        folder = self._tables.groups.get(connection, wanted.group).folder
        self._access.allow_hosts(connection, (folder, wanted.hosts), end, after, now)
        return f"{words} It is told when its hosts can be reached."


def _read(arguments: str, kind: type[Kind], action: str) -> Kind:
    try:
        return msgspec.json.decode(arguments, type=kind)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise Refused(f"{action} was not understood: {one_line(str(error), 200)}.") from None


def _check_reason(text: str) -> str:
    reason = one_line(text, MOST_REASON + 1)
    if not reason or len(reason) > MOST_REASON:
        raise Refused(f"Say why, in 1 to {MOST_REASON} characters: a person reads it and decides.")
    return reason


def _check_hosts(hosts: list[str]) -> tuple[str, ...]:
    wanted = tuple(dict.fromkeys(host.lower() for host in hosts))
    if len(wanted) > MOST_HOSTS:
        raise Refused(f"At most {MOST_HOSTS} hosts at once.")
    for host in wanted:
        if fault := find_host_fault(host):
            raise Refused(fault)
    return wanted
