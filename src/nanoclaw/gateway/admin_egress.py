"""What an operator asks of the rules: listed, tried out, changed; and the audit as it grows.

In: requests of the admin socket. Out: what egress_words.py says. Writes: generations of rules, by the Rulebook.
Fails: OperatorError, RuleFault, FileFault in plain words.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never
from urllib.parse import urlsplit

from nanoclaw.clock import Clock
from nanoclaw.errors import NanoClawError, OperatorError
from nanoclaw.gateway import admin_words, control, egress_words, policy
from nanoclaw.gateway.egress_words import CallJudged, RuleLine, RuleList, RulesChange
from nanoclaw.gateway.ledger import Entry, Event, Ledger
from nanoclaw.gateway.policy import Allow, Ask, Caller, Deny
from nanoclaw.gateway.proposals import add_rule
from nanoclaw.gateway.rule_file import Use
from nanoclaw.gateway.rule_sets import SETS
from nanoclaw.gateway.rule_words import FOLDER, find_host_fault, say, write_words
from nanoclaw.gateway.rules import Changed, Rulebook, Sourced
from nanoclaw.gateway.target import HTTPS_PORT, Authority, Target, describe, parse_target
from nanoclaw.gateway.vault import Vault

FOLLOW_ROWS = 500
FOLLOW_SECONDS = 20.0
LOOK_SECONDS = 0.1  # at a number in memory, only while somebody watches


def open_egress(directory: Path, clock: Clock, vault: Vault, ledger: Ledger, changed: Callable[[], None]) -> EgressDesk:
    """Return the rules of a gateway's directory, read, with their desk; `changed` is called after every change."""

    async def note(verb: str, what: str) -> None:
        await ledger.record(Entry(Event.CHANGED, Caller("", 0, ""), rule=verb, reason=what))

    def secret_hosts(name: str) -> tuple[str, ...] | None:
        return next((stored.hosts for stored in vault.list_stored() if stored.name == name), None)  # also when locked

    rules = Rulebook(directory, clock, secret_hosts=secret_hosts, note=note, changed=changed)
    rules.open()
    return EgressDesk(rules, ledger, vault)


