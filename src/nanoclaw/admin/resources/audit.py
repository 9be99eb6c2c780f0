"""`ncl audit`: what the host decided, from the store's hash chain. The gateway keeps its own (control.AuditList)."""

from __future__ import annotations

from nanoclaw.admin.request import Reader, Request
from nanoclaw.admin.table import Table
from nanoclaw.errors import Refused
from nanoclaw.store.audit import Audit

MOST = 10_000
DEFAULT = 50


class AuditResource:
    """The store's audit."""

    name = "audit"
    verbs = ("list", "verify")

    def __init__(self, read: Reader, audit: Audit) -> None:
        self._read = read
        self._audit = audit

    async def answer(self, request: Request) -> Table:
        """`list [--limit N]`: the newest entries, oldest first. `verify`: rows checked, and the first bad one."""
        if request.verb == "verify":
            checked, bad = await self._read(self._audit.verify)
            return Table(("rows", "broken_at_row"), ((checked, bad),))
        limit = _parse_limit(request.flags.get("limit", str(DEFAULT)))
        rows = await self._read(lambda connection: self._audit.last(connection, limit))
        columns = ("at", "event", "actor", "subject", "verdict", "reason")
        return Table(columns, tuple(tuple(row[name] for name in columns) for row in rows))


def _parse_limit(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MOST:
        raise Refused(f"--limit is a number from 1 to {MOST}.")
    return int(text)
