"""`ncl` inside a box: the same verbs, as far as the agent group's `cli_scope` reaches; a change is put to a person.

In: an AgentRequest `ncl` with the words an agent typed; later, a person's yes.
Out: a table for the agent; a question to the approvers; the words of what was done.
Writes: what the desk does, once a person has said yes; `audit` (what was refused).
Never: believes the request about who asks (the mailbox says it); changes anything before a yes; lets what an agent may
not see be told from what is not there.
Fails: refused with words; a change whose scope was taken away meanwhile is refused at the yes.
"""

from __future__ import annotations

import shlex
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

import msgspec

from nanoclaw.admin.access import decide_command
from nanoclaw.admin.call import OPERATOR, TRUE, Asker, Call, check_request
from nanoclaw.admin.catalog import find_verb
from nanoclaw.admin.desk import Desk
from nanoclaw.admin.find import Finder
from nanoclaw.admin.request import Request
from nanoclaw.admin.table import Table, format_facts, format_table, to_json
from nanoclaw.admin.verb import AskWhom, CallerKind
from nanoclaw.admin.words import parse_words
from nanoclaw.channels.plain_text import one_line
from nanoclaw.contract.message import ToolAnswer
from nanoclaw.domain.verdict import Allow, Ask, Deny, Verdict
from nanoclaw.errors import Refused
from nanoclaw.flow.aftermath import Aftermath
from nanoclaw.flow.agent_requests import AgentRequests
from nanoclaw.flow.agent_requests import Request as Proposal
from nanoclaw.flow.approvals import End
from nanoclaw.flow.requests import Caller
from nanoclaw.store.audit import Entry
from nanoclaw.store.tables import Tables

MOST_BYTES = 64 * 1024
MOST_REQUEST = 64 * 1024
MOST_NAME = 64
MOST_LABEL = 200
MOST_COMMAND = 3_000  # characters: what is not shown to a person, nobody can say yes to
ACTION = "ncl"  # of the agent request
OWN_NAMES = ("id", "group")  # the values by which a verb names the agent group it is about
OWN_COMMAND = "groups get"  # what every agent may that may anything
OWN_SESSION = "groups restart"  # without a group it is about the own session alone
CUT = "\n... cut off: ask for less with --limit or a filter."


class Arguments(msgspec.Struct, frozen=True):
    """What the box sends."""

    arguments: list[str]


class Wanted(msgspec.Struct, frozen=True):
    """A change that waits for a yes: what, from whom, and the ids of what it names (by value), as the card said it."""

    request: Request
    agent_group: str
    session: str
    named: dict[str, str]


# Puts a change to its approvers; the answer says what happens next, or why nobody can be asked.
Propose = Callable[[sqlite3.Connection, Proposal, Aftermath, int], ToolAnswer]


