"""7f approvals: a question is put to people, answered once by one who may, and ends visibly.

In: what is asked (a stranger, an unknown chat, a request of an agent, its question to a person) and people's answers.
Out: cards for whoever may answer; the words for whoever did; what each kind of question does at its end.
Writes: `approvals`, `audit`; the cards, and what the kinds write; in the caller's transaction.
Never: takes an answer from somebody who may not give it now; ends a question twice; keeps the words of a stranger
once it is decided about them.
Fails: Refused by what an answer does: nothing of it happened, the question stays open and the person is told why.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from nanoclaw.channels.base import ClickAnswer
from nanoclaw.domain.approval import TEXT_MS, ApprovalKind, ApprovalState, decide_answer, decide_end_state
from nanoclaw.domain.card import Option
from nanoclaw.domain.people import Standing, UserId
from nanoclaw.domain.verdict import Allow, Deny
from nanoclaw.errors import Refused
from nanoclaw.flow.aftermath import Aftermath
from nanoclaw.flow.cards import Cards
from nanoclaw.store.approvals import Approval, Ended, NewApproval, Words
from nanoclaw.store.audit import Entry
from nanoclaw.store.db import savepoint
from nanoclaw.store.tables import Tables

GONE = "This question is not there any more."
HELD = (ApprovalKind.UNKNOWN_SENDER, ApprovalKind.UNKNOWN_CHAT)  # keep a stranger's message while they are open
NOTHING = "{}"  # the payload that is left of them
VERBS = {ApprovalState.APPROVED: "Approved", ApprovalState.DENIED: "Denied"}


@dataclass(frozen=True, slots=True)
class Answer:
    """Somebody's answer. `by` None: nobody we know; `operator`: who sits at the host's own admin socket.

    `chat` is where it was given (None: not in a chat), `message` the platform's id of a typed one.
    """

    approval: str
    value: str
    by: UserId | None
    text: str = ""
    operator: bool = False
    chat: str | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True)
class End:
    """How a question has just ended. `option` None: it expired, and `by` is nobody."""

    approval: Approval
    state: ApprovalState
    option: Option | None = None
    text: str = ""
    by: UserId | None = None
    name: str = ""


class Ending(Protocol):
    """What the end of one kind of question does."""

    def __call__(self, connection: sqlite3.Connection, end: End, after: Aftermath, now: int) -> str:
        """Do it, and return words for whoever answered ('' = nothing to add). Raises Refused: it stays open."""
        ...


class Approvals:
    """Opens questions, takes answers, ends what nobody answers. `endings` is set by flow/asking.py."""

    def __init__(self, tables: Tables, cards: Cards) -> None:
        self._tables = tables
        self._cards = cards
        self.endings: Mapping[ApprovalKind, Ending] = {}

    def open(self, connection: sqlite3.Connection, new: NewApproval, now: int) -> Approval:
        """Open a question; who puts it has looked for one on the same subject, and sends its cards."""
        approval = self._tables.approvals.add(connection, new, now)
        asker = f"session:{new.session}" if new.session else "host"
        self._audit(connection, "approval.opened", asker, approval, ("ask", approval.kind), now)
        return approval

    def decide(self, connection: sqlite3.Connection, answer: Answer, after: Aftermath, now: int) -> ClickAnswer:
        """Take an answer: the first one of somebody who may give it counts; everybody's cards say so."""
        approval = self._tables.approvals.find(connection, answer.approval)
        if approval is None:
            return ClickAnswer(GONE, taken=False)
        verdict = self._judge(connection, approval, answer)
        if isinstance(verdict, Deny):
            self._audit(connection, "card.refused", _actor(answer), approval, ("deny", verdict.reason), now)
            return ClickAnswer(verdict.words, taken=False)
        if approval.state is ApprovalState.OPEN and (why := self._find_end(connection, approval, now)):
            self._expire(connection, approval, why, after, now)
            return ClickAnswer(why, taken=False)
        if approval.state is not ApprovalState.OPEN:
            return ClickAnswer(f"This was decided before. {self.describe_end(connection, approval)}", taken=False)
        option = next((option for option in approval.options if option.value == answer.value), None)
        if option is None:
            return ClickAnswer("That is not one of the answers.", taken=False)
        if option.takes_text and not answer.text.strip():
            return self._ask_for_words(connection, approval, answer, now)
        return self._end(connection, approval, (answer, option), after, now)

    def expire(self, connection: sqlite3.Connection, after: Aftermath, now: int) -> int:
        """End the questions whose life is over; return how many."""
        expired = self._tables.approvals.list_expired(connection, now)
        for approval in expired:
            self._expire(connection, approval, "Expired: nobody answered in time.", after, now)
        return len(expired)

    def expire_group(self, connection: sqlite3.Connection, agent_group: str, after: Aftermath, now: int) -> None:
        """End the open questions of an agent group that is put away."""
        for approval in self._tables.approvals.list_of_group(connection, agent_group):
            self._expire(connection, approval, "Expired: the assistant was put away.", after, now)

    def describe_end(self, connection: sqlite3.Connection, approval: Approval) -> str:
        """Return how a question ended, in a sentence; '' while it is open."""
        if approval.state is ApprovalState.OPEN:
            return ""
        if approval.state is ApprovalState.EXPIRED:
            return "It has expired."
        name = self._tables.people.name_of(connection, approval.answered_by)
        return describe_answer(approval, approval.state, approval.answer, name)

    def _judge(self, connection: sqlite3.Connection, approval: Approval, answer: Answer) -> Allow | Deny:
        if answer.operator:
            return Allow("operator")
        standing = Standing.STRANGER
        if answer.by is not None:
            standing = self._tables.people.standing(connection, answer.by, approval.agent_group)
        is_asked = approval.kind is ApprovalKind.QUESTION and answer.by is not None and approval.asked == answer.by
        return decide_answer(standing, is_asked=is_asked)

    def _find_end(self, connection: sqlite3.Connection, approval: Approval, now: int) -> str:
        """Return why an open question cannot be answered any more; '' when it can."""
        if approval.expires_at <= now:
            return "Expired: nobody answered in time."
        if approval.agent_group is None:
            return ""
        group = self._tables.groups.get(connection, approval.agent_group)
        return f"Expired: {group.name} was put away." if group.archived_at is not None else ""

    def _ask_for_words(
        self, connection: sqlite3.Connection, approval: Approval, answer: Answer, now: int
    ) -> ClickAnswer:
        if answer.chat is None or answer.by is None:
            return ClickAnswer("That answer needs a text as well: a name.", taken=False)
        words = Words(answer.by, answer.chat, answer.value, now + TEXT_MS)
        self._tables.approvals.set_words(connection, approval.id, words, answer.message)
        return ClickAnswer("Write the name here, in a message of its own, or `cancel`.", taken=False)

    def _end(
        self,
        connection: sqlite3.Connection,
        approval: Approval,
        what: tuple[Answer, Option],
        after: Aftermath,
        now: int,
    ) -> ClickAnswer:
        answer, option = what
        state = decide_end_state(approval.kind, option.value)
        name = self._tables.people.name_of(connection, answer.by) if answer.by else "the operator"
        end = End(approval, state, option, answer.text.strip(), answer.by, name)
        done = Aftermath()
        try:
            with savepoint(connection):
                self._close(connection, end, answer.message, done, now)
                words = self.endings[approval.kind](connection, end, done, now)
        except Refused as error:
            return ClickAnswer(f"{error.reason} The question stays open.", taken=False)
        after.add(done)
        self._cards.end(connection, approval, describe_answer(approval, state, option.label, name), after, now)
        self._audit(connection, f"approval.{state}", _actor(answer), approval, ("allow", option.value), now)
        return ClickAnswer(words or describe_answer(approval, state, option.label, name), taken=True)

    def _expire(
        self, connection: sqlite3.Connection, approval: Approval, words: str, after: Aftermath, now: int
    ) -> None:
        end = End(approval, ApprovalState.EXPIRED)
        self._close(connection, end, None, after, now)
        self.endings[approval.kind](connection, end, after, now)
        self._cards.end(connection, approval, words, after, now)
        self._audit(connection, "approval.expired", "host", approval, ("deny", approval.kind), now)

    def _close(self, connection: sqlite3.Connection, end: End, message: str | None, after: Aftermath, now: int) -> None:
        approval = end.approval
        held = approval.kind in HELD
        label = end.option.label if end.option else ""
        ended = Ended(end.state, NOTHING if held else approval.payload, label, end.by, message)
        if not self._tables.approvals.end(connection, approval.id, ended, now):
            raise Refused("This was decided a moment ago.")
        after.scrub = after.scrub or held

    def _audit(
        self, connection: sqlite3.Connection, event: str, actor: str, approval: Approval, why: tuple[str, str], now: int
    ) -> None:
        verdict, reason = why
        self._tables.audit.append(connection, Entry(now, event, actor, approval.id, verdict, reason))


def describe_answer(approval: Approval, state: ApprovalState, label: str, name: str) -> str:
    """Return who answered what, in a sentence."""
    if approval.kind is ApprovalKind.QUESTION:
        return f"Answered by {name}: {label}."
    verb = VERBS[state]
    return f"{verb} by {name}." if len(approval.options) == 2 else f"{verb} by {name}: {label}."


def _actor(answer: Answer) -> str:
    if answer.operator:
        return "operator"
    return f"user:{answer.by}" if answer.by else "stranger"