@dataclass(frozen=True, slots=True)
class EgressDesk:
    """What these requests work on."""

    rules: Rulebook
    ledger: Ledger
    vault: Vault

    async def perform(self, request: egress_words.EgressRequest, uid: int) -> object:
        """Answer one request of the user `uid`."""
        match request:
            case egress_words.EgressList(folder=folder):
                return self._list(folder)
            case egress_words.EgressShow():
                return self.rules.text()
            case egress_words.EgressLog():
                return await asyncio.to_thread(self.rules.list_generations)
            case egress_words.EgressTest():
                return self._test(request)
            case egress_words.AuditFollow(after=after, wait_seconds=wait_seconds):
                return await self._follow(after, min(wait_seconds, FOLLOW_SECONDS))
            case _:
                changed = await self._change(request, f"uid {uid}")
                return RulesChange(changed.generation, changed.notes)

    async def add_approved(self, asked: control.AddRule) -> control.RuleAdded:
        """Put in force what a person said yes to; said twice, it is done once."""
        return await add_rule(self.rules, asked)

    async def forget_group(self, folder: str) -> str:
        """Drop what is said of an agent group that is erased; return why it could not be done, "" when it was."""
        try:
            await self.rules.forget_group(folder, "the host")
        except NanoClawError as error:
            return str(error)
        return ""

    async def _change(self, request: egress_words.EgressRequest, by: str) -> Changed:
        rules = self.rules
        match request:
            case egress_words.EgressAdd(rule=words):
                changed = await rules.add_words(words, by)
                return Changed(changed.generation, (*changed.notes, *self._suggest(words)))
            case egress_words.EgressUse(set=name, folder=folder):
                return await rules.use_set(_checked_use(name, folder), by)
            case egress_words.EgressDeny(what=what, folder=folder):
                return await rules.deny(what, folder, by)
            case egress_words.EgressRemove(name=name, folder=folder):
                return await rules.remove(name, folder, by)
            case egress_words.EgressRevert(generation=generation):
                return await rules.revert(generation, by)
            case egress_words.EgressApply(text=text):
                return await rules.apply(text, by)
            case _:
                raise OperatorError("This asks for no change of the rules.")

    def _list(self, folder: str | None) -> RuleList:
        found = self.rules.list_all() if folder is None else self.rules.sourced_for(folder)
        lines = tuple(RuleLine(write_words(one.rule), one.source, self._note(one)) for one in found)
        return RuleList(self.rules.generation, lines, self.rules.fault)

    def _note(self, found: Sourced) -> str:
        rule = found.rule
        if not rule.inject or rule.inject == policy.MODEL_SECRET:
            return ""
        secret = self.vault.find(rule.inject)
        if secret is None:
            return f"the secret {rule.inject} is not set"
        return "" if rule.host in secret[0].hosts else f"the secret {rule.inject} may not be sent there"

    def _suggest(self, words: egress_words.RuleWords) -> tuple[str, ...]:
        """Return a hint when a secret of the host's own is not put on."""
        if words.inject or words.action != "allow" or words.scheme != "https":
            return ()
        return tuple(
            f"The secret {stored.name!r} is for this host; to have it put on: --inject {stored.name} --methods GET,POST"
            for stored in self.vault.list_stored()
            if words.host in stored.hosts
        )

    def _test(self, request: egress_words.EgressTest) -> CallJudged:
        target = parse_url(request.url, request.method)
        rules = self.rules.rules_for(request.folder)
        verdict = policy.decide(target, rules, self.rules.moment())
        match verdict:
            case Allow(rule=rule) | Ask(rule=rule):
                known = {one.rule: one for one in self.rules.sourced_for(request.folder)}
                note = self._note(known[rule])
                action = "allows" if isinstance(verdict, Allow) else "asks a person about"
                reason = f"The rule {rule.name!r} {action} {describe(target)}."
                if note:
                    reason += f" But {note}, so the call would be refused."
                return CallJudged(rule.action.value, rule.name, known[rule].source, reason, rule.inject)
            case Deny(rule=name, reason=reason):
                sources = {one.rule.name: one.source for one in self.rules.sourced_for(request.folder)}
                return CallJudged("deny", name, sources.get(name, ""), reason)
            case _:
                assert_never(verdict)

    async def _follow(self, after: int, wait_seconds: float) -> list[admin_words.AuditLine]:
        """Return rows after one, waiting for them; a number beyond the last means the end of it."""
        after = min(max(after, 0), self.ledger.rows)
        looks = max(1, int(wait_seconds / LOOK_SECONDS))
        for _ in range(looks):
            if self.ledger.rows > after:
                break
            await asyncio.sleep(LOOK_SECONDS)
        return await asyncio.to_thread(self.ledger.rows_after, after, FOLLOW_ROWS)


def parse_url(url: str, method: str) -> Target:
    """Return what a URL asks for, as a call of an agent's would. Raises OperatorError when it is no URL."""
    parts = urlsplit(url if "://" in url else f"https://{url}")
    if parts.scheme not in {"http", "https"} or not parts.netloc:
        raise OperatorError(f"{say(url)} is no URL: write it like https://api.example.org/v1/items.")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if parts.scheme == "http":
        return parse_target(method, f"http://{parts.netloc}{target}", "")
    host, colon, port = parts.netloc.rpartition(":")
    if not colon or parts.netloc.endswith("]"):
        host, port = parts.netloc, str(HTTPS_PORT)
    if find_host_fault(host) or "*" in host or not port.isdigit():
        raise OperatorError(
            f"The host of {say(url)}: {find_host_fault(host) or 'write one host, and a port in digits'}."
        )
    return parse_target(method, target, parts.netloc, Authority(host, int(port)))


def _checked_use(name: str, folder: str) -> Use:
    if name not in SETS:
        raise OperatorError(f"There is no set {say(name)}. There is: {', '.join(SETS)}.")
    if folder and not FOLDER.fullmatch(folder):
        raise OperatorError(f"{say(folder)} is no folder of an agent. `ncl groups list` shows them.")
    return Use(name, folder)
