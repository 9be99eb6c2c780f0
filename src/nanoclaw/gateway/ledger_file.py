"""The ledger's file: opened, brought to the present schema without a change to the audit, read beside its writer.

In: the path of ledger.db. Out: a connection to write on, rows to read. Writes: the schema, and the calls that a crash
cut off. Never: opens a file of a newer version. Fails: OperatorError when the file cannot be used, LedgerError when it
cannot be read or written later.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import aiosql

from nanoclaw.errors import NanoClawError, OperatorError

VERSION = 2
LOCK_SECONDS = 0.5  # nobody else writes; a lock is a stranger with a database tool

Statements = Mapping[str, str]
Value = int | str | None


class LedgerError(NanoClawError):
    """An entry could not be written; what it was about must not happen."""


def load_statements() -> Statements:
    """Return the statements of ledger.sql by name."""
    path = Path(__file__).with_name("ledger.sql")
    queries = aiosql.from_path(path, "sqlite3", mandatory_parameters=False)  # pyright: ignore[reportUnknownMemberType]
    return {name: cast("str", getattr(queries, name).sql) for name in queries.available_queries}


def open_ledger(path: Path, statements: Statements) -> sqlite3.Connection:
    """Open or make the file, in the present schema; what a crash cut off counts as used. Raises OperatorError."""
    try:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=LOCK_SECONDS)
        try:
            _prepare(connection, path, statements)
        except BaseException:
            connection.close()
            raise
    except sqlite3.Error as error:
        raise OperatorError(
            f"The gateway's ledger {path} cannot be used: {error}. Move it away to begin a new one."
        ) from None
    return connection


def _prepare(connection: sqlite3.Connection, path: Path, statements: Statements) -> None:
    version = connection.execute(statements["get_version"]).fetchone()[0]
    if version > VERSION:
        raise OperatorError(
            f"The gateway's ledger {path} was written by a newer NanoClaw (version {version}, this one knows "
            f"{VERSION}). Update NanoClaw."
        )
    connection.execute("PRAGMA journal_mode = WAL")  # readers (audit, verify) never wait for the writer
    connection.execute("PRAGMA synchronous = FULL")  # a refusal is on the disk before the agent hears it
    connection.execute("PRAGMA foreign_keys = ON")
    if version < 1:
        connection.executescript(statements["create_schema"])
    if version < VERSION:
        connection.executescript(statements["upgrade_to_2"])
    connection.executescript(statements["count_cut_off"])


def read_rows(path: Path, statement: str, parameters: Mapping[str, Value]) -> list[tuple[Any, ...]]:
    """Return a query's rows, from a connection of its own. Blocking. Raises LedgerError."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            return connection.execute(statement, parameters).fetchall()
    except sqlite3.Error as error:
        raise LedgerError(f"The gateway's ledger cannot be read: {error}.") from None
