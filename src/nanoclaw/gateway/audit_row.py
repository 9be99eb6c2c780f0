"""A row of the gateway's audit: what is told of a call, and the hash that chains it to the row before. Pure.

In: an `Entry`. Out: the row as it is kept and shown. Never: a body, a query string, a character that a terminal obeys.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from nanoclaw.gateway.admin_words import AuditLine
from nanoclaw.gateway.policy import Caller
from nanoclaw.gateway.target import shown

START_HASH = "0" * 64
REASON_CHARACTERS = 500


class Event(StrEnum):
    """What a row tells."""

    REFUSED = "refused"
    ALLOWED = "allowed"
    FINISHED = "finished"
    CHANGED = "changed"  # the operator changed something


@dataclass(frozen=True, slots=True)
class Entry:
    """One row to write. `call` is the `allowed` row that a `finished` one ends; `path` without its query."""

    event: Event
    caller: Caller
    charge: str = ""
    method: str = ""
    host: str = ""
    path: str = ""
    rule: str = ""
    reason: str = ""
    call: int = 0
    status: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0
    took_ms: int = 0


def make_row(entry: Entry, seq: int, at: int) -> AuditLine:
    """Return an entry as row `seq`, without its hash; `at` in epoch milliseconds."""
    return AuditLine(
        seq=seq,
        at=at,
        event=entry.event,
        session=entry.caller.session,
        fence=entry.caller.fence,
        agent_group=entry.caller.group,
        charge=entry.charge,
        method=shown(entry.method),
        host=shown(entry.host),
        path=shown(entry.path.partition("?")[0]),
        rule=entry.rule,
        reason=entry.reason[:REASON_CHARACTERS],
        call=entry.call,
        status=entry.status,
        sent_bytes=entry.sent_bytes,
        received_bytes=entry.received_bytes,
        took_ms=entry.took_ms,
        hash="",
    )


def chain_hash(head: str, row: AuditLine) -> str:
    """Return the hash of a row that follows `head`: SHA-256 over it, a line feed, and the row's values as JSON."""
    values = msgspec.structs.astuple(row)[:-1]
    return hashlib.sha256(head.encode("ascii") + b"\n" + msgspec.json.encode(values)).hexdigest()
