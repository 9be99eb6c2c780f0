"""7h agent requests: what an agent may not do by itself is done when a person says yes.

In: a request of an agent that needs a yes, from the handler of its action; later the answer of an approver.
Out: `pending` at once; later a note to the agent with what came of it.
Writes: `approvals`, `audit`, `refusals` (requests beyond the limits); after a yes what the action's effect writes.
Never: does anything without the yes of an approver: of that agent's own group, of all where it reaches beyond;
lets one agent fill anybody's chat.
Fails: Refused by the effect: nothing of it happened; agent and approver are told.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import msgspec

from nanoclaw.channels.plain_text import neutralise
from nanoclaw.contract.message import SystemIn, ToolAnswer
from nanoclaw.domain.approval import APPROVE, DENY, LIFE_MS, ApprovalKind, ApprovalState
from nanoclaw.domain.card import Option, one_line
from nanoclaw.domain.names import check_agent_name
from nanoclaw.domain.session import SessionId
from nanoclaw.errors import Refused
from nanoclaw.flow.aftermath import Aftermath
from nanoclaw.flow.approvals import Approvals, End
from nanoclaw.flow.cards import Cards
from nanoclaw.flow.groups import AgentGroups
from nanoclaw.flow.requests import Caller, tell_agent
from nanoclaw.store.approvals import NewApproval
from nanoclaw.store.audit import Entry
from nanoclaw.store.db import savepoint
from nanoclaw.store.refusals import Refusal
from nanoclaw.store.tables import Tables

MOST_OF_SESSION = 5  # open requests and questions
MOST_OF_GROUP = 20
MOST_OF_ALL = 200
WINDOW_MS = 3_600_000  # of requests beyond the limits one in an hour is written to the audit
MOST_INSTRUCTIONS = 3_000
MOST_TEXT = 4_000  # what is not shown to a person, nobody can say yes to
CREATE_AGENT = "create_agent"
TOO_MANY = "too_many_open"
ENOUGH = "Too many of your questions wait for an answer. Wait until some are answered."


class Effect(Protocol):
    """What one action does after a yes."""

    def __call__(self, connection: sqlite3.Connection, payload: str, end: End, after: Aftermath, now: int) -> str:
        """Do it, as `end` says who allowed what, and return words for the agent. Raises Refused."""
        ...


@dataclass(frozen=True, slots=True)
class Request:
    """What an agent wants and may not do by itself. `payload` (JSON) goes to the action's effect after a yes."""

    action: str
    agent_group: str
    session: str
    title: str
    text: str
    payload: str
    chat: str | None = None  # where it was asked for
    options: tuple[Option, ...] = (APPROVE, DENY)
    kind: ApprovalKind = ApprovalKind.AGENT_REQUEST
    of_all: bool = False  # it reaches beyond the agent's group: only global admins and owners may say yes


