"""A request that was checked against the table: its verb, its values with their types, and who asks.

What an operator's command and what an agent's box send is checked here alike, on the host, whatever was checked before.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from nanoclaw.admin.catalog import MOST_SHOWN, find_verb
from nanoclaw.admin.request import Given, Request
from nanoclaw.admin.verb import MOST_PROSE, MOST_TEXT, CallerKind, Kind, Value, Verb
from nanoclaw.errors import Refused

INTEGER = re.compile(r"-?[0-9]{1,9}")
LINE_ENDS = "\n\t\r"
TRUE = "true"

Checked = str | int | bool | tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks, by the way the request came in. `scope` is the agent group's `cli_scope`; an operator has none.

    `named`: ids that a person was shown and said yes to.
    """

    kind: CallerKind
    actor: str  # for the audit: `operator`, `session:<id>`
    agent_group: str = ""
    session: str = ""
    scope: str = ""
    named: frozenset[str] = frozenset()

    def sees(self, agent_group: str | None) -> bool:
        """Whether what belongs to an agent group (None: to all) may be shown to them, or even be there for them."""
        if self.kind is CallerKind.OPERATOR:
            return True
        return self.scope == "global" or (self.scope == "group" and agent_group == self.agent_group)


OPERATOR = Asker(CallerKind.OPERATOR, "operator")


@dataclass(frozen=True, slots=True)
class Call:
    """One request, checked. `now` in epoch milliseconds."""

    resource: str
    verb: Verb
    values: Mapping[str, Checked]
    asker: Asker
    now: int

    @property
    def command(self) -> str:
        """Its words: `groups config get`."""
        return f"{self.resource} {self.verb.name}"

    def has(self, name: str) -> bool:
        """Whether a value was given."""
        return name in self.values

    def find(self, name: str) -> str | None:
        """Return a text, None when it was not given."""
        value = self.values.get(name)
        return value if isinstance(value, str) else None

    def text(self, name: str) -> str:
        """Return a text, '' when it was not given."""
        return self.find(name) or ""

    def number(self, name: str, otherwise: int = 0) -> int:
        """Return a number."""
        value = self.values.get(name)
        return value if isinstance(value, int) else otherwise

    def flag(self, name: str) -> bool:
        """Whether a flag was given."""
        return self.values.get(name) is True

    def many(self, name: str) -> tuple[str, ...]:
        """Return the texts of a value that may be given more than once."""
        value = self.values.get(name)
        return value if isinstance(value, tuple) else ()


def check_request(request: Request, asker: Asker, now: int) -> Call:
    """Check a request against the table. Raises Refused with words that say what is wrong."""
    verb = find_verb(request.resource, request.verb)
    given = dict(request.flags)
    if request.id is not None:
        if verb.target is None:
            raise Refused(f"`ncl {request.resource} {verb.name}` takes no {request.id[:MOST_SHOWN]!r}.")
        if verb.target.name in given:
            raise Refused(f"{verb.target.name} is given twice.")
        given[verb.target.name] = request.id
    checked: dict[str, Checked] = {}
    for value in verb.values:
        raw = given.pop(value.name, None)
        if raw is not None:
            checked[value.name] = _check(value, raw)
        elif value.required:
            raise Refused(f"`ncl {request.resource} {verb.name}` needs {shown(value, verb)}: {value.words}")
        elif value.default is not None:
            checked[value.name] = value.default
    if given:
        unknown = next(iter(given))[:MOST_SHOWN]
        names = ", ".join(f"--{option.name}" for option in verb.options)
        raise Refused(f"`ncl {request.resource} {verb.name}` has no --{unknown}. It has: {names or 'no options'}.")
    return Call(request.resource, verb, checked, asker, now)


def shown(value: Value, verb: Verb) -> str:
    """Return how a value is written: `USER` for the target, `--role` for an option."""
    return value.name.upper() if value is verb.target else f"--{value.name}"


def _check(value: Value, raw: Given) -> Checked:
    if value.repeated:
        parts = [raw] if isinstance(raw, str) else raw
        return tuple(_check_text(value, part) for part in parts)
    if not isinstance(raw, str):
        raise Refused(f"--{value.name} is given more than once.")
    match value.kind:
        case Kind.FLAG:
            if raw != TRUE:
                raise Refused(f"--{value.name} takes no value.")
            return True
        case Kind.INTEGER:
            if not INTEGER.fullmatch(raw) or not value.least <= int(raw) <= value.most:
                raise Refused(f"--{value.name} is a number from {value.least} to {value.most}.")
            return int(raw)
        case Kind.CHOICE:
            if raw not in value.choices:
                raise Refused(f"--{value.name} is one of: {', '.join(value.choices)}.")
            return raw
        case Kind.TEXT | Kind.PROSE:
            return _check_text(value, raw)


def _check_text(value: Value, raw: str) -> str:
    prose = value.kind is Kind.PROSE
    most = MOST_PROSE if prose else MOST_TEXT
    if len(raw) > most:
        raise Refused(f"--{value.name} is too long: at most {most} characters.")
    if not all(
        character.isprintable() or (prose and character in LINE_ENDS) or character == "\u200d" for character in raw
    ):
        raise Refused(f"--{value.name} has characters in it that cannot be shown.")
    if not raw.strip() and not prose:
        raise Refused(f"--{value.name} is empty.")
    return raw.strip() if not prose else raw
