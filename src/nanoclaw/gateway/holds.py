"""Calls that wait for a person's word, and one-shot grants for those whose word came later.

In: a call that a rule asks about, with its whole body; the host's words, which come from people.
Out: None, the call may go this once; or why not. Writes: grants and who gave them, before any call goes by one.
Never: lets a call go that differs in a byte from the one a person was asked about, or twice by one yes.
Fails: what is too long to be shown is refused; LedgerError where a grant cannot be written, and nothing goes.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from nanoclaw.clock import Clock
from nanoclaw.gateway import control
from nanoclaw.gateway.audit_row import Entry, Event
from nanoclaw.gateway.boxes import Limits
from nanoclaw.gateway.ledger import Ledger
from nanoclaw.gateway.policy import Caller, Deny, Rule
from nanoclaw.gateway.redact import redact_value
from nanoclaw.gateway.target import HTTP_PORT, HTTPS_PORT, Target
from nanoclaw.gateway.wanted import Wanted

ADDRESS_CHARACTERS = 1_500  # of method and URL: a person is shown all of it
PREVIEW_CHARACTERS = 1_000
RULE_PATH_CHARACTERS = 200
ID_CHARACTERS = 16
TOO_LONG = f"its URL is longer than {ADDRESS_CHARACTERS} characters, more than a person would read"
TOO_MANY = "too many calls wait for one already. Wait until some are answered"
SAID_NO = "A person said no to this call."
CLIENT_GONE = "the client went away while a person was asked"
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")
TAKEN = "it was allowed once, and the same call, made at the same time, has used that. Make it again to ask again"

Box = tuple[str, int]  # session and fence


@dataclass(frozen=True, slots=True)
class Pending(Deny):
    """Nobody has answered in time; the question stays open under `id`, and the same call may be made again."""

    id: str


@dataclass(frozen=True, slots=True)
class Held:
    """A call that waits: whose it is, the rule that asks, and all of what it says."""

    caller: Caller
    rule: Rule
    target: Target
    body: bytes


@dataclass(eq=False, slots=True)
class _Hold:
    """One question, while calls wait for its answer; each is woken by its own event."""

    key: tuple[str, str]  # agent group, digest
    waiting: list[tuple[Box, asyncio.Event]] = field(default_factory=list[tuple[Box, asyncio.Event]])
    released: asyncio.Event = field(default_factory=asyncio.Event)
    told: bool = False  # the host is asked
    decided: bool = False  # it has answered; nobody may join any more
    approval: str = ""
    code: str = ""
    goes: bool = False  # one of the calls may go
    denied: str = ""


class Holds:
    """Asks the host, which asks people."""

    def __init__(
        self,
        ledger: Ledger,
        tell: Callable[[control.HoldEvent], None],
        secret_values: Callable[[], Wanted],
        clock: Clock,
        limits: Limits,
    ) -> None:
        self._ledger = ledger
        self._tell = tell
        self._secret_values = secret_values
        self._clock = clock
        self._limits = limits
        self._holds: dict[tuple[str, str], _Hold] = {}

    async def ask(self, held: Held, woken: asyncio.Event) -> Deny | None:
        """Wait for a person's word on a call: None, it may go once; a Deny says why not, a `Pending` that it may yet.

        Setting `woken`, or cancelling, ends the wait; the question stays open. Raises LedgerError.
        """
        caller, rule, target = held.caller, held.rule, held.target
        if len(target.method) + len(_address(target)) > ADDRESS_CHARACTERS:
            return _deny(rule, TOO_LONG)
        if self._is_full((caller.session, caller.fence)):
            return _deny(rule, TOO_MANY)
        key = (caller.group, find_digest(caller.folder, target, held.body))
        hold = self._holds.setdefault(key, _Hold(key))
        waiter = ((caller.session, caller.fence), woken)
        hold.waiting.append(waiter)  # before the first await: no answer may pass unseen
        try:
            if await self._ledger.take_grant(key[1], key[0], self._clock.now_ms()):
                return None
            if not hold.told and not hold.decided:
                hold.told = True
                self._tell(self._opened(held, key[1]))
            return await self._wait(hold, held, woken)
        finally:
            hold.waiting.remove(waiter)
            if not hold.waiting and not hold.decided:
                del self._holds[key]

    def asked(self, message: control.HoldAsked) -> None:
        """The host has put a held call to people."""
        if (hold := self._holds.get((message.group, message.digest))) is not None:
            hold.approval, hold.code = message.approval, message.code

    async def decide(self, message: control.HoldDecided) -> None:
        """Take a person's answer, as often as it is told: one yes makes one grant. Raises LedgerError."""
        if message.verdict is control.HoldVerdict.ALLOW:
            await self._keep(message)
        hold = self._holds.pop((message.group, message.digest), None)
        if hold is not None:
            hold.decided = True
            await self._release(hold, message)
        match message.verdict:
            case control.HoldVerdict.ALLOW:
                reached = await asyncio.to_thread(self._is_used, message.approval)
            case control.HoldVerdict.DENY:
                reached = hold is not None
        if message.approval:
            self._tell(control.HoldTaken(message.approval, reached))

    async def _release(self, hold: _Hold, message: control.HoldDecided) -> None:
        """Wake the calls that wait; one of them may go, by the grant that is there."""
        group, digest = hold.key
        try:
            match message.verdict:
                case control.HoldVerdict.ALLOW:
                    hold.goes = await self._ledger.take_grant(digest, group, self._clock.now_ms())
                case control.HoldVerdict.DENY:
                    hold.denied = message.words or SAID_NO
        finally:
            hold.released.set()
            for _, woken in hold.waiting:
                woken.set()

    async def _keep(self, message: control.HoldDecided) -> None:
        """Keep a yes; who gave it is in the audit before. Killed in between, it is there twice, the grant once."""
        if await asyncio.to_thread(self._ledger.read, "find_grant", approval=message.approval):
            return
        said = f"{message.words}, approval {message.approval}, call {message.digest[:ID_CHARACTERS]}"
        await self._ledger.record(Entry(Event.CHANGED, Caller("", 0, message.group), rule="hold", reason=said))
        await self._ledger.add_grant(message.digest, message.group, message.approval, message.expires_at)

    def _is_used(self, approval: str) -> bool:
        return self._ledger.read("find_grant", approval=approval) == [(1,)]

    async def _wait(self, hold: _Hold, held: Held, woken: asyncio.Event) -> Deny | None:
        rule = held.rule
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._limits.hold_seconds):
                await woken.wait()
        if not hold.decided:
            return _deny(rule, CLIENT_GONE) if woken.is_set() else self._pending(hold, held)
        await hold.released.wait()  # for a moment: the answer is being written down
        if hold.goes:
            hold.goes = False
            return None
        return Deny(rule.name, hold.denied) if hold.denied else _deny(rule, TAKEN)

    def _pending(self, hold: _Hold, held: Held) -> Pending:
        question = f" (question {hold.code})" if hold.code else ""
        what = f"{held.target.method} to {held.target.host}"
        seconds = f"{self._limits.hold_seconds:g} seconds"
        words = (
            f"A person is asked whether {what} may be done{question}, and has not answered within {seconds}. Go on "
            "with other work or end your turn: you are told when it is decided. After a yes make the same request "
            "again, byte for byte, within 10 minutes."
        )
        return Pending(held.rule.name, words, hold.approval or hold.key[1][:ID_CHARACTERS])

    def _is_full(self, box: Box) -> bool:
        waiting = [one for hold in self._holds.values() for one, _ in hold.waiting]
        return len(waiting) >= self._limits.holds_of_all or waiting.count(box) >= self._limits.holds_of_box

    def _opened(self, held: Held, digest: str) -> control.HoldOpened:
        caller, target = held.caller, held.target
        secrets = self._secret_values()
        path = target.path if _is_nameable(target.path) else ""
        return control.HoldOpened(
            digest=digest,
            session=caller.session,
            fence=caller.fence,
            group=caller.group,
            folder=caller.folder,
            rule=held.rule.name,
            method=target.method,
            host=target.host,
            path=path if redact_value(path.encode(), secrets) == path.encode() else "",
            address=redact_value(_address(target).encode(), secrets).decode(errors="replace"),
            preview=find_preview(redact_value(held.body, secrets)),
        )


