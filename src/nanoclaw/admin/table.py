"""What a resource answers: rows under named columns, printed for people or as JSON."""

from __future__ import annotations

import json
from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from nanoclaw.channels.plain_text import one_line

Cell = str | int | bool | None
CELL_CHARACTERS = 100


class Table(msgspec.Struct, frozen=True):
    """Rows of as many cells as there are columns. A column named `at` or `..._at` holds epoch milliseconds."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


def format_table(table: Table, timezone: str) -> str:
    """Return a table for people: aligned columns, times in `timezone`, nothing that a terminal obeys."""
    if not table.rows:
        return "(nothing)"
    names = [name.removesuffix("_at").replace("_", " ") for name in table.columns]
    lines = [names] + [_cells(table, row, timezone) for row in table.rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(names))]
    aligned = ([cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines)
    return "\n".join("  ".join(cells).rstrip() for cells in aligned)


def format_facts(table: Table, timezone: str) -> str:
    """Return the only row of a table as one line a column; what is not known is left out."""
    names = [name.removesuffix("_at").replace("_", " ") for name in table.columns]
    width = max(len(name) for name in names)
    return "\n".join(
        f"{name.ljust(width)}  {cell}".rstrip()
        for row in table.rows
        for name, cell in zip(names, _cells(table, row, timezone), strict=True)
        if cell
    )


def to_json(table: Table) -> str:
    """Return a table as a JSON array of objects."""
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    return json.dumps(rows, ensure_ascii=False, indent=1)


def format_time(at: int, timezone: str) -> str:
    """Return epoch milliseconds as local time to the millisecond; '' for 0, which means never."""
    if at == 0:
        return ""
    moment = datetime.fromtimestamp(at // 1000, UTC).astimezone(_zone(timezone))
    return moment.strftime("%Y-%m-%d %H:%M:%S.") + f"{at % 1000:03d}"


def _zone(name: str) -> tzinfo:
    """Return a time zone, UTC where the system has no such data: a table is shown all the same."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return UTC


def _cells(table: Table, row: tuple[Cell, ...], timezone: str) -> list[str]:
    return [_cell(name, value, timezone) for name, value in zip(table.columns, row, strict=True)]


def _cell(name: str, value: Cell, timezone: str) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return format_time(value, timezone) if name == "at" or name.endswith("_at") else str(value)
    return one_line(value, CELL_CHARACTERS)