class BoxedNcl:
    """The handler of the agent request `ncl`, and the effect of a yes to one."""

    def __init__(self, tables: Tables, desk: Desk, propose: Propose, timezone: str) -> None:
        self._tables = tables
        self._desk = desk
        self._find = Finder(tables)
        self._propose = propose
        self._timezone = timezone

    def __call__(
        self, connection: sqlite3.Connection, caller: Caller, arguments: str, after: Aftermath, now: int
    ) -> ToolAnswer | None:
        """Answer what an agent typed, or put it to a person."""
        try:
            return self._answer(connection, caller, arguments, after, now)
        except Refused as error:
            return ToolAnswer("refused", error.reason)

    def effect(self, connection: sqlite3.Connection, payload: str, end: End, after: Aftermath, now: int) -> str:
        """Carry out a change that a person said yes to, with the scope its agent group has now. Raises Refused."""
        wanted = msgspec.json.decode(payload, type=Wanted)
        asker = self._asker(connection, wanted.agent_group, wanted.session)
        if not isinstance(_judge(wanted.request, asker), Ask):
            raise Refused("This may not be done from its sandbox any more.")
        named = replace(asker, named=frozenset(wanted.named.values()))
        call = check_request(_pin(wanted), named, now)
        table = self._desk.run(connection, call, after)
        return f"Done: {_command(wanted.request)}\n{self._show(call, table, as_json=False)}"

    def _answer(
        self, connection: sqlite3.Connection, caller: Caller, arguments: str, after: Aftermath, now: int
    ) -> ToolAnswer:
        asker = self._asker(connection, caller.agent_group, caller.session)
        able = decide_command(asker.kind, asker.scope, OWN_COMMAND, ())
        if isinstance(able, Deny):
            return self._refuse(connection, asker, "ncl", able, now)
        typed = parse_words(_words(arguments))
        if isinstance(typed, str):
            return ToolAnswer("done", typed)
        request = _fill(typed.request, asker)
        verdict = _judge(request, asker)
        if isinstance(verdict, Deny):
            return self._refuse(connection, asker, f"{request.resource} {request.verb}", verdict, now)
        call = check_request(request, asker, now)
        match verdict:
            case Allow():
                return ToolAnswer("done", self._show(call, self._desk.run(connection, call, after), typed.as_json))
            case Ask(whom):
                self._check_own(connection, call)
                if len(_command(request)) > MOST_COMMAND:
                    raise Refused(f"That is too long for a person to read: at most {MOST_COMMAND} characters.")
                return self._propose(connection, self._proposal(connection, caller, (request, call), whom), after, now)

    def _asker(self, connection: sqlite3.Connection, agent_group: str, session: str) -> Asker:
        group = self._tables.groups.get(connection, agent_group)
        scope = "" if group.archived_at is not None else str(group.cli_scope)
        return Asker(CallerKind.AGENT, f"session:{session}", agent_group, session, scope)

    def _check_own(self, connection: sqlite3.Connection, call: Call) -> None:
        """Refuse at once what names another agent group as its own; the rest is looked up at the yes."""
        for value in call.verb.values:
            if value.name in OWN_NAMES and value.refers == "groups" and call.has(value.name):
                self._find.group(connection, call.asker, call.text(value.name), archived=True)

    def _proposal(
        self, connection: sqlite3.Connection, caller: Caller, what: tuple[Request, Call], whom: str
    ) -> Proposal:
        request, call = what
        named, meant = self._name(connection, call)
        name = self._tables.groups.get(connection, caller.agent_group).name
        return Proposal(
            action=ACTION,
            agent_group=caller.agent_group,
            session=caller.session,
            title=f"{one_line(name, MOST_NAME)} wants to change something",
            text="\n".join([f"The command: {one_line(_command(request), MOST_COMMAND)}", *meant]),
            payload=msgspec.json.encode(Wanted(request, caller.agent_group, caller.session, named)).decode(),
            chat=caller.place.chat if caller.place and caller.place.chat else caller.chat,
            of_all=whom == AskWhom.ALL,
        )

    def _name(self, connection: sqlite3.Connection, call: Call) -> tuple[dict[str, str], list[str]]:
        """Return the ids of what the command names, and a line about each: nobody can say yes to what they cannot read.

        A yes is to these: a name may be somebody else's by then.
        """
        named, lines = dict[str, str](), list[str]()
        for value in call.verb.values:
            if not value.refers or not call.has(value.name):
                continue
            typed, label = call.text(value.name), "nothing of this name, or more than one: it will not be done"
            with suppress(Refused):
                found = self._find_named(connection, value.refers, typed)
                label = self._find.label_of(connection, value.refers, found)
                named[value.name] = found
            lines.append(f"{one_line(typed, MOST_NAME)} is {one_line(label, MOST_LABEL)}")
        return named, lines

    def _find_named(self, connection: sqlite3.Connection, noun: str, typed: str) -> str:
        try:
            return self._find.id_of(connection, OPERATOR, noun, typed)
        except Refused:
            if noun != "groups":
                raise
            return self._find.group(connection, OPERATOR, typed, archived=True).id  # to be brought back, say

    def _refuse(
        self, connection: sqlite3.Connection, asker: Asker, command: str, verdict: Deny, now: int
    ) -> ToolAnswer:
        entry = Entry(now, "ncl.refused", asker.actor, command, "deny", verdict.reason)
        self._tables.audit.append(connection, entry)
        return ToolAnswer("refused", verdict.words)

    def _show(self, call: Call, table: Table, as_json: bool) -> str:
        if as_json:
            text = to_json(table)
        else:
            form = format_facts if call.verb.single else format_table
            text = "\n".join(part for part in (form(table, self._timezone), table.note) if part)
        raw = text.encode()
        if len(raw) <= MOST_BYTES:
            return text
        if as_json:
            raise Refused(f"The answer is longer than {MOST_BYTES // 1024} kB. Ask for less with --limit or a filter.")
        return raw[: MOST_BYTES - len(CUT)].decode(errors="ignore") + CUT


def _words(arguments: str) -> Sequence[str]:
    if len(arguments) > MOST_REQUEST:
        raise Refused("That is too long.")
    try:
        return msgspec.json.decode(arguments, type=Arguments).arguments
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        raise Refused("The host did not understand this request.") from None


def _fill(request: Request, asker: Asker) -> Request:
    """Return the request with the asker's own agent group where one bound to it named none."""
    try:
        verb = find_verb(request.resource, request.verb)
    except Refused:
        return request
    if asker.scope != "group" or f"{request.resource} {verb.name}" == OWN_SESSION:
        return request
    flags = dict(request.flags)
    if verb.target is not None and verb.target.refers == "groups" and verb.target.name not in flags:
        return msgspec.structs.replace(request, id=request.id or asker.agent_group)
    if any(option.name == "group" and option.refers == "groups" for option in verb.options):
        flags.setdefault("group", asker.agent_group)
    return msgspec.structs.replace(request, flags=flags)


def _pin(wanted: Wanted) -> Request:
    """Return the request with ids for the names that were shown. Raises Refused when a name was nobody's then."""
    request, verb = wanted.request, find_verb(wanted.request.resource, wanted.request.verb)
    flags, target = dict(request.flags), request.id
    for value in verb.values:
        is_target = value is verb.target and target is not None
        if not value.refers or not (is_target or value.name in flags):
            continue
        if value.name not in wanted.named:
            raise Refused("What it names was not there, or not clear, when it was asked for.")
        if is_target:
            target = wanted.named[value.name]
        else:
            flags[value.name] = wanted.named[value.name]
    return msgspec.structs.replace(request, id=target, flags=flags)


def _judge(request: Request, asker: Asker) -> Verdict:
    return decide_command(asker.kind, asker.scope, f"{request.resource} {request.verb}", request.flags)


def _command(request: Request) -> str:
    """Return a request as it would be typed."""
    words = ["ncl", request.resource, *request.verb.split(), *([] if request.id is None else [request.id])]
    for name, given in request.flags.items():
        for value in [given] if isinstance(given, str) else given:
            words += [f"--{name}"] if value == TRUE else [f"--{name}", value]
    return shlex.join(words)


def join_ncl(requests: AgentRequests, tables: Tables, desk: Desk, timezone: str) -> BoxedNcl:
    """Return the handler of `ncl`, and let a yes to one of its questions be carried out."""
    boxed = BoxedNcl(tables, desk, requests.ask_approvers, timezone)
    requests.effects = {**requests.effects, ACTION: boxed.effect}
    return boxed
