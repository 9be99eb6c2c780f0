"""Folders of the machine that a group was given and its boxes do not get, as its last start found."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from nanoclaw.store.sql import Sql


@dataclass(frozen=True, slots=True)
class LeftOutMount:
    """One folder, by its path. `reason` is a word, `words` say it to the operator; `since` in epoch milliseconds."""

    source: str
    reason: str
    words: str
    since: int = 0


class LeftOutMounts:
    """The only writer of `left_out_mounts`."""

    def __init__(self) -> None:
        self._sql = Sql("left_out.sql")

    def list_of(self, connection: sqlite3.Connection, group: str) -> list[LeftOutMount]:
        """Return those of an agent group."""
        rows = self._sql.rows(connection, "list_left_out", agent_group_id=group)
        return [LeftOutMount(row["source"], row["reason"], row["words"], row["since"]) for row in rows]

    def put(self, connection: sqlite3.Connection, group: str, mount: LeftOutMount, now: int) -> None:
        """Note that a folder is left out, and why."""
        self._sql.change(
            connection,
            "put_left_out",
            agent_group_id=group,
            source=mount.source,
            reason=mount.reason,
            words=mount.words,
            now=now,
        )

    def remove(self, connection: sqlite3.Connection, group: str, source: str) -> None:
        """Note that it is mounted again, or was forgotten."""
        self._sql.change(connection, "remove_left_out", agent_group_id=group, source=source)
