"""`nanoclaw query 'SELECT ...'`: reads the store's file, with a host or without."""

from __future__ import annotations

import json
import shutil
import sqlite3
import sys

import click

from nanoclaw.admin.ask import json_option
from nanoclaw.admin.table import Cell, Table, format_table
from nanoclaw.clock import SystemClock
from nanoclaw.config import load_config
from nanoclaw.errors import OperatorError
from nanoclaw.store.db import as_store_error
from nanoclaw.store.query import MOST_ROWS, Field, query_file


@click.command("query")
@click.argument("sql")
@json_option
def command(sql: str, as_json: bool) -> int:
    """Run one SELECT over the store: its tables are in docs/reference/tables.md. Nothing can be changed by it."""
    config = load_config()
    if not config.paths.database.exists():
        raise OperatorError(f"there is nothing in {config.paths.home} yet. Say something first: nanoclaw chat hello")
    try:
        found = query_file(config.paths.database, sql, SystemClock())
    except sqlite3.Error as error:
        raise as_store_error(error, config.paths.database) from error
    columns = name_columns(found.columns)
    if as_json:
        rows = [dict(zip(columns, map(_json_value, row), strict=True)) for row in found.rows]
        print(json.dumps(rows, ensure_ascii=False, indent=1))
    else:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        table = Table(columns, tuple(tuple(map(_cell, row)) for row in found.rows))
        print(format_table(table, config.timezone, width))
    if found.cut:
        print(f"There is more: these are the first {MOST_ROWS} rows.", file=sys.stderr)
    return 0


def name_columns(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return names of which each is there once, so that no value hides another: `id`, `id_2`."""
    taken: dict[str, None] = {}
    for name in names:
        free, number = name, 1
        while free in taken:
            number += 1
            free = f"{name}_{number}"
        taken[free] = None
    return tuple(taken)


def _cell(value: Field) -> Cell:
    return str(_json_value(value)) if isinstance(value, float | bytes) else value


def _json_value(value: Field) -> str | int | float | None:
    return f"x'{value.hex()}'" if isinstance(value, bytes) else value
