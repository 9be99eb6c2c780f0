"""What an operator asks of the gateway on its admin socket, and what comes back.

JSON lines, one request, one `AdminReply` each, checked by msgspec. Never: an answer that holds a secret's value.
"""

from __future__ import annotations

import msgspec

from nanoclaw.gateway.egress_words import EgressRequest

ADMIN_LINE_BYTES = 1024 * 1024  # a whole rule file fits
ADMIN_REPLY_BYTES = 8 * 1024 * 1024


class VaultSet(msgspec.Struct, frozen=True, tag_field="verb", tag="vault.set"):
    """Keep a secret. Answered by `SecretLine`.

    For a preset (`anthropic`, or `preset`) all but the value may be left out; else there is at least one host.
    `field` is the header, the parameter or the word that the kind needs, `for_host`: the host's channels may have it.
    """

    name: str
    value: str
    hosts: tuple[str, ...] = ()
    kind: str = ""
    field: str = ""
    preset: str = ""
    for_host: bool = False

    def __repr__(self) -> str:
        """Name the secret, never show it."""
        return f"VaultSet(name={self.name!r}, value=***, hosts={self.hosts!r})"


class VaultRotate(msgspec.Struct, frozen=True, tag_field="verb", tag="vault.rotate"):
    """Give a secret a new value. Answered by `SecretLine`, or an error when there is none."""

    name: str
    value: str

    def __repr__(self) -> str:
        """Name the secret, never show it."""
        return f"VaultRotate(name={self.name!r}, value=***)"


class VaultList(msgspec.Struct, frozen=True, tag_field="verb", tag="vault.list"):
    """List secrets, never a value. Answered by a list of `SecretLine`."""


class VaultRemove(msgspec.Struct, frozen=True, tag_field="verb", tag="vault.rm"):
    """Forget a secret. Answered by true, or an error when there is none."""

    name: str


class VaultRekey(msgspec.Struct, frozen=True, tag_field="verb", tag="vault.rekey"):
    """Encrypt everything anew `by` keyfile, passphrase or keyring. Answered by true.

    `current`, when given, must be the passphrase that is in force.
    """

    by: str
    passphrase: str = ""
    current: str = ""

    def __repr__(self) -> str:
        """Hide the passphrases."""
        return f"VaultRekey(by={self.by!r}, ***)"


class VaultUnlock(msgspec.Struct, frozen=True, tag_field="verb", tag="vault.unlock"):
    """Open the vault. Answered by true, or an error."""

    passphrase: str

    def __repr__(self) -> str:
        """Hide the passphrase."""
        return "VaultUnlock(***)"


class VaultPresets(msgspec.Struct, frozen=True, tag_field="verb", tag="vault.presets"):
    """List what is known of services. Answered by a list of `PresetLine`."""


class AuditList(msgspec.Struct, frozen=True, tag_field="verb", tag="audit.list"):
    """The newest `limit` audit rows, oldest first. Answered by a list of `AuditLine`.

    `group` is an agent group's id, `event` what happened; both "" for all.
    """

    limit: int = 50
    session: str | None = None
    group: str = ""
    event: str = ""


class AuditRows(msgspec.Struct, frozen=True, tag_field="verb", tag="audit.rows"):
    """At most `limit` audit rows after row `after`, in the order of the chain. Answered by a list of `AuditLine`."""

    after: int
    limit: int = 1000


class AuditVerify(msgspec.Struct, frozen=True, tag_field="verb", tag="audit.verify"):
    """Recompute the hash chain, up to row `until`. Answered by `Verification`."""

    until: int | None = None


class Status(msgspec.Struct, frozen=True, tag_field="verb", tag="status"):
    """How the gateway is. Answered by `GatewayStatus`."""


class BudgetSet(msgspec.Struct, frozen=True, tag_field="verb", tag="cost.limit"):
    """Limit what an account may spend; what is None stays as it is. Answered by true.

    `scope` is group (`name`: its folder), person (`name`: as turns are charged) or all (`name` "").
    """

    scope: str
    name: str = ""
    day_micros: int | None = None
    month_micros: int | None = None
    day_tokens: int | None = None
    month_tokens: int | None = None


class BudgetRemove(msgspec.Struct, frozen=True, tag_field="verb", tag="cost.nolimit"):
    """Take an account's limits away, of one period (day, month) or ("") of both. Answered by how many there were."""

    scope: str
    name: str = ""
    period: str = ""


class BudgetList(msgspec.Struct, frozen=True, tag_field="verb", tag="cost.limits"):
    """Every limit and what is spent of it. Answered by a list of `BudgetLine`."""


class PriceSet(msgspec.Struct, frozen=True, tag_field="verb", tag="cost.price"):
    """The operator's own price of a model, in millionths of a US dollar for a million tokens. Answered by true."""

    model: str
    input: int
    output: int
    cache_read: int
    cache_write: int
    cache_write_1h: int


class PriceRemove(msgspec.Struct, frozen=True, tag_field="verb", tag="cost.noprice"):
    """Forget the operator's own price of a model. Answered by true, or an error when there is none."""

    model: str


class PriceList(msgspec.Struct, frozen=True, tag_field="verb", tag="cost.prices"):
    """Every price, in the order in which they are tried. Answered by a list of `PriceLine`."""


class CostReport(msgspec.Struct, frozen=True, tag_field="verb", tag="cost.report"):
    """What was spent since a time (epoch milliseconds), by group, person, task, model or day.

    Answered by a list of `CostLine`.
    """

    by: str
    since: int = 0


AdminRequest = (
    VaultSet
    | VaultRotate
    | VaultList
    | VaultRemove
    | VaultRekey
    | VaultUnlock
    | VaultPresets
    | AuditList
    | AuditRows
    | AuditVerify
    | BudgetSet
    | BudgetRemove
    | BudgetList
    | PriceSet
    | PriceRemove
    | PriceList
    | CostReport
    | EgressRequest
    | Status
)


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
    field: str = ""
    for_host: bool = False
    preset: str = ""


class PresetLine(msgspec.Struct, frozen=True):
    """What is known of a service: how its secret is sent, how it begins, and what .env files call it."""

    name: str
    title: str
    kind: str
    hosts: tuple[str, ...]
    begins: tuple[str, ...]
    env: tuple[str, ...]
    for_host: bool


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


class BudgetLine(msgspec.Struct, frozen=True):
    """A limit, None where there is none, and what of it is spent and set aside for calls under way."""

    scope: str
    name: str
    period: str
    limit_micros: int | None
    limit_tokens: int | None
    spent_micros: int
    spent_tokens: int
    held_micros: int
    opens_at: int


class PriceLine(msgspec.Struct, frozen=True):
    """Prices of the models that fit `model`, in millionths of a US dollar for a million tokens. `source`: own, shipped.

    `above`: for prompts of more tokens than that.
    """

    model: str
    input: int
    output: int
    cache_read: int
    cache_write: int
    cache_write_1h: int
    above: int
    source: str


class CostLine(msgspec.Struct, frozen=True):
    """What was spent by one group, person, task or model, or on one day; `estimated` of the `calls` are estimates.

    `key`: an agent group's id, who was charged, a model, or a date; `folder`: the group's folder.
    """

    key: str
    folder: str
    calls: int
    estimated: int
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    cost_micros: int


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
    rules_generation: int = 0
    rules_fault: str = ""
    vault_locked: bool = False
    vault_by: str = "keyfile"
    refused_access: tuple[str, ...] = ()  # services that did not renew their access, in plain words
