"""What an operator asks of the gateway on its admin socket, and what comes back.

JSON lines, one request, one `AdminReply` each, checked by msgspec. Never: an answer that holds a secret's value.
"""

from __future__ import annotations

import msgspec

ADMIN_LINE_BYTES = 64 * 1024
ADMIN_REPLY_BYTES = 8 * 1024 * 1024


class VaultSet(msgspec.Struct, frozen=True, tag_field="verb", tag="vault.set"):
    """Keep a secret. For a preset (`anthropic`) the hosts are the preset's; else at least one is given."""

    name: str
    value: str
    hosts: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """Name the secret, never show it."""
        return f"VaultSet(name={self.name!r}, value=***, hosts={self.hosts!r})"


class VaultList(msgspec.Struct, frozen=True, tag_field="verb", tag="vault.list"):
    """List secrets, never a value. Answered by a list of `SecretLine`."""


class VaultRemove(msgspec.Struct, frozen=True, tag_field="verb", tag="vault.rm"):
    """Forget a secret. Answered by true, or an error when there is none."""

    name: str


class AuditList(msgspec.Struct, frozen=True, tag_field="verb", tag="audit.list"):
    """The newest `limit` audit rows, oldest first. Answered by a list of `AuditLine`."""

    limit: int = 50
    session: str | None = None


class AuditVerify(msgspec.Struct, frozen=True, tag_field="verb", tag="audit.verify"):
    """Recompute the hash chain. Answered by `Verification`."""


class Status(msgspec.Struct, frozen=True, tag_field="verb", tag="status"):
    """How the gateway is. Answered by `GatewayStatus`."""


AdminRequest = VaultSet | VaultList | VaultRemove | AuditList | AuditVerify | Status


class AdminReply(msgspec.Struct, frozen=True):
    """The answer to one admin request: `result` when `ok`, else `error`, a plain sentence."""

    ok: bool
    error: str = ""
    result: msgspec.Raw = msgspec.Raw(b"null")


class SecretLine(msgspec.Struct, frozen=True):
    """What may be shown of a secret. `set_at` in epoch milliseconds."""

    name: str
    kind: str
    hosts: tuple[str, ...]
    set_at: int


class AuditLine(msgspec.Struct, frozen=True):
    """One audit row. `event` is refused, allowed, finished or changed; `call` is the `seq` that a finished row ends."""

    seq: int
    at: int
    event: str
    session: str
    fence: int
    agent_group: str
    charge: str
    method: str
    host: str
    path: str
    rule: str
    reason: str
    call: int
    status: int
    sent_bytes: int
    received_bytes: int
    took_ms: int
    hash: str


class Verification(msgspec.Struct, frozen=True):
    """The chain's state: rows seen, the hash of the last, and the first row that does not fit (None: all fit)."""

    rows: int
    head: str
    broken_at: int | None = None


class GatewayStatus(msgspec.Struct, frozen=True):
    """How the gateway is, in figures."""

    pid: int
    model_key: bool
    rehearsal_port: int | None
    boxes: int
    open_turns: int
    connections: int
    audit_rows: int
    audit_head: str
