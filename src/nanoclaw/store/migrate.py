"""Brings a database to the present schema, forward only, and refuses one it cannot trust.

A migration is `migrations/NNNN_name.sql`, applied once, in order, in one transaction with its row in
`schema_version`. A database of a newer NanoClaw is refused: nothing is written to it.
"""

from __future__ import annotations

import shutil
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from nanoclaw.errors import OperatorError
from nanoclaw.store.db import Store, open_connection

MIGRATIONS = Path(__file__).with_name("migrations")


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered step."""

    version: int
    name: str
    sql: str


def load_migrations(directory: Path = MIGRATIONS) -> list[Migration]:
    """Read the steps in order. Raises ValueError on a gap or a bad name."""
    steps: list[Migration] = []
    for path in sorted(directory.glob("*.sql")):
        number, _, name = path.stem.partition("_")
        if int(number) != len(steps) + 1 or not name:
            raise ValueError(f"migration {path.name} is out of order or has no name")
        steps.append(Migration(int(number), name, path.read_text(encoding="utf-8")))
    return steps


def migrate(connection: sqlite3.Connection, steps: list[Migration], now: int, path: Path) -> int:
    """Apply what is missing; return how many steps were applied. Raises OperatorError for a newer database."""
    version = read_version(connection)
    if version > len(steps):
        raise OperatorError(
            f"{path} was written by a newer NanoClaw (schema {version}, this one knows {len(steps)}). "
            f"Update this clone with `git pull`, or use another home: export NANOCLAW_HOME=/path/to/folder"
        )
    for step in steps[version:]:
        # executescript commits first: the transaction is the script's own, so a step is all or nothing
        connection.executescript(f"BEGIN IMMEDIATE;\n{step.sql}")
        connection.execute("INSERT INTO schema_version VALUES (?, ?, ?)", (step.version, step.name, now))
        connection.execute("COMMIT")
    return len(steps) - version


def read_version(connection: sqlite3.Connection) -> int:
    """Return the number of the last applied migration, 0 for an empty database."""
    known = connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'schema_version'").fetchone()
    if known is None:
        return 0
    return int(connection.execute("SELECT coalesce(max(version), 0) FROM schema_version").fetchone()[0])


def open_store(path: Path, now: int) -> Store:
    """Check, migrate and open the central store. Raises OperatorError with what mends it."""
    try:
        connection = open_connection(path)
        try:
            damage = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
            if damage != "ok":
                raise sqlite3.DatabaseError(damage)
            migrate(connection, load_migrations(), now, path)
        finally:
            connection.close()
        path.chmod(0o600)
        return Store(path)
    except sqlite3.DatabaseError as error:
        raise OperatorError(explain_damage(error, path)) from error


def explain_damage(error: sqlite3.DatabaseError, path: Path) -> str:
    """Say why the database does not open and what mends it."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return (
            f"{path} is damaged ({error}); nothing was changed in it. Put a backup in its place, "
            f"or move it away to start afresh: mv {path} {path}.damaged"
        )
    if code == sqlite3.SQLITE_FULL or shutil.disk_usage(path.parent).free < 1 << 20:
        return f"the disk that holds {path} is full. Free some space and start again"
    return f"{path} cannot be opened: {error}. Check that its folder is yours and writable: ls -la {path.parent}"
