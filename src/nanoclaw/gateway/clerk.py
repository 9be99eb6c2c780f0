"""Writes down what a box was refused and allowed, and tells the host of refusals.

In: entries, refusals. Out: row numbers. Writes: the ledger. Never: returns before the row is on the disk.
Fails: `Failure` 503 when nothing can be written: then nothing is called either.
"""

from __future__ import annotations

from collections.abc import Callable

from nanoclaw.gateway import control
from nanoclaw.gateway.audit_row import Entry, Event
from nanoclaw.gateway.boxes import Box
from nanoclaw.gateway.budget import Reservation
from nanoclaw.gateway.ledger import Ledger, LedgerError
from nanoclaw.gateway.line import Failure
from nanoclaw.gateway.policy import TELEMETRY, Deny
from nanoclaw.gateway.target import Target, shown


class Clerk:
    """The clerk of one box's connection."""

    def __init__(self, ledger: Ledger, tell: Callable[[control.GatewayEvent], None], box: Box) -> None:
        self._ledger = ledger
        self._tell = tell
        self._box = box

    async def record(self, entry: Entry, reservation: Reservation | None = None) -> int:
        """Return the number of the row, once it is written. Raises Failure."""
        try:
            return await self._ledger.record(entry, reservation)
        except LedgerError as error:
            message = f"{error} Nothing is called while it cannot be written down; see `nanoclaw doctor`."
            raise Failure(503, "api_error", message) from None

    async def refuse(self, target: Target, denied: Deny, status: int = 403) -> None:
        """Write a refusal down, at the pace of the box, and tell the host. Raises Failure."""
        caller = self._box.caller
        pace = self._box.telemetry if denied.rule == TELEMETRY else self._box.refusals
        await pace.wait()
        await self.record(
            Entry(
                Event.REFUSED,
                caller,
                method=target.method,
                host=target.host,
                path=target.path,
                rule=denied.rule,
                reason=denied.reason,
                status=status,
            )
        )
        self._tell(
            control.CallRefused(
                session=caller.session,
                fence=caller.fence,
                group=caller.group,
                method=shown(target.method),
                host=shown(target.host),
                path=shown(target.path),
                rule=denied.rule,
                reason=denied.reason,
            )
        )