class _CreateAgent(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    instructions: str = ""


class AgentRequests:
    """Asks approvers for agents. `effects` by action: set by whoever builds the parts."""

    def __init__(self, tables: Tables, approvals: Approvals, cards: Cards, groups: AgentGroups) -> None:
        self._tables = tables
        self._approvals = approvals
        self._cards = cards
        self._groups = groups
        self.effects: Mapping[str, Effect] = {CREATE_AGENT: self._agent_created}

    def ask_approvers(self, connection: sqlite3.Connection, request: Request, after: Aftermath, now: int) -> ToolAnswer:
        """Put a request to who decides about it: `pending`, or `refused` with the reason."""
        subject = subject_of(request)
        known = self._tables.approvals.find_open(connection, request.kind, subject)
        if known is not None:
            return ToolAnswer("pending", f"That was asked already and waits for an answer (question {known.code}).")
        deciders = None if request.of_all else request.agent_group
        if not self._tables.people.approvers(connection, deciders):
            return ToolAnswer("refused", "There is nobody to ask: this home has no owner and no admin.")
        if len(request.text) > MOST_TEXT:
            return ToolAnswer("refused", f"That is too long for a person to read: at most {MOST_TEXT} characters.")
        if self.is_over_limit(connection, (request.session, request.agent_group), now):
            return ToolAnswer("refused", ENOUGH)
        chat = self._tables.chats.get(connection, request.chat) if request.chat else None
        new = NewApproval(
            kind=request.kind,
            subject=subject,
            title=request.title,
            text=request.text,
            options=request.options,
            payload=json.dumps({"action": request.action, "payload": request.payload}, ensure_ascii=False),
            expires_at=now + LIFE_MS,
            agent_group=deciders,
            session=request.session,
            chat=request.chat,
            channel=chat.channel_type if chat else "",
        )
        approval = self._approvals.open(connection, new, now)
        if self._cards.send_to_approvers(connection, approval, after, now):
            words = (
                f"A person is asked (question {approval.code}). You are told when it is decided; do not wait for it."
            )
        else:
            words = f"Nobody who decides can be reached now; an operator sees it in `ncl approvals` ({approval.code})."
        return ToolAnswer("pending", words)

    def is_over_limit(self, connection: sqlite3.Connection, whose: tuple[str, str], now: int) -> bool:
        """Return whether (a session, its agent group) may ask no more; that is counted, and audited once an hour."""
        session, agent_group = whose
        open_now = self._tables.approvals.count_open(connection, session=session, agent_group=agent_group, chat=None)
        if (
            open_now.of_session < MOST_OF_SESSION
            and open_now.of_group < MOST_OF_GROUP
            and open_now.of_agents < MOST_OF_ALL
        ):
            return False
        refusal = Refusal("agent", agent_group, session, TOO_MANY)
        if not self._tables.refusals.was_counted_since(connection, refusal, now - WINDOW_MS):
            entry = Entry(now, "request.refused", f"session:{session}", agent_group, "deny", TOO_MANY)
            self._tables.audit.append(connection, entry)
            self._tables.refusals.count(connection, refusal, now)
        return True

    def decided(self, connection: sqlite3.Connection, end: End, after: Aftermath, now: int) -> str:
        """Do what was asked for after a yes; tell the agent in any case."""
        approval = end.approval
        held = json.loads(approval.payload)
        action = str(held["action"])
        if end.state is ApprovalState.EXPIRED:
            self._tell(connection, end, (action, "expired", f"Nobody answered in time: {approval.title}."), after, now)
            return ""
        if end.state is ApprovalState.DENIED:
            self._tell(connection, end, (action, "refused", f"{end.name} said no: {approval.title}."), after, now)
            return ""
        done = Aftermath()
        try:
            with savepoint(connection):
                effect = self.effects.get(action)
                if effect is None:
                    raise Refused(f"This host cannot do {action} any more.")
                words = effect(connection, str(held["payload"]), end, done, now)
        except Refused as error:
            failure = f"{end.name} said yes, but it failed: {error.reason}"
            self._tell(connection, end, (action, "failed", failure), after, now)
            return f"Approved, but it failed: {error.reason}"
        after.add(done)
        self._tell(connection, end, (action, "done", f"{end.name} said yes. {words}".strip()), after, now)
        return f"Approved. {words}".strip()

    def create_agent(
        self, connection: sqlite3.Connection, caller: Caller, arguments: str, after: Aftermath, now: int
    ) -> ToolAnswer:
        """Ask whether an agent may have a new agent made (reference 13.2, defect 8: it never does so by itself)."""
        try:
            wanted = msgspec.json.decode(arguments, type=_CreateAgent)
            name = check_agent_name(wanted.name)
        except msgspec.MsgspecError as error:
            return ToolAnswer("refused", f"create_agent needs a name and instructions: {error}.")
        except Refused as error:
            return ToolAnswer("refused", error.reason)
        if len(wanted.instructions) > MOST_INSTRUCTIONS:
            return ToolAnswer("refused", f"Instructions have at most {MOST_INSTRUCTIONS} characters.")
        maker = self._tables.groups.get(connection, caller.agent_group)
        quoted = "\n".join(f"> {neutralise(line)}" for line in wanted.instructions.splitlines()) or "> (none)"
        payload = {"parent": maker.id, "name": name, "instructions": wanted.instructions}
        request = Request(
            action=CREATE_AGENT,
            agent_group=caller.agent_group,
            session=caller.session,
            title=f"{maker.name} asks for a new assistant",
            text=f"Its name: {one_line(name)}. Its instructions, as {maker.name} wrote them:\n{quoted}",
            payload=json.dumps(payload, ensure_ascii=False),
            chat=caller.place.chat if caller.place and caller.place.chat else caller.chat,
        )
        return self.ask_approvers(connection, request, after, now)

    def _agent_created(self, connection: sqlite3.Connection, payload: str, end: End, after: Aftermath, now: int) -> str:
        wanted = json.loads(payload)
        parent = self._tables.groups.get(connection, wanted["parent"])
        groups = self._groups.acting_for(f"user:{end.by}")
        child = groups.create(connection, wanted["name"], now, after, instructions=wanted["instructions"])
        groups.introduce(connection, parent, child, now, after)
        name = self._tables.chats.find_agent_destination(connection, parent.id, child.id)
        return f"{child.name} is there; write to it as `{name}`."

    def _tell(
        self, connection: sqlite3.Connection, end: End, note: tuple[str, str, str], after: Aftermath, now: int
    ) -> None:
        """Tell the agent that asked; after an answer it goes on with it, an end by time rides along."""
        session = end.approval.session
        if session is None:
            return
        goes_on = end.state is not ApprovalState.EXPIRED
        tell_agent(connection, self._tables, session, SystemIn(*note, now), trigger=goes_on)
        if goes_on:
            after.wake[SessionId(session)] = None


def subject_of(request: Request) -> str:
    """Return what makes two requests the same one: the session, the action and the payload."""
    digest = hashlib.sha256(request.payload.encode()).hexdigest()[:16]
    return f"{request.session}:{request.action}:{digest}"
