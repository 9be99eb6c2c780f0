"""7l egress: a call of an agent that waits for a person's word is put to its approvers; the gateway hears the answer.

In: calls the gateway holds, and what it says became of an answer; the answer of an approver.
Out: cards; words for the gateway, said again at each of its starts until it confirms them; notes to agents.
Writes: `approvals`, `audit`, the cards, notes to the agent, in the caller's transaction.
Never: lets more than that one call go by a yes; shows a person less than the whole address; asks again right after a
no.
Fails: nobody to ask, or too many questions: the gateway is told no at once, with words.
"""

from __future__ import annotations

import re
import sqlite3

import msgspec

from nanoclaw.channels.plain_text import one_line
from nanoclaw.contract.message import SystemIn
from nanoclaw.domain.approval import DENY, ApprovalKind, ApprovalState
from nanoclaw.domain.egress import ALLOW_ALWAYS, ALLOW_ONCE, CALL_LIFE_MS, DENIED_MS, GRANT_MS, minutes
from nanoclaw.domain.session import SessionId
from nanoclaw.flow.access import RULE, AccessRequests, Kept, read_kept, write_kept
from nanoclaw.flow.aftermath import Aftermath
from nanoclaw.flow.agent_requests import ENOUGH, AgentRequests
from nanoclaw.flow.approvals import Approvals, End
from nanoclaw.flow.cards import Cards
from nanoclaw.flow.requests import tell_agent
from nanoclaw.gateway import control
from nanoclaw.store.approvals import Approval, NewApproval
from nanoclaw.store.audit import Entry
from nanoclaw.store.tables import Tables

HELD_CALL = "held_call"
ANSWER = "answer"  # owed: the gateway has not said yet that it got the answer
MOST_NAME = 64
MOST_TITLE = 120
MOST_TITLE_NAME, MOST_METHOD, MOST_HOST = 32, 12, 56  # of a title
MOST_FIELD = 4_000
GONE = "This conversation is not there any more, so nobody is asked."
NOBODY = "There is nobody to ask: this home has no owner and no admin."
_BREAKS = re.compile(r"\r\n|[\r\n\x85\u2028\u2029]")


class HeldCall(msgspec.Struct):
    """A call the gateway holds. `path` "": no rule can name it."""

    digest: str
    group: str
    rule: str
    method: str
    host: str
    path: str


