"""7k access: what an agent would like to reach becomes a rule of the gateway when a person says yes.

In: `request_access` of an agent; the answer of an approver; what the gateway says became of the rule.
Out: `pending` at once; the rule for the gateway, said again at each of its starts until it confirms; then a note to the
agent.
Writes: `approvals`, `audit`, the cards, notes to the agent, in the caller's transaction.
Never: asks for a wildcard host, an address or a private name; lets a group's own admin decide for every agent.
Fails: Refused for what cannot be asked, with words the agent can mend it by; a rule that cannot be made is told to
agent and approver.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import msgspec

from nanoclaw.channels.plain_text import one_line
from nanoclaw.contract.message import SystemIn, ToolAnswer
from nanoclaw.contract.request import REQUEST_ACCESS
from nanoclaw.domain.approval import DENY, LIFE_MS, ApprovalKind, ApprovalState
from nanoclaw.domain.egress import (
    DENIED_MS,
    EVERY_AGENT,
    METHODS,
    MOST_REASON,
    THIS_AGENT,
    Access,
    describe_access,
    explain_patterns,
    find_access_fault,
)
from nanoclaw.domain.session import SessionId
from nanoclaw.errors import Refused
from nanoclaw.flow.aftermath import Aftermath
from nanoclaw.flow.agent_requests import MOST_TEXT, AgentRequests, Request, subject_of
from nanoclaw.flow.approvals import End
from nanoclaw.flow.cards import Cards
from nanoclaw.flow.requests import Caller, tell_agent
from nanoclaw.gateway import control
from nanoclaw.store.approvals import Approval, Ended, NewApproval
from nanoclaw.store.audit import Entry
from nanoclaw.store.tables import Tables

MOST_NAME = 64
NOT_FOR_ALL = "Only a global admin or an owner can allow it for every agent; you can allow it for this one."


class Kept(msgspec.Struct):
    """The payload of a question about egress: what it is about; once answered, by whom, and what the gateway has yet to
    confirm (`owed`)."""

    action: str
    payload: str
    owed: list[str] = []
    by: str = ""  # a name, for people
    actor: str = ""  # for the gateway's audit


class _Asked(msgspec.Struct, forbid_unknown_fields=True):
    """What an agent sends."""

    host: str
    methods: list[str]
    paths: list[str]
    reason: str


class Proposal(msgspec.Struct):
    """What is kept of it: not the reason, so that other words for the same are not another question.

    `folder` is the agent's, "" is every agent.
    """

    host: str
    methods: list[str]
    paths: list[str]
    folder: str


RULE = "rule"  # owed: the gateway has not said yet what became of it


class AccessRequests:
    """Puts proposals to people, and their yes to the gateway."""

    def __init__(self, tables: Tables, requests: AgentRequests, cards: Cards) -> None:
        self._tables = tables
        self._requests = requests
        self._cards = cards

    def ask(
        self, connection: sqlite3.Connection, caller: Caller, arguments: str, after: Aftermath, now: int
    ) -> ToolAnswer:
        """Put a proposal to who decides about it."""
        try:
            wanted = msgspec.json.decode(arguments, type=_Asked)
        except msgspec.MsgspecError as error:
            raise Refused(f"request_access needs a host, methods, paths and a reason: {error}.") from None
        reason = one_line(wanted.reason, MOST_REASON + 1)
        if not reason or len(reason) > MOST_REASON:
            raise Refused(f"Say why, in 1 to {MOST_REASON} characters: a person reads it and decides.")
        group = self._tables.groups.get(connection, caller.agent_group)
        methods = sorted({method.upper() for method in wanted.methods})
        proposal = Proposal(wanted.host.lower(), methods, list(dict.fromkeys(wanted.paths)), group.folder)
        access = _access_of(proposal)
        if fault := find_access_fault(access):
            raise Refused(fault)
        request = Request(
            action=REQUEST_ACCESS,
            agent_group=group.id,
            session=caller.session,
            title=f"{one_line(group.name, MOST_NAME)} asks to reach {access.host}",
            text=_card_text(access, reason),
            payload=msgspec.json.encode(proposal).decode(),
            chat=caller.place.chat if caller.place and caller.place.chat else caller.chat,
            options=(THIS_AGENT, DENY, EVERY_AGENT),
            kind=ApprovalKind.EGRESS,
        )
        denied = self._tables.approvals.find_denied(connection, request.kind, subject_of(request), now - DENIED_MS)
        if denied is not None:
            raise Refused(f"{read_kept(denied).by} said no to this a short while ago. Do not ask again now.")
        return self._requests.ask_approvers(connection, request, after, now)

    def decided(self, connection: sqlite3.Connection, end: End, after: Aftermath, now: int) -> str:
        """Have the gateway make the rule after a yes; the agent is told then. Raises Refused: not theirs to allow."""
        approval, kept = end.approval, read_kept(end.approval)
        proposal = msgspec.json.decode(kept.payload, type=Proposal)
        if end.option is None:
            self._tell(connection, approval, ("expired", f"Nobody answered in time: {approval.title}."), after, now)
            return ""
        if end.state is ApprovalState.DENIED:
            self._tell(connection, approval, ("refused", f"{end.name} said no: {approval.title}."), after, now)
        elif end.option == EVERY_AGENT:
            if end.by is not None and not self._tables.people.standing(connection, end.by, None).is_approver:
                raise Refused(NOT_FOR_ALL)
            proposal.folder = ""
            kept.payload = msgspec.json.encode(proposal).decode()
        kept.by, kept.actor = end.name, f"user:{end.by}" if end.by else "operator"
        kept.owed = [RULE] if end.state is ApprovalState.APPROVED else []
        self._tables.approvals.set_payload(connection, approval.id, write_kept(kept))
        if not kept.owed:
            return ""
        after.gateway.append(_rule_of(approval, kept))
        return f"Approved: {describe_access(_access_of(proposal))}. You are told when the rule is in force."

    def allow_hosts(
        self, connection: sqlite3.Connection, whose: tuple[str, Sequence[str]], end: End, after: Aftermath, now: int
    ) -> None:
        """Have the gateway allow (the agent's folder, hosts) whole, by an answer that allowed them with something else.

        Each is an answered proposal of its own: what is owed of it is said to the gateway until it confirms.
        """
        folder, hosts = whose
        asked, actor = end.approval, f"user:{end.by}" if end.by else "operator"
        for host in hosts:
            proposal = Proposal(host, list(METHODS), ["/**"], folder)
            payload = msgspec.json.encode(proposal).decode()
            kept = write_kept(Kept(REQUEST_ACCESS, payload, [RULE], end.name, actor))
            new = NewApproval(
                kind=ApprovalKind.EGRESS,
                subject=f"{asked.id}:{host}",
                title=f"{host}, allowed with: {asked.title}",
                text=describe_access(_access_of(proposal)),
                options=(THIS_AGENT, DENY),
                payload=kept,
                expires_at=now + LIFE_MS,
                agent_group=asked.agent_group,
                session=asked.session,
            )
            opened = self._tables.approvals.add(connection, new, now)
            answered = Ended(ApprovalState.APPROVED, kept, THIS_AGENT.label, end.by)
            self._tables.approvals.end(connection, opened.id, answered, now)
            entry = Entry(now, "approval.approved", actor, opened.id, "allow", f"host of {asked.id}")
            self._tables.audit.append(connection, entry)
            after.gateway.append(_rule_of(opened, read_kept(opened)))

    def rule_added(
        self, connection: sqlite3.Connection, approval: Approval, added: control.RuleAdded, after: Aftermath, now: int
    ) -> None:
        """Tell the agent, and everybody who got the card, what became of it."""
        kept = read_kept(approval)
        what = describe_access(_access_of(msgspec.json.decode(kept.payload, type=Proposal)))
        if added.error:
            note = ("failed", f"{kept.by} said yes, but it failed: {added.error}")
            words = f"Approved by {kept.by}, but no rule was made: {added.error}"
        else:
            note = ("done", f"{kept.by} said yes. You may call {what} now.")
            words = f"Approved by {kept.by}, and in force: {what}. `nanoclaw egress list` shows it."
        self._tell(connection, approval, note, after, now)
        self._cards.end(connection, approval, words, after, now)

    def list_owed(self, approval: Approval) -> list[control.HoldMessage]:
        """Return the rule of an answered proposal while the gateway has not confirmed it."""
        kept = read_kept(approval)
        return [_rule_of(approval, kept)] if RULE in kept.owed else []

    def _tell(
        self, connection: sqlite3.Connection, approval: Approval, note: tuple[str, str], after: Aftermath, now: int
    ) -> None:
        """Tell the agent that asked; an answer wakes it, an end by time rides along with its next message."""
        if approval.session is None:
            return
        status, words = note
        goes_on = status != "expired"
        said = SystemIn(REQUEST_ACCESS, status, words, now)
        tell_agent(connection, self._tables, approval.session, said, trigger=goes_on)
        if goes_on:
            after.wake[SessionId(approval.session)] = None


def read_kept(approval: Approval) -> Kept:
    """Return the payload of a question about egress."""
    return msgspec.json.decode(approval.payload, type=Kept)


def write_kept(kept: Kept) -> str:
    """Serialise for the `payload` column."""
    return msgspec.json.encode(kept).decode()


def _card_text(access: Access, reason: str) -> str:
    calls = f"The calls: {one_line(describe_access(access), MOST_TEXT)}"
    lines = [calls, explain_patterns(access.paths), f"Why, in its words: {reason}", "No key is put on these calls."]
    return "\n".join(line for line in lines if line)


def _access_of(proposal: Proposal) -> Access:
    return Access(proposal.host, tuple(proposal.methods), tuple(proposal.paths))


def _rule_of(approval: Approval, kept: Kept) -> control.AddRule:
    proposal = msgspec.json.decode(kept.payload, type=Proposal)
    access = _access_of(proposal)
    return control.AddRule(approval.id, proposal.folder, access.host, access.methods, access.paths, kept.actor)
