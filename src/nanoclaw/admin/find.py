"""What a person or an agent calls something: its id, the beginning of its id, or its name, found among what they see.

What somebody may not see is not there for them: the answer is the same as for what does not exist.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from nanoclaw.admin.call import Asker
from nanoclaw.errors import Refused
from nanoclaw.store.groups import AgentGroup
from nanoclaw.store.tables import Tables

MOST_SAID = 60  # characters of a wrong name that are said back
CALLED = {
    "groups": "assistant",
    "messaging-groups": "chat",
    "wirings": "wiring",
    "users": "user",
    "sessions": "session",
    "approvals": "approval",
    "tasks": "task",
}


class Finder:
    """Finds one thing by what it is called. Raises Refused with what there is instead."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def group(self, connection: sqlite3.Connection, asker: Asker, text: str, *, archived: bool = False) -> AgentGroup:
        """Return an agent group."""
        found = self._tables.groups.search(connection, text, archived=archived)
        seen = [group for group in found if asker.sees(group.id) or group.id in asker.named]
        _expect_one("groups", text, [(group.id, f"{group.name}, folder {group.folder}") for group in seen])
        return seen[0]

    def id_of(self, connection: sqlite3.Connection, asker: Asker, noun: str, text: str) -> str:
        """Return the id of one of a noun."""
        if noun == "groups":
            return self.group(connection, asker, text).id
        rows = self._tables.listings.find(connection, noun.replace("-", "_"), text.strip()) if text.strip() else []
        seen = [row for row in rows if asker.sees(row["agent_group_id"]) or row["id"] in asker.named]
        best = [row for row in seen if row["rank"] == seen[0]["rank"]]
        _expect_one(noun, text, [(row["id"], row["label"]) for row in best])
        return str(best[0]["id"])

    def label_of(self, connection: sqlite3.Connection, noun: str, found: str) -> str:
        """Return what a person knows something by, given its whole id."""
        if noun == "groups":
            group = self._tables.groups.get(connection, found)
            return f"{group.name}, folder {group.folder}"
        return str(self._tables.listings.find(connection, noun.replace("-", "_"), found)[0]["label"])


def _expect_one(noun: str, text: str, found: Sequence[tuple[str, str]]) -> None:
    said = text[:MOST_SAID] + ("…" if len(text) > MOST_SAID else "")
    if not found:
        raise Refused(f"There is no {CALLED[noun]} {said!r}. `ncl {noun} list` shows what there is.")
    if len(found) > 1:
        which = "; ".join(f"{one} ({label})" for one, label in found)
        raise Refused(f"{said!r} could be more than one {CALLED[noun]}: {which}. Give more of the id.")