class Egress:
    """Puts held calls to people, and their answers to the gateway."""

    def __init__(
        self, tables: Tables, approvals: Approvals, cards: Cards, requests: AgentRequests, access: AccessRequests
    ) -> None:
        self._tables = tables
        self._approvals = approvals
        self._cards = cards
        self._requests = requests
        self._access = access

    def open_hold(self, connection: sqlite3.Connection, held: control.HoldOpened, after: Aftermath, now: int) -> None:
        """Ask about a call; or say no at once: nobody can be asked, or somebody has just said no to this very call."""
        subject = f"{held.group}:{held.digest}"
        known = self._tables.approvals.find_open(connection, ApprovalKind.EGRESS, subject)
        if known is None:
            if refusal := self._find_refusal(connection, held, subject, now):
                no = control.HoldVerdict.DENY
                after.gateway.append(control.HoldDecided(held.digest, held.group, "", no, refusal))
                return
            known = self._approvals.open(connection, self._question(connection, held, subject, now), now)
            self._cards.send_to_approvers(connection, known, after, now)
        after.gateway.append(control.HoldAsked(held.digest, held.group, known.id, known.code))

    def decided(self, connection: sqlite3.Connection, end: End, after: Aftermath, now: int) -> str:
        """Carry the answer to the gateway: to a held call, or to a proposal."""
        kept = read_kept(end.approval)
        if kept.action != HELD_CALL:
            return self._access.decided(connection, end, after, now)
        if end.option is None:
            self._tell(connection, end.approval, ("expired", f"Nobody answered: {end.approval.title}."), after, now)
            return ""
        kept.by, kept.actor = end.name, f"user:{end.by}" if end.by else "operator"
        kept.owed = [ANSWER, RULE] if end.option == ALLOW_ALWAYS else [ANSWER]
        self._tables.approvals.set_payload(connection, end.approval.id, write_kept(kept))
        after.gateway.extend(self._list_messages(connection, end.approval, (kept, end.state), now))
        return ""

    def taken(self, connection: sqlite3.Connection, taken: control.HoldTaken, after: Aftermath, now: int) -> None:
        """The gateway has an answer. Whose call had stopped waiting for it is told, and may make it again."""
        approval, kept = self._find_owed(connection, taken.approval, ANSWER)
        if approval is None or taken.reached:
            return
        call = msgspec.json.decode(kept.payload, type=HeldCall)
        what = f"{call.method} to {call.host}"
        if approval.state is ApprovalState.APPROVED:
            again = f"Make it again now, the same byte for byte, within {minutes(GRANT_MS)} minutes: it goes once."
            self._tell(connection, approval, ("done", f"{kept.by} allowed your call, {what}. {again}"), after, now)
            words = "The call had stopped waiting; the agent is told to make it again."
            self._cards.end(connection, approval, f"Allowed by {kept.by}. {words}", after, now)
        else:
            self._tell(connection, approval, ("refused", f"{kept.by} said no to your call, {what}."), after, now)

    def rule_added(self, connection: sqlite3.Connection, added: control.RuleAdded, after: Aftermath, now: int) -> None:
        """The gateway has made a rule of an answer, or says why it could not."""
        approval, kept = self._find_owed(connection, added.approval, RULE)
        if approval is None:
            return
        verdict, reason = ("deny", "rule_failed") if added.error else ("allow", f"rules {added.generation}")
        self._tables.audit.append(connection, Entry(now, "egress.rule_added", "gateway", approval.id, verdict, reason))
        if kept.action != HELD_CALL:
            self._access.rule_added(connection, approval, added, after, now)
            return
        call = msgspec.json.decode(kept.payload, type=HeldCall)
        if added.error:
            words = f"Allowed once by {kept.by}. No rule was made: {added.error}"
        else:
            words = f"Allowed by {kept.by}, from now on without asking: {call.method} {call.host}{call.path}."
        self._cards.end(connection, approval, words, after, now)

    def tell_again(self, connection: sqlite3.Connection, after: Aftermath, now: int) -> None:
        """A gateway has started: tell it every answer that none has confirmed and that is still of use."""
        for approval in self._tables.approvals.list_owing(connection, ApprovalKind.EGRESS):
            kept = read_kept(approval)
            if kept.action != HELD_CALL:
                after.gateway.extend(self._access.list_owed(approval))
                continue
            ended = approval.ended_at or 0
            if ended + GRANT_MS <= now and ANSWER in kept.owed:
                kept.owed.remove(ANSWER)
                self._tables.approvals.set_payload(connection, approval.id, write_kept(kept))
            after.gateway.extend(self._list_messages(connection, approval, (kept, approval.state), ended))

    def _find_owed(
        self, connection: sqlite3.Connection, approval_id: str, what: str
    ) -> tuple[Approval, Kept] | tuple[None, Kept]:
        """Return a question of which something was owed, and note that it is no longer; None when it was not."""
        approval = self._tables.approvals.find(connection, approval_id)
        if approval is None or approval.kind is not ApprovalKind.EGRESS:
            return None, Kept("", "")
        kept = read_kept(approval)
        if what not in kept.owed:
            return None, kept
        kept.owed.remove(what)
        self._tables.approvals.set_payload(connection, approval.id, write_kept(kept))
        return approval, kept

    def _find_refusal(self, connection: sqlite3.Connection, held: control.HoldOpened, subject: str, now: int) -> str:
        """Return why nobody is asked, in words for the agent; '' when somebody is."""
        session = self._tables.sessions.find(connection, held.session)
        if session is None or session.agent_group != held.group:
            return GONE  # erased while the call was on its way: the gateway may say nothing that stops the host
        denied = self._tables.approvals.find_denied(connection, ApprovalKind.EGRESS, subject, now - DENIED_MS)
        if denied is not None:
            return f"{read_kept(denied).by} said no to this very call a short while ago. Do not make it again now."
        if not self._tables.people.approvers(connection, held.group):
            return NOBODY
        return ENOUGH if self._requests.is_over_limit(connection, (held.session, held.group), now) else ""

    def _question(
        self, connection: sqlite3.Connection, held: control.HoldOpened, subject: str, now: int
    ) -> NewApproval:
        name = one_line(self._tables.groups.get(connection, held.group).name, MOST_NAME)
        call = HeldCall(held.digest, held.group, held.rule, held.method, held.host, held.path)
        what = f"{held.method} {held.host}{held.path}"
        place = self._tables.sessions.get(connection, held.session).chat
        chat = self._tables.chats.get(connection, place) if place else None
        lines = [
            f"The call: {show(held.method)} {show(held.address)}",
            f"What it sends: {show(held.preview)}",
            f"The rule that asks: {show(held.rule)}",
        ]
        if held.path:
            lines.append(f"Always would allow {show(what)} with any query and content.")
        return NewApproval(
            kind=ApprovalKind.EGRESS,
            subject=subject,
            title=_title(name, held),
            text="\n".join(lines),
            options=(ALLOW_ONCE, DENY, ALLOW_ALWAYS) if held.path else (ALLOW_ONCE, DENY),
            payload=write_kept(Kept(HELD_CALL, msgspec.json.encode(call).decode())),
            expires_at=now + CALL_LIFE_MS,
            agent_group=held.group,
            session=held.session,
            chat=chat.id if chat else None,
            channel=chat.channel_type if chat else "",
        )

    def _list_messages(
        self, connection: sqlite3.Connection, approval: Approval, answered: tuple[Kept, ApprovalState], ended: int
    ) -> list[control.HoldMessage]:
        """Return what of an answer the gateway has yet to confirm."""
        kept, state = answered
        call = msgspec.json.decode(kept.payload, type=HeldCall)
        said: list[control.HoldMessage] = []
        if ANSWER in kept.owed and state is ApprovalState.APPROVED:
            words, until = f"allowed once by {kept.by}", ended + GRANT_MS
            yes = control.HoldVerdict.ALLOW
            said.append(control.HoldDecided(call.digest, call.group, approval.id, yes, words, until))
        elif ANSWER in kept.owed:
            no = control.HoldVerdict.DENY
            said.append(
                control.HoldDecided(call.digest, call.group, approval.id, no, f"{kept.by} said no to this call.")
            )
        if RULE in kept.owed:
            folder = self._tables.groups.get(connection, call.group).folder
            rule = (call.host, (call.method,), (call.path,))
            said.append(control.AddRule(approval.id, folder, *rule, kept.actor, call.rule))
        return said

    def _tell(
        self, connection: sqlite3.Connection, approval: Approval, note: tuple[str, str], after: Aftermath, now: int
    ) -> None:
        """Tell the agent that made the call; an answer wakes it, an end by time rides along with its next message."""
        if approval.session is None:
            return
        status, words = note
        goes_on = status != "expired"
        tell_agent(connection, self._tables, approval.session, SystemIn(HELD_CALL, status, words, now), trigger=goes_on)
        if goes_on:
            after.wake[SessionId(approval.session)] = None


def _title(name: str, held: control.HoldOpened) -> str:
    """Return one line in which the end of the host always stands: api.github.com.evil.example is no GitHub."""
    host = held.host if len(held.host) <= MOST_HOST else f"…{held.host[1 - MOST_HOST :]}"
    method = one_line(held.method, MOST_METHOD)
    return one_line(f"{one_line(name, MOST_TITLE_NAME)} wants to call {method} {host}{held.path}", MOST_TITLE)


def show(text: str) -> str:
    """Return text of the agent's as one field of a card: one line, what is hidden made visible, nothing left out."""
    return one_line(_BREAKS.sub(" \u240a ", text), MOST_FIELD)
