"""What a person asks of the store's file in SQL of their own: it can only read, and not for ever.

The file is opened read-only, writing is switched off once more, and an authorizer lets nothing through but SELECT: no
ATTACH (another file), no PRAGMA, no extension. See SQLite's sqlite3_set_authorizer and sqlite3_progress_handler.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path

from nanoclaw.clock import Clock
from nanoclaw.errors import Refused
from nanoclaw.store.db import open_connection

MOST_ROWS = 10_000
MOST_SECONDS = 10.0
MOST_VALUE_BYTES = 16 * 1024 * 1024  # one value, or one statement
STEPS = 10_000  # of SQLite's machine, between two looks at the clock
ALLOWED = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE})
FORBIDDEN_FUNCTIONS = frozenset({"load_extension", "fts3_tokenizer"})

Field = str | int | float | bytes | None


@dataclass(frozen=True, slots=True)
class Found:
    """What a query found; `cut`: there was more than may be shown."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Field, ...], ...]
    cut: bool


def query_file(path: Path, text: str, clock: Clock) -> Found:
    """Run one SELECT. Raises Refused with what is wrong about it, sqlite3.Error when the file cannot be opened."""
    connection = open_connection(path, read_only=True)
    try:
        connection.row_factory = None
        connection.execute("PRAGMA query_only = ON")  # behind mode=ro, should that ever be changed
        connection.execute("PRAGMA trusted_schema = OFF")  # no function with side effects from the schema
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MOST_VALUE_BYTES)
        deadline = clock.monotonic() + MOST_SECONDS
        connection.set_progress_handler(lambda: int(clock.monotonic() > deadline), STEPS)
        connection.set_authorizer(_authorize)
        return _run(connection, text)
    finally:
        connection.close()


def _run(connection: sqlite3.Connection, text: str) -> Found:
    try:
        cursor = connection.execute(text)
        if cursor.description is None:
            raise Refused("That asks for nothing. A query is one SELECT, e.g. nanoclaw query 'SELECT * FROM users'.")
        rows = cursor.fetchmany(MOST_ROWS + 1)
    except (sqlite3.Error, sqlite3.Warning, ValueError, OverflowError, MemoryError) as error:
        raise Refused(_explain(str(error))) from error
    columns = tuple(str(column[0]) for column in cursor.description)
    return Found(columns, tuple(rows[:MOST_ROWS]), len(rows) > MOST_ROWS)


def _authorize(action: int, first: str | None, second: str | None, database: str | None, trigger: str | None) -> int:
    named = (second or "").lower()
    if action not in ALLOWED or (action == sqlite3.SQLITE_FUNCTION and named in FORBIDDEN_FUNCTIONS):
        return sqlite3.SQLITE_DENY
    return sqlite3.SQLITE_OK


def _explain(why: str) -> str:
    if "authorized" in why or "prohibited" in why:
        return "A query may only read: one SELECT over the tables of docs/reference/tables.md."
    if "interrupted" in why:
        return f"That takes longer than {MOST_SECONDS:.0f} seconds. Ask for less, e.g. with WHERE or LIMIT."
    if "one statement" in why:
        return "One SELECT at a time."
    return f"SQLite does not understand that: {why}."
