"""The `.sql` file beside a module, by name of query; aiosql parses it, sqlite3 runs it with named parameters."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any, cast

import aiosql

Value = str | int | None


class Sql:
    """The named queries of one file."""

    def __init__(self, name: str) -> None:
        load = cast("Any", aiosql.from_path)  # its own types are incomplete
        queries = load(Path(__file__).with_name(name), "sqlite3", mandatory_parameters=False)
        self._text: dict[str, str] = {query: getattr(queries, query).sql for query in queries.available_queries}

    def rows(self, connection: sqlite3.Connection, query: str, **parameters: Value) -> list[sqlite3.Row]:
        """Run a query and return all its rows."""
        return connection.execute(self._text[query], parameters).fetchall()

    def row(self, connection: sqlite3.Connection, query: str, **parameters: Value) -> sqlite3.Row | None:
        """Run a query and return its first row, None when there is none."""
        return connection.execute(self._text[query], parameters).fetchone()

    def change(self, connection: sqlite3.Connection, query: str, **parameters: Value) -> int:
        """Run a statement and return how many rows it changed."""
        return connection.execute(self._text[query], parameters).rowcount