def find_digest(folder: str, target: Target, body: bytes) -> str:
    """Return what identifies a call of an agent group: a change of any byte of it is another call."""
    fields = (folder, target.method, _scheme(target), target.host, str(target.port), target.path, target.query)
    digest = hashlib.sha256()
    for value in (*(text.encode() for text in fields), body):
        digest.update(len(value).to_bytes(8, "big"))
        digest.update(value)
    return digest.hexdigest()


def find_preview(body: bytes) -> str:
    """Return what a person is shown of a body: its first 1,000 characters, or how much of it there is."""
    if not body:
        return "nothing"
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return f"{len(body):,} bytes of binary data"
    if _CONTROL.search(text):
        return f"{len(body):,} bytes of binary data"
    if len(text) <= PREVIEW_CHARACTERS:
        return text
    return f"{text[:PREVIEW_CHARACTERS]} … (the first {PREVIEW_CHARACTERS:,} of {len(text):,} characters)"


def _is_nameable(path: str) -> bool:
    """Whether a rule can name this path and no other: a star in it would be a pattern."""
    return path.startswith("/") and "*" not in path and len(path) <= RULE_PATH_CHARACTERS


def _scheme(target: Target) -> str:
    return "https" if target.tls else "http"


def _address(target: Target) -> str:
    port = "" if target.port == (HTTPS_PORT if target.tls else HTTP_PORT) else f":{target.port}"
    query = f"?{target.query}" if target.query else ""
    return f"{_scheme(target)}://{target.host}{port}{target.path}{query}"


def _deny(rule: Rule, why: str) -> Deny:
    return Deny(rule.name, f"The rule {rule.name!r} wants a person's word on this call, but {why}.")
