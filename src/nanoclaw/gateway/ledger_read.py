"""What is read of the ledger, beside its writer: the audit and its chain, what was used, limits and prices.

In: the path of ledger.db. Out: rows, oldest first. Never: writes. Fails: LedgerError when the file cannot be read.
All of it is blocking and on connections of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nanoclaw.gateway.admin_words import AuditLine, Verification
from nanoclaw.gateway.audit_row import START_HASH, chain_hash
from nanoclaw.gateway.ledger_file import Value, load_statements, read_rows
from nanoclaw.gateway.usage import Usage

LIST_LIMIT = 10_000
PAGE_ROWS = 1000
QUARTER_MS = 900_000  # of an hour: what sums of spending are kept by


@dataclass(frozen=True, slots=True)
class Used:
    """What one call used: `usage` cost `cost_micros` millionths of a US dollar."""

    call: int
    charge: str
    cost_micros: int
    estimated: bool
    attempt: int
    usage: Usage


class LedgerReader:
    """Reads a ledger's file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.statements = load_statements()

    def list_newest(self, limit: int, session: str | None = None, group: str = "", event: str = "") -> list[AuditLine]:
        """Return the newest rows of a session, of an agent group (its id) or of all, oldest first."""
        limit = max(1, min(limit, LIST_LIMIT))
        query = "list_newest_refused" if event == "refused" else "list_newest"
        if session is not None:
            query = "list_newest_of_session"
        elif group:
            query = "list_newest_of_group"
        found = self.read(query, limit=limit, session=session, agent_group=group, event=event)
        return [AuditLine(*row) for row in reversed(found)]

    def rows_after(self, seq: int, limit: int) -> list[AuditLine]:
        """Return at most `limit` rows that follow row `seq`."""
        found = self.read("list_chain", after=seq, limit=max(1, min(limit, LIST_LIMIT)))
        return [AuditLine(*row) for row in found]

    def verify(self, until: int | None = None) -> Verification:
        """Recompute the chain from its first row, to row `until`."""
        head, seq = START_HASH, 0
        for row in self._read_chain():
            if until is not None and seq >= until:
                break
            if row.seq != seq + 1 or row.hash != chain_hash(head, row):
                return Verification(seq, head, broken_at=row.seq)
            head, seq = row.hash, row.seq
        return Verification(seq, head)

    def list_usage(self, after: int = 0, limit: int = PAGE_ROWS) -> list[Used]:
        """Return what calls after row `after` used, at most `limit`."""
        rows = self.read("list_usage", after=after, limit=limit)
        return [Used(row[0], row[1], row[2], bool(row[3]), row[4], Usage(*row[5:])) for row in rows]

    def read(self, query: str, **parameters: Value) -> list[tuple[Any, ...]]:
        """Return the rows of a query of ledger.sql. Raises LedgerError."""
        return read_rows(self.path, self.statements[query], parameters)

    def _read_chain(self) -> Iterator[AuditLine]:
        after = 0
        while found := self.rows_after(after, PAGE_ROWS):
            yield from found
            after = found[-1].seq
