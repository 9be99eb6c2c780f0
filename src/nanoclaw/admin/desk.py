"""Every verb of `ncl` and what carries it out: looked up by its words, run over a connection to the store."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from nanoclaw.admin.call import Call
from nanoclaw.admin.find import Finder
from nanoclaw.admin.resources.approvals import ApprovalsResource, Decide
from nanoclaw.admin.resources.audit import AuditResource
from nanoclaw.admin.resources.chats import MessagingGroupsResource
from nanoclaw.admin.resources.destinations import DestinationsResource
from nanoclaw.admin.resources.group_config import GroupConfigResource
from nanoclaw.admin.resources.group_folders import GroupFoldersResource
from nanoclaw.admin.resources.group_packages import GroupPackagesResource
from nanoclaw.admin.resources.group_runtime import Read, RuntimeTrial
from nanoclaw.admin.resources.group_sandbox import GroupSandboxResource, Look
from nanoclaw.admin.resources.group_servers import GroupServers
from nanoclaw.admin.resources.group_skills import GroupSkills
from nanoclaw.admin.resources.groups import GroupsResource
from nanoclaw.admin.resources.host import HostFacts, HostResource, with_places
from nanoclaw.admin.resources.lists import Action, Lists
from nanoclaw.admin.resources.messages import MessagesResource
from nanoclaw.admin.resources.parts import Machine, Parts
from nanoclaw.admin.resources.people import Pairing, UsersResource
from nanoclaw.admin.resources.rights import RightsResource
from nanoclaw.admin.resources.wirings import WiringsResource
from nanoclaw.admin.table import Table
from nanoclaw.flow.aftermath import Aftermath
from nanoclaw.flow.groups import AgentGroups
from nanoclaw.flow.skills import make_shelf
from nanoclaw.store.tables import Tables

Finisher = Callable[[Call, Table], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Hands:
    """What a running host has and a file has not. `operator`: (channel, handle) of who runs the host."""

    groups: AgentGroups
    decide: Decide
    pairing: Pairing
    operator: tuple[str, str]
    machine: Machine
    preview: Look
    facts: Callable[[], HostFacts]
    request_stop: Callable[[], None]


class Desk:
    """Carries out calls. Without `hands` (no host runs) it answers those that change nothing."""

    def __init__(self, tables: Tables, home: str, hands: Hands | None = None) -> None:
        parts = build_parts(tables)
        packages = GroupPackagesResource(parts)
        servers, skills = GroupServers(parts), GroupSkills(parts, make_shelf(Path(home)))
        config = GroupConfigResource(parts, hands.machine.runtimes.names if hands else ())
        self._actions: dict[str, Action] = {
            **parts.lists.actions(),
            **config.reads(),
            **packages.reads(),
            **skills.reads(),
            **servers.reads(),
            **MessagesResource(tables).actions(),
            **AuditResource(tables).actions(),
            **GroupSandboxResource(parts, hands.preview if hands else None).actions(),
            **HostResource(tables, home, hands.facts if hands else None).actions(),
        }
        for name in ("sessions list", "sessions get"):
            self._actions[name] = with_places(self._actions[name], hands.facts if hands else None)
        self._finishers: dict[str, Finisher] = {}
        self._trials: dict[str, RuntimeTrial] = {}
        if hands is not None:
            groups = GroupsResource(parts, hands.groups)
            self._actions |= {
                **groups.actions(),
                **config.writes(),
                **packages.writes(),
                **skills.writes(),
                **servers.writes(),
                **GroupFoldersResource(parts, config, hands.machine).actions(),
                **MessagingGroupsResource(parts).actions(),
                **WiringsResource(parts, hands.groups).actions(),
                **UsersResource(parts, hands.operator, hands.pairing).actions(),
                **RightsResource(parts).actions(),
                **DestinationsResource(parts).actions(),
                **ApprovalsResource(parts, hands.decide).actions(),
            }
            self._trials = {"groups config update": RuntimeTrial(parts, hands.machine)}
            self._finishers = {"groups delete": groups.erase, "host stop": _stop(hands.request_stop)}

    @property
    def commands(self) -> Mapping[str, Action]:
        """What can be carried out, by `RESOURCE VERB`."""
        return self._actions

    async def prepare(self, call: Call, read: Read) -> None:
        """Do what takes too long for a transaction, before it. Raises NanoClawError with a plain sentence."""
        trial = self._trials.get(call.command)
        if trial is not None:
            await trial(call, read)

    def run(self, connection: sqlite3.Connection, call: Call, after: Aftermath) -> Table:
        """Carry out a call, in the caller's transaction. Raises NanoClawError with a plain sentence."""
        return self._actions[call.command](connection, call, after)

    async def finish(self, call: Call, table: Table) -> None:
        """Do what follows the commit. Raises NanoClawError, OSError."""
        finisher = self._finishers.get(call.command)
        if finisher is not None:
            await finisher(call, table)


def build_parts(tables: Tables) -> Parts:
    """Return what finds and shows rows."""
    find = Finder(tables)
    return Parts(tables, find, Lists(tables, find))


def _stop(request_stop: Callable[[], None]) -> Finisher:
    async def stop(call: Call, table: Table) -> None:
        request_stop()

    return stop
