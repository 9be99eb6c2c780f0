"""What `ncl` lists, shows and finds: one query each, over every table. Writes nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from nanoclaw.store.sql import Sql, Value

MOST_FOUND = 12  # of what a name or the beginning of an id may mean


class Listings:
    """The queries of listings.sql."""

    def __init__(self) -> None:
        self._sql = Sql("listings.sql")

    def rows(
        self, connection: sqlite3.Connection, listing: str, filters: Mapping[str, Value], most: int = 1
    ) -> list[sqlite3.Row]:
        """Return the rows of a listing; a filter that is None leaves all."""
        return self._sql.rows(connection, listing, **filters, most=most)

    def find(self, connection: sqlite3.Connection, noun: str, text: str) -> list[sqlite3.Row]:
        """Return (id, label, agent_group_id, rank) of what `text` may mean, the best first; rank 0 is the id itself."""
        return self._sql.rows(connection, f"find_{noun}", text=text, most=MOST_FOUND)
