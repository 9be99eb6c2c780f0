"""Writes down what a box was refused and allowed, and tells the host of refusals; secrets in them are blotted out.

In: entries, refusals. Out: row numbers. Writes: the ledger. Never: returns before the row is on the disk.
Fails: `Failure` 503 when nothing can be written: then nothing is called either.
"""

from __future__ import annotations

from nanoclaw.gateway import control
from nanoclaw.gateway.audit_row import Entry, Event
from nanoclaw.gateway.boxes import Box
from nanoclaw.gateway.budget import Reservation
from nanoclaw.gateway.exchange import Desk
from nanoclaw.gateway.ledger import LedgerError
from nanoclaw.gateway.line import Failure
from nanoclaw.gateway.policy import TELEMETRY, Deny
from nanoclaw.gateway.redact import redact_value
from nanoclaw.gateway.target import Target, shown


class Clerk:
    """The clerk of one box's connection."""

    def __init__(self, desk: Desk, box: Box) -> None:
        self._desk = desk
        self._box = box

    async def record(self, entry: Entry, reservation: Reservation | None = None) -> int:
        """Return the number of the row, once it is written. Raises Failure."""
        try:
            return await self._desk.ledger.record(entry, reservation)
        except LedgerError as error:
            message = f"{error} Nothing is called while it cannot be written down; see `nanoclaw doctor`."
            raise Failure(503, "api_error", message) from None

    async def refuse(self, target: Target, denied: Deny, status: int = 403) -> None:
        """Write a refusal down, at the pace of the box, and tell the host. Raises Failure."""
        caller = self._box.caller
        pace = self._box.telemetry if denied.rule == TELEMETRY else self._box.refusals
        await pace.wait()
        said = (target.method, target.host, target.path, denied.reason)
        method, host, path, reason = (self._clean(text) for text in said)
        await self.record(
            Entry(
                Event.REFUSED,
                caller,
                charge=self._box.charge or "",
                method=method,
                host=host,
                path=path,
                rule=denied.rule,
                reason=reason,
                status=status,
            )
        )
        self._desk.tell(
            control.CallRefused(
                session=caller.session,
                fence=caller.fence,
                group=caller.group,
                method=shown(method),
                host=shown(host),
                path=shown(path),
                rule=denied.rule,
                reason=reason,
            )
        )

    def _clean(self, text: str) -> str:
        """Return what an agent wrote without the secrets in it: a host or a path may be one."""
        cleaned = redact_value(text.encode("utf-8", "surrogateescape"), self._desk.secret_values())
        return cleaned.decode("utf-8", "replace")
