"""The rules in force, by agent group, and every change of them.

In: the generations on disk (rule_shelf.py), what operators and approved proposals change. Out: an agent group's rules
in the order in which they are tried. Writes: a new generation at each change. Never: replaces rules by a file that does
not parse. Fails: OperatorError, RuleFault, FileFault in plain words; then the old rules stay in force.

Order: a group's own rules, those for every group, the built-in ones, then the sets that the group uses and those that
everybody uses: a set is wide, so it opens nothing that is closed by name.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from nanoclaw.clock import Clock, SystemClock
from nanoclaw.errors import OperatorError
from nanoclaw.gateway import rule_edit
from nanoclaw.gateway.control import BUILDS, RulesChanged
from nanoclaw.gateway.egress_words import GenerationLine, RuleWords
from nanoclaw.gateway.policy import DEFAULT_RULES, MODEL_SECRET, Action, Moment, Rule
from nanoclaw.gateway.rule_edit import Edit
from nanoclaw.gateway.rule_file import FileFault, RuleFile, Use, parse_file
from nanoclaw.gateway.rule_sets import SETS, build_rules, load_set
from nanoclaw.gateway.rule_shelf import Change, RuleShelf
from nanoclaw.gateway.rule_words import RuleFault, breadth, write_words
from nanoclaw.gateway.target import HTTPS_PORT, is_name

OWN, BUILT_IN = "own", "built-in"
HOSTS_A_GROUP = 200  # of names for /etc/hosts: the rest is reached through the proxy variables alone
HOSTS_A_MESSAGE = 200  # of up to 253 characters, in a packet of 64 KiB

SecretHosts = Callable[[str], "tuple[str, ...] | None"]


def no_secrets(_: str) -> None:
    """Return the hosts of a secret in an empty vault."""


async def no_note(_: str, __: str) -> None:
    """Write nothing down."""


def nothing_changed() -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True)
class Sourced:
    """A rule in force and where it comes from: `own`, `built-in`, or `set NAME`."""

    rule: Rule
    source: str


@dataclass(frozen=True, slots=True)
class Changed:
    """What a change came to."""

    generation: int
    notes: tuple[str, ...] = ()


class Rulebook:
    """What the gateway judges by. Without a directory: the built-in rules, and no change is kept.

    `secret_hosts` are the hosts a secret is bound to, None when there is none; `note` writes a change into the audit
    before it is in force; `changed` is called after it.
    """

    def __init__(
        self,
        directory: Path | None = None,
        clock: Clock | None = None,
        *,
        secret_hosts: SecretHosts = no_secrets,
        note: Callable[[str, str], Awaitable[None]] = no_note,
        changed: Callable[[], None] = nothing_changed,
    ) -> None:
        self._shelf = RuleShelf(directory / "rules") if directory else None
        self._clock = clock or SystemClock()
        self._secret_hosts = secret_hosts
        self._note = note
        self._changed = changed
        self._zone: tzinfo = UTC
        self._file = RuleFile()
        self._approved: dict[str, int] = {}
        self._plain: dict[tuple[str, tuple[object, ...]], tuple[Rule, ...]] = {}
        self._asked_for = _list_secrets(())
        self._turn = asyncio.Lock()
        self.generation = 0
        self.fault = ""
        self.builds = build_rules(())  # of boxes that build packages: nothing else, whatever an operator says

    def open(self) -> None:
        """Read what is on disk, the newest older generation when the one in force is broken. Blocking, never raises."""
        if self._shelf is None:
            return
        try:
            pointer, numbers = self._shelf.find_pointer(), self._shelf.list_numbers()
        except OperatorError as error:
            self.fault = f"{error} Only the built-in rules are in force."
            return
        newest = pointer.newest if pointer else max(numbers, default=0)
        for number in numbers:
            if number <= newest:
                self._learn_approval(number)
        if pointer is None and not numbers:
            return
        wanted = pointer.number if pointer else newest
        tried = [wanted, *(number for number in reversed(numbers) if number < wanted)]
        faults: list[str] = [] if pointer else ["gateway/rules/current is missing or damaged."]
        for number in (number for number in tried if number > 0):
            try:
                self._take(number, self._parse_kept(number))
                break
            except (OperatorError, FileFault) as error:
                faults.append(str(error))
        self.fault = self._say_fallback(faults) if faults else ""

    def rules_for(self, folder: str) -> tuple[Rule, ...]:
        """Return the rules of an agent group in the order in which they are tried."""
        if folder == BUILDS:
            return self.builds
        key = (folder, self._secrets_known())
        rules = self._plain.get(key)
        if rules is None:
            rules = self._plain[key] = tuple(sourced.rule for sourced in self.sourced_for(folder))
        return rules

    def sourced_for(self, folder: str) -> tuple[Sourced, ...]:
        """Return the same rules with where they come from."""
        return (
            *(Sourced(rule, OWN) for rule in self._file.rules if folder and rule.group == folder),
            *(Sourced(rule, OWN) for rule in self._file.rules if not rule.group),
            *(Sourced(rule, BUILT_IN) for rule in DEFAULT_RULES if self._is_on(rule)),
            *(found for use in self._file.uses if folder and use.group == folder for found in self._set_rules(use)),
            *(found for use in self._file.uses if not use.group for found in self._set_rules(use)),
        )

    def list_all(self) -> tuple[Sourced, ...]:
        """Return every rule there is, those of one group first."""
        own = sorted((Sourced(rule, OWN) for rule in self._file.rules), key=lambda found: not found.rule.group)
        built_in = (Sourced(rule, BUILT_IN) for rule in DEFAULT_RULES if self._is_on(rule))
        return (*own, *built_in, *(found for use in self._file.uses for found in self._set_rules(use)))

    def moment(self) -> Moment:
        """Return the time of day by which rules with hours are judged, in the operator's time zone."""
        now = datetime.fromtimestamp(self._clock.now_ms() / 1000, self._zone)
        return Moment(now.weekday(), now.hour * 60 + now.minute)

    def set_timezone(self, name: str) -> None:
        """Judge hours by this IANA zone from now on; by UTC where the system does not know it."""
        try:
            self._zone = ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            self._zone = UTC

    def exact_hosts(self, folder: str) -> tuple[str, ...]:
        """Return the names that a group may reach by TLS on 443 by name, for its /etc/hosts."""
        hosts = (
            rule.host
            for rule in self.rules_for(folder)
            if rule.tls
            and rule.port == HTTPS_PORT
            and rule.action is not Action.DENY
            and not breadth(rule.host)
            and is_name(rule.host)
            and "." in rule.host
        )
        return tuple(dict.fromkeys(hosts))[:HOSTS_A_GROUP]

    def host_messages(self) -> Iterator[RulesChanged]:
        """Yield what the host is told after Ready and after every change, in packets that are short enough."""
        folders = dict.fromkeys(["", *(table.entry.group for table in self._file.tables)])
        hosts: dict[str, list[str]] = {}
        part = 0
        for folder in folders:
            names = list(self.exact_hosts(folder))
            if hosts and sum(map(len, hosts.values())) + len(hosts) + len(names) > HOSTS_A_MESSAGE:
                yield RulesChanged(self.generation, hosts, part)
                hosts, part = {}, part + 1
            hosts[folder] = names
        yield RulesChanged(self.generation, hosts, part)

    def text(self) -> str:
        """Return the rule file in force."""
        return self._file.text

    def find_approved(self, approval: str) -> int | None:
        """Return the generation that carried an approval out, None when none has."""
        return self._approved.get(approval)

    async def add(self, rule: Rule, by: str, approval: str = "") -> int:
        """Put a rule in force; return its generation, the earlier one when this approval has been carried out."""
        return (await self.add_words(write_words(rule), by, approval)).generation

    async def add_words(self, words: RuleWords, by: str, approval: str = "") -> Changed:
        """Put a rule in force as a person wrote it."""

        def edit(file: RuleFile) -> Edit:
            return self._check_secrets(rule_edit.add_rule(file, words), file)

        return await self._change(edit, by, approval)

    async def use_set(self, use: Use, by: str) -> Changed:
        """Put a ready-made set in force."""
        return await self._change(lambda file: rule_edit.use_set(file, use), by)

    async def deny(self, what: str, folder: str, by: str) -> Changed:
        """Deny a host or what a rule allowed."""
        in_force = [found.rule for found in (self.sourced_for(folder) if folder else self.list_all())]
        return await self._change(lambda file: rule_edit.deny(file, what, folder, in_force), by)

    async def remove(self, name: str, folder: str | None, by: str) -> Changed:
        """Take a rule or a used set back; `folder` None: wherever it is."""
        return await self._change(lambda file: rule_edit.remove(file, name, folder), by)

    async def forget_group(self, folder: str, by: str) -> Changed:
        """Drop everything that is said of one agent group, so that no other group inherits it with the folder."""
        if not any(table.entry.group == folder for table in self._file.tables):
            return Changed(self.generation)
        return await self._change(lambda file: rule_edit.forget_group(file, folder), by)

    async def apply(self, text: str, by: str) -> Changed:
        """Put a whole rule file in force."""

        def edit(file: RuleFile) -> Edit:
            parsed = parse_file(text, SETS)
            return self._check_secrets(Edit(parsed, f"apply a file of {len(parsed.tables)} rules"), file)

        return await self._change(edit, by)

    async def revert(self, generation: int | None, by: str) -> Changed:
        """Put a kept generation in force again, None: the newest before this one; 0: the built-in rules alone."""
        async with self._turn:
            shelf = self._kept()
            numbers = await asyncio.to_thread(shelf.list_numbers)
            number = max((n for n in numbers if n < self.generation), default=0) if generation is None else generation
            if generation is None and self.generation == 0:
                raise OperatorError("There is no generation before this: only the built-in rules are in force.")
            try:
                file = await asyncio.to_thread(self._parse_kept, number) if number else RuleFile()
            except FileFault as fault:
                raise OperatorError(f"Generation {number} cannot be put in force: {fault}") from None
            await self._note("egress.revert", f"generation {number} in place of {self.generation}, by {by}")
            await asyncio.to_thread(shelf.point, number)
            self._take(number, file)
            self.fault = ""
        self._changed()
        return Changed(number)

    def list_generations(self) -> list[GenerationLine]:
        """Return every kept generation, oldest first. Blocking."""
        return [self._describe(number) for number in self._kept().list_numbers()] if self._shelf else []

    async def _change(self, edit: Callable[[RuleFile], Edit], by: str, approval: str = "") -> Changed:
        """Make the next generation of the one in force. One change at a time; what blocks is off the loop."""
        async with self._turn:
            if approval and approval in self._approved:
                return Changed(self._approved[approval])
            shelf = self._kept()
            made = await asyncio.to_thread(edit, self._file)
            file = await asyncio.to_thread(parse_file, made.file.text, SETS)
            await self._note("egress.change", f"{made.what}, by {by}")
            change = Change(self._clock.now_ms(), by, made.what, approval)
            number = await asyncio.to_thread(shelf.keep, file.text, change)
            self._take(number, file)
            self.fault = ""
            if approval:
                self._approved[approval] = number
        self._changed()
        return Changed(number, made.notes)

    def _kept(self) -> RuleShelf:
        if self._shelf is None:
            raise OperatorError("This gateway keeps no rules.")
        return self._shelf

    def _take(self, number: int, file: RuleFile) -> None:
        self.generation, self._file = number, file
        self._asked_for = _list_secrets(file.uses)
        self._plain.clear()

    def _parse_kept(self, number: int) -> RuleFile:
        """Return a kept generation. Raises OperatorError, or FileFault with the line as it is in the file on disk."""
        kept = self._kept().read(number)
        try:
            return parse_file(kept.text, SETS)
        except FileFault as fault:
            line = fault.line + kept.lines_above if fault.line else 0
            raise FileFault(0, f"gateway/rules/{number}.toml, {FileFault(line, fault.message)}.") from None

    def _learn_approval(self, number: int) -> None:
        try:
            approval = self._kept().read(number).change.approval
        except OperatorError:
            return  # a file that cannot be read carried nothing out that is still in force
        if approval:
            self._approved[approval] = number

    def _describe(self, number: int) -> GenerationLine:
        in_force = number == self.generation
        try:
            kept = self._kept().read(number)
        except OperatorError as error:
            return GenerationLine(number, 0, "", "", in_force, str(error))
        change = kept.change
        try:
            parse_file(kept.text, SETS)
        except FileFault as fault:
            return GenerationLine(number, change.at, change.by, change.what, in_force, str(fault))
        return GenerationLine(number, change.at, change.by, change.what, in_force)

    def _say_fallback(self, faults: list[str]) -> str:
        now = f"generation {self.generation} is in force" if self.generation else "only the built-in rules are in force"
        mend = "`nanoclaw egress log` lists the generations; `nanoclaw egress revert N` takes one."
        return f"{' '.join(faults)} So {now}. {mend}"

    def _secrets_known(self) -> tuple[object, ...]:
        """Return what the rules depend on besides the file: which of the secrets that rules ask for are there."""
        return tuple(self._secret_hosts(name) for name in self._asked_for)

    def _is_on(self, rule: Rule) -> bool:
        return rule.inject in {"", MODEL_SECRET} or self._secret_hosts(rule.inject) is not None

    def _set_rules(self, use: Use) -> Iterator[Sourced]:
        for rule in load_set(use.set):
            bound = rule.host in (self._secret_hosts(rule.inject) or ()) if rule.inject else False
            yield Sourced(replace(rule, group=use.group, inject=rule.inject if bound else ""), f"set {use.set}")

    def _check_secrets(self, made: Edit, before: RuleFile) -> Edit:
        """Refuse a new rule whose secret is bound elsewhere; say what there is to know of secrets."""
        notes: list[str] = []
        for rule in made.file.rules:
            if rule in before.rules or not rule.inject:
                continue
            hosts = self._secret_hosts(rule.inject)
            if hosts is None:
                notes.append(f"There is no secret {rule.inject!r} yet: `nanoclaw vault set {rule.inject}`.")
            elif rule.host not in hosts:
                bound = f"the secret {rule.inject!r} is bound to {', '.join(hosts)}, not to {rule.host}"
                raise RuleFault("inject", f"{bound} (rule {rule.name!r})")
        return replace(made, notes=(*made.notes, *notes))


def _list_secrets(uses: tuple[Use, ...]) -> tuple[str, ...]:
    """Return the secrets without which a built-in rule is off, or one of a used set puts nothing on."""
    rules = [*DEFAULT_RULES, *(rule for use in uses for rule in load_set(use.set))]
    return tuple(dict.fromkeys(rule.inject for rule in rules if rule.inject))
