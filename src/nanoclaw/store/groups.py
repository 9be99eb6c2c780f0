"""Agent groups and their sandbox config."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from nanoclaw.domain.group import BoxLimits, CliScope, ExtraMount, GroupConfig, Kernel, McpServer, Packages
from nanoclaw.domain.wiring import AgentGroupId
from nanoclaw.errors import StoreError
from nanoclaw.store.people import NewId
from nanoclaw.store.sql import Sql

Column = TypeVar("Column")

ALL_SKILLS = "all"  # what the column `skills` holds for None


@dataclass(frozen=True, slots=True)
class AgentGroup:
    """One assistant. `number` is n of its boxes' uid (base + 1 + n); times in epoch milliseconds."""

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
    purging_at: int | None = None  # it is being erased since then, and cannot come back
    created_at: int = 0


class Groups:
    """The only writer of `agent_groups` and `container_configs`."""

    def __init__(self, new_id: NewId) -> None:
        self._sql = Sql("groups.sql")
        self._new_id = new_id

    def add(
        self, connection: sqlite3.Connection, name: str, folder: str, now: int, *, instructions: str = ""
    ) -> AgentGroupId:
        """Make an agent group with the default config; its number is the lowest free one. Names are checked before."""
        group = AgentGroupId(self._new_id())
        self._sql.change(connection, "insert_group", id=group, name=name, folder=folder, now=now)
        self._sql.change(connection, "insert_config", agent_group_id=group, instructions=instructions, now=now)
        return group

    def get(self, connection: sqlite3.Connection, group: str) -> AgentGroup:
        """Return an agent group, also one that is archived. Raises StoreError when there is none."""
        row = self._sql.row(connection, "get_group", id=group)
        if row is None:
            raise StoreError(f"agent group {group} is gone")
        return _group(row)

    def find(self, connection: sqlite3.Connection, group: str) -> AgentGroup | None:
        """Return an agent group, also one that is archived."""
        row = self._sql.row(connection, "get_group", id=group)
        return _group(row) if row else None

    def find_by_folder(self, connection: sqlite3.Connection, folder: str) -> AgentGroupId | None:
        """Return the agent group that has this folder and is not archived."""
        row = self._sql.row(connection, "find_group_by_folder", folder=folder)
        return AgentGroupId(row["id"]) if row else None

    def list_all(self, connection: sqlite3.Connection) -> list[AgentGroup]:
        """Return the agent groups that are not archived, oldest first."""
        return [group for group in self.list_with_archived(connection) if group.archived_at is None]

    def list_with_archived(self, connection: sqlite3.Connection) -> list[AgentGroup]:
        """Return every agent group, oldest first."""
        return [_group(row) for row in self._sql.rows(connection, "list_groups")]

    def search(self, connection: sqlite3.Connection, text: str, *, archived: bool = False) -> list[AgentGroup]:
        """Return the agent groups that `text` names; decide_match says how."""
        groups = self.list_with_archived(connection) if archived else self.list_all(connection)
        return decide_match(groups, text)

    def rename(self, connection: sqlite3.Connection, group: str, name: str) -> None:
        """Set the name, checked before; the folder stays."""
        self._sql.change(connection, "rename_group", id=group, name=name)

    def config(self, connection: sqlite3.Connection, group: str) -> GroupConfig:
        """Return how a group is set up. Raises StoreError when it is gone, or somebody wrote what is no config."""
        row = self._sql.row(connection, "get_config", agent_group_id=group)
        if row is None:
            raise StoreError(f"agent group {group} is gone")
        return GroupConfig(
            provider=row["provider"],
            model=row["model"],
            effort=row["effort"],
            runtime=row["runtime"],
            max_messages_per_prompt=row["max_messages_per_prompt"],
            skills=_parse_skills(row["skills"], group),
            mcp_servers=_parse(row["mcp_servers"], dict[str, McpServer], group),
            additional_mounts=_parse(row["additional_mounts"], tuple[ExtraMount, ...], group),
            limits=_parse(row["limits"], BoxLimits, group),
            instructions=row["instructions"],
            cli_scope=CliScope(row["cli_scope"]),
            require_kernel=Kernel(row["require_kernel"]) if row["require_kernel"] else None,
            packages=Packages(
                *(_parse(row[f"packages_{manager}"], tuple[str, ...], group) for manager in ("apt", "npm", "pip"))
            ),
            packages_set=row["packages_set"],
        )

    def configure(self, connection: sqlite3.Connection, group: str, config: GroupConfig, now: int) -> None:
        """Set a group's config whole; a live box has the old one until its next start."""
        self._sql.change(
            connection,
            "set_config",
            agent_group_id=group,
            provider=config.provider,
            model=config.model,
            effort=config.effort,
            runtime=config.runtime,
            max_messages_per_prompt=config.max_messages_per_prompt,
            skills=_json(ALL_SKILLS if config.skills is None else config.skills),
            mcp_servers=_json(config.mcp_servers),
            additional_mounts=_json(config.additional_mounts),
            limits=_json(config.limits),
            instructions=config.instructions,
            cli_scope=config.cli_scope,
            require_kernel=config.require_kernel or "",
            packages_apt=_json(config.packages.apt),
            packages_npm=_json(config.packages.npm),
            packages_pip=_json(config.packages.pip),
            packages_set=config.packages_set,
            now=now,
        )

    def archive(self, connection: sqlite3.Connection, group: str, now: int) -> bool:
        """Put a group away; nothing of it is removed. False: it was already."""
        return self._sql.change(connection, "archive_group", id=group, now=now) == 1

    def restore(self, connection: sqlite3.Connection, group: str) -> bool:
        """Bring an archived group back. False: it is not archived, or being erased."""
        return self._sql.change(connection, "restore_group", id=group) == 1

    def begin_purge(self, connection: sqlite3.Connection, group: str, now: int) -> bool:
        """Mark an archived group as being erased: it cannot be restored any more. False: it is not archived."""
        return self._sql.change(connection, "begin_purge", id=group, now=now) == 1

    def remove(self, connection: sqlite3.Connection, group: str) -> bool:
        """Remove a group that is being erased, with its config, roles, members, wirings and destinations.

        False: it is not being erased. Raises sqlite3.IntegrityError while a session of it is there.
        """
        return self._sql.change(connection, "remove_group", id=group) == 1


def decide_match(groups: Sequence[AgentGroup], text: str) -> list[AgentGroup]:
    """Return the groups that `text` names by the first that fits: id, folder as it is spelt, name or folder in any
    case, beginning of an id. A folder is one group's alone, so whoever spells it means that group."""
    wanted = text.strip().casefold()
    if not wanted:
        return []
    exact = [group for group in groups if group.id.casefold() == wanted]
    exact = exact or [group for group in groups if group.folder == text.strip()]
    named = exact or [group for group in groups if wanted in (group.folder, group.name.casefold())]
    return named or [group for group in groups if group.id.casefold().startswith(wanted)]


def _parse(text: str, kind: type[Column], group: str) -> Column:
    try:
        return msgspec.json.decode(text.encode(), type=kind)
    except msgspec.MsgspecError as error:
        raise StoreError(f"the config of agent group {group} is damaged: {error}") from error


def _parse_skills(text: str, group: str) -> tuple[str, ...] | None:
    return None if text == _json(ALL_SKILLS) else _parse(text, tuple[str, ...], group)


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


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
        purging_at=row["purging_at"],
        created_at=row["created_at"],
    )
