"""Package builds: what was asked to be installed for a group, and what came of it."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

import msgspec

from nanoclaw.domain.group import BuildState
from nanoclaw.domain.packages import PackageChange
from nanoclaw.errors import StoreError
from nanoclaw.store.people import NewId
from nanoclaw.store.sql import Sql

MOST_KEPT = 50  # builds of a group, and the newest that was done


@dataclass(frozen=True, slots=True)
class Build:
    """One build; times in epoch milliseconds. `detail` says why it failed, or what there is to know of it."""

    id: str
    agent_group: str
    session: str | None
    state: BuildState
    change: PackageChange
    detail: str
    asked_by: str | None
    asked_at: int
    ended_at: int | None


class Builds:
    """The only writer of `package_builds`."""

    def __init__(self, new_id: NewId) -> None:
        self._sql = Sql("builds.sql")
        self._new_id = new_id

    def add(
        self, connection: sqlite3.Connection, whose: tuple[str, str | None], change: PackageChange, by: str | None,
        now: int,
    ) -> Build:  # fmt: skip
        """Queue a build for `whose`: an agent group, and the session whose agent asked for it."""
        build, (group, session) = self._new_id(), whose
        self._sql.change(
            connection,
            "insert_build",
            id=build,
            agent_group_id=group,
            session_id=session,
            wanted=msgspec.json.encode(change).decode(),
            asked_by=by,
            now=now,
        )
        return self.get(connection, build)

    def get(self, connection: sqlite3.Connection, build: str) -> Build:
        """Return a build. Raises StoreError when it is gone with its group."""
        row = self._sql.row(connection, "find_build", id=build)
        if row is None:
            raise StoreError(f"package build {build} is gone")
        return _build(row)

    def find_next(self, connection: sqlite3.Connection) -> Build | None:
        """Return the oldest build that is not over."""
        row = self._sql.row(connection, "find_next")
        return _build(row) if row else None

    def begin(self, connection: sqlite3.Connection, build: str) -> bool:
        """Note that it is worked at. False: it is over, or gone."""
        return self._sql.change(connection, "begin_build", id=build) == 1

    def prune(self, connection: sqlite3.Connection, group: str, most: int = MOST_KEPT) -> int:
        """Forget all but the newest builds of a group; return how many went."""
        return self._sql.change(connection, "prune_builds", agent_group_id=group, most=most)

    def end(self, connection: sqlite3.Connection, build: str, state: BuildState, detail: str, now: int) -> bool:
        """Note how it ended. False: it is not worked at, or gone with its group."""
        return self._sql.change(connection, "end_build", id=build, state=state, detail=detail, now=now) == 1

    def count_open(self, connection: sqlite3.Connection, group: str) -> int:
        """Return how many builds of a group are not over."""
        row = self._sql.row(connection, "count_open", agent_group_id=group)
        return row["open"] if row else 0

    def list_of(self, connection: sqlite3.Connection, group: str, most: int = 50) -> list[Build]:
        """Return the builds of a group, newest first."""
        return [_build(row) for row in self._sql.rows(connection, "list_of_group", agent_group_id=group, most=most)]

    def last_end(self, connection: sqlite3.Connection, group: str) -> int | None:
        """Return when the group's set was last replaced."""
        row = self._sql.row(connection, "last_end", agent_group_id=group)
        return row["ended_at"] if row else None


def _build(row: sqlite3.Row) -> Build:
    try:
        change = msgspec.json.decode(row["wanted"].encode(), type=PackageChange)
    except msgspec.MsgspecError as error:
        raise StoreError(f"package build {row['id']} is damaged: {error}") from error
    return Build(
        id=row["id"],
        agent_group=row["agent_group_id"],
        session=row["session_id"],
        state=BuildState(row["state"]),
        change=change,
        detail=row["detail"],
        asked_by=row["asked_by"],
        asked_at=row["asked_at"],
        ended_at=row["ended_at"],
    )
