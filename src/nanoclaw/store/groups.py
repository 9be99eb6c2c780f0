"""Agent groups and their sandbox config."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from nanoclaw.domain.wiring import AgentGroupId
from nanoclaw.errors import StoreError
from nanoclaw.store.people import NewId
from nanoclaw.store.sql import Sql


@dataclass(frozen=True, slots=True)
class AgentGroup:
    """One assistant. `number` is n of its boxes' uid (base + 1 + n)."""

    id: AgentGroupId
    name: str
    folder: str
    number: int
    provider: str
    model: str | None
    effort: str | None
    instructions: str = ""
    cli_scope: str = "group"
    archived_at: int | None = None


class Groups:
    """The only writer of `agent_groups` and `container_configs`."""

    def __init__(self, new_id: NewId) -> None:
        self._sql = Sql("groups.sql")
        self._new_id = new_id

    def add(
        self, connection: sqlite3.Connection, name: str, folder: str, now: int, *, instructions: str = ""
    ) -> AgentGroupId:
        """Make an agent group with the default config; its box uid is the next unused one. Names are checked before."""
        group = AgentGroupId(self._new_id())
        self._sql.change(connection, "insert_group", id=group, name=name, folder=folder, now=now)
        self._sql.change(connection, "insert_config", agent_group_id=group, instructions=instructions, now=now)
        return group

    def get(self, connection: sqlite3.Connection, group: str) -> AgentGroup:
        """Return an agent group. Raises StoreError when there is none."""
        row = self._sql.row(connection, "get_group", id=group)
        if row is None:
            raise StoreError(f"agent group {group} is gone")
        return _group(row)

    def find(self, connection: sqlite3.Connection, group: str) -> AgentGroup | None:
        """Return an agent group; None: it is gone."""
        row = self._sql.row(connection, "get_group", id=group)
        return _group(row) if row else None

    def find_by_folder(self, connection: sqlite3.Connection, folder: str) -> AgentGroupId | None:
        """Return the agent group that has this folder."""
        row = self._sql.row(connection, "find_group_by_folder", folder=folder)
        return AgentGroupId(row["id"]) if row else None

    def list_all(self, connection: sqlite3.Connection) -> list[AgentGroup]:
        """Return the agent groups that are not archived, oldest first."""
        return [_group(row) for row in self._sql.rows(connection, "list_groups")]

    def set_provider(self, connection: sqlite3.Connection, group: str, provider: str, now: int) -> None:
        """Choose the agent that answers for a group."""
        self._sql.change(connection, "set_provider", agent_group_id=group, provider=provider, now=now)


def _group(row: sqlite3.Row) -> AgentGroup:
    return AgentGroup(
        id=AgentGroupId(row["id"]),
        name=row["name"],
        folder=row["folder"],
        number=row["box_uid"],
        provider=row["provider"],
        model=row["model"],
        effort=row["effort"],
        instructions=row["instructions"],
        cli_scope=row["cli_scope"],
        archived_at=row["archived_at"],
    )
