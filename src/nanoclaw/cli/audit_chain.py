"""The two hash chains of the audit as a command reads them: their heads, their rows one page after the other.

In: the host's `ncl audit`, the gateway's admin socket. Out: heads, what does not fit them, lines of JSON.
Never: holds more than a page in memory.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TextIO

import click
import msgspec

from nanoclaw.admin.ask import ask
from nanoclaw.admin.request import Request
from nanoclaw.cli.gateway_link import GatewayDesk
from nanoclaw.config import Paths
from nanoclaw.gateway import admin_words

HOST, GATEWAY = "host", "gateway"
START_HASH = "0" * 64
PAGE_ROWS = 2000
_HEAD = re.compile(r"(?:(host|gateway):)?([0-9a-f]{64})@([0-9]{1,15})")

Line = dict[str, int | str]


@dataclass(frozen=True, slots=True)
class Head:
    """The hash of one row of a chain: `gateway:HASH@ROW`."""

    chain: str
    hash: str
    row: int

    def __str__(self) -> str:
        """Write it as `audit verify --head` reads it."""
        return f"{self.chain}:{self.hash}@{self.row}"


def parse_head(text: str) -> Head:
    """Return what `audit head` printed; without a chain it is the gateway's. Raises UsageError."""
    found = _HEAD.fullmatch(text)
    if found is None:
        raise click.UsageError(f"--head {text}: write it as `nanoclaw audit head` prints it, gateway:HASH@ROW")
    return Head(found[1] or GATEWAY, found[2], int(found[3]))


def find_heads(paths: Paths, gateway: GatewayDesk) -> list[Head]:
    """Return the end of each chain; the host has none before its first start."""
    heads: list[Head] = []
    if paths.database.exists():
        table, _ = ask(paths, Request("audit", "head"))
        number, hash_ = table.rows[0]
        heads.append(Head(HOST, str(hash_), int(number or 0)))
    status = gateway.ask(admin_words.Status(), admin_words.GatewayStatus)
    return [*heads, Head(GATEWAY, status.audit_head, status.audit_rows)]


def check_heads(paths: Paths, gateway: GatewayDesk, heads: Iterable[Head]) -> list[Head]:
    """Return the heads that do not fit: their row is gone, or has another hash."""
    return [head for head in heads if _find_hash(paths, gateway, head) != head.hash]


def _find_hash(paths: Paths, gateway: GatewayDesk, head: Head) -> str | None:
    if head.row == 0:
        return START_HASH
    for page in _pages(paths, gateway, head.chain, after=head.row - 1, most=1):
        return str(page[0]["hash"]) if _number(page[0]) == head.row else None
    return None


def write_chains(paths: Paths, gateway: GatewayDesk, since: int, out: TextIO) -> None:
    """Write every entry since a time as a line of JSON, and where each chain ends as the last line of it."""
    for chain in (HOST, GATEWAY):
        previous, number = START_HASH, 0
        for row in (row for page in _pages(paths, gateway, chain) for row in page):
            if int(row["at"]) >= since:
                _write_line(out, {"chain": chain, **row, "previous": previous})
            previous, number = str(row["hash"]), _number(row)
        _write_line(out, {"chain": chain, "end": str(Head(chain, previous, number))})


def _write_line(out: TextIO, line: Line) -> None:
    out.write(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n")


def _pages(
    paths: Paths, gateway: GatewayDesk, chain: str, after: int = 0, most: int = PAGE_ROWS
) -> Iterator[list[Line]]:
    """Yield a chain's rows in their order, a page at a time."""
    if chain == HOST and not paths.database.exists():
        return
    read = _read_host if chain == HOST else _read_gateway
    while page := read(paths, gateway, after, most):
        yield page
        after = _number(page[-1])


def _read_host(paths: Paths, _: GatewayDesk, after: int, most: int) -> list[Line]:
    table, _live = ask(paths, Request("audit", "rows", flags={"after": str(after), "limit": str(most)}))
    return [
        {name: "" if cell is None else cell for name, cell in zip(table.columns, row, strict=True)}
        for row in table.rows
    ]


def _read_gateway(_: Paths, gateway: GatewayDesk, after: int, most: int) -> list[Line]:
    lines = gateway.ask(admin_words.AuditRows(after, most), list[admin_words.AuditLine])
    return [msgspec.structs.asdict(line) for line in lines]


def _number(row: Line) -> int:
    """Return a row's number: the host calls it n, the gateway seq."""
    return int(row["n"] if "n" in row else row["seq"])
