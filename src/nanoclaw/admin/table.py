"""What a resource answers: rows under named columns, printed for people or as JSON."""

from __future__ import annotations

import json
import unicodedata
from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from nanoclaw.channels.plain_text import one_line

Cell = str | int | bool | None
CELL_CHARACTERS = 100
FACT_CHARACTERS = 4_000  # of a value that has a line of its own: what is asked for must be read whole
GAP = 2  # blanks between columns
SECOND = len("2026-01-31 12:00:00")  # a time without what is below a second
SHORTEST = 10  # a column is not cut below this


class Table(msgspec.Struct, frozen=True):
    """Rows of as many cells as there are columns. A column named `at` or `..._at` holds epoch milliseconds.

    `note` is for the person who asked; columns in `hidden` are left out of a table for people, never of JSON.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""
    hidden: tuple[str, ...] = ()


def format_table(table: Table, timezone: str, width: int | None = None) -> str:
    """Return a table for people: aligned columns, times in `timezone`, nothing that a terminal obeys.

    In `width` columns of a terminal that are too few, columns in which no row has anything are left out, times lose
    what is below a second, and then the longest cells are cut.
    """
    if not table.rows:
        return "(nothing)"
    shown = [number for number, name in enumerate(table.columns) if name not in table.hidden]
    names = [table.columns[number].removesuffix("_at").replace("_", " ") for number in shown]
    cells = [_cells(table, row, timezone) for row in table.rows]
    lines = [names, *([line[number] for number in shown] for line in cells)]
    widths = _widths(lines)
    if width is not None and sum(widths) + GAP * (len(widths) - 1) > width:
        filled = [column for column in range(len(names)) if any(line[column] for line in lines[1:])]
        times = {column for column in filled if is_time(table.columns[shown[column]])}
        lines[1:] = [[cell[:SECOND] if n in times else cell for n, cell in enumerate(line)] for line in lines[1:]]
        lines = [[line[column] for column in filled] for line in lines]
        whole = {place for place, column in enumerate(filled) if column in times or names[column] == "id"}
        widths = _fit(_widths(lines), whole, width - GAP * (len(filled) - 1))
    aligned = ([_pad(cell, most) for cell, most in zip(line, widths, strict=True)] for line in lines)
    return "\n".join((" " * GAP).join(line).rstrip() for line in aligned)


def _widths(lines: list[list[str]]) -> list[int]:
    return [max(cell_width(line[column]) for line in lines) for column in range(len(lines[0]))]


def cell_width(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    return sum(_character_width(character) for character in text)


def _character_width(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) in ("Cf", "Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def is_time(name: str) -> bool:
    """Return whether a column of that name holds epoch milliseconds."""
    return name == "at" or name.endswith("_at")


def _fit(widths: list[int], whole: set[int], room: int) -> list[int]:
    """Take from the widest column until all fit, or all are short; those in `whole` are of no use when they are cut."""
    fitted = list(widths)
    cuttable = [column for column in range(len(fitted)) if column not in whole]
    while cuttable and sum(fitted) > room:
        widest = max(cuttable, key=lambda column: fitted[column])
        if fitted[widest] <= SHORTEST:
            break
        fitted[widest] -= 1
    return fitted


def _pad(cell: str, width: int) -> str:
    if cell_width(cell) <= width:
        return cell + " " * (width - cell_width(cell))
    kept, used = "", 0
    for character in cell:
        used += _character_width(character)
        if used > width - 1:
            break
        kept += character
    return kept + "…" + " " * (width - 1 - cell_width(kept))


def format_facts(table: Table, timezone: str) -> str:
    """Return the only row of a table as one line a column; what is not known is left out."""
    names = [name.removesuffix("_at").replace("_", " ") for name in table.columns]
    width = max(len(name) for name in names)
    return "\n".join(
        f"{name.ljust(width)}  {cell}".rstrip()
        for row in table.rows
        for name, cell in zip(names, _cells(table, row, timezone, FACT_CHARACTERS), strict=True)
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
    moment = datetime.fromtimestamp(at // 1000, UTC).astimezone(find_zone(timezone))
    return moment.strftime("%Y-%m-%d %H:%M:%S.") + f"{at % 1000:03d}"


def find_zone(name: str) -> tzinfo:
    """Return a time zone, UTC where the system has no such data: a table is shown all the same."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return UTC


def _cells(table: Table, row: tuple[Cell, ...], timezone: str, most: int = CELL_CHARACTERS) -> list[str]:
    return [_cell(name, value, timezone, most) for name, value in zip(table.columns, row, strict=True)]


def _cell(name: str, value: Cell, timezone: str, most: int) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return format_time(value, timezone) if is_time(name) else str(value)
    return one_line(value, most)
