"""7i questions: what an agent asks the person it works for, with options to choose from.

In: `ask_user_question` of an agent; later the answer of that person or of an approver.
Out: a card in the chat where the agent was spoken to; the answer for the tool that waits, or a note for the next turn.
Writes: `approvals`, the card, notes to the agent, in the caller's transaction.
Never: asks in a chat that the agent does not answer in; takes an answer from anybody else in that chat.
Fails: bad arguments and a session without a chat are refused with words for the agent.
"""

from __future__ import annotations

import hashlib
import sqlite3

import msgspec

from nanoclaw.contract.message import SystemIn, ToolAnswer
from nanoclaw.domain.approval import LIFE_MS, ApprovalKind
from nanoclaw.domain.card import Option, one_line
from nanoclaw.domain.session import RunState
from nanoclaw.flow.aftermath import Aftermath, AnswerTo
from nanoclaw.flow.agent_requests import ENOUGH, AgentRequests
from nanoclaw.flow.approvals import Approvals, End
from nanoclaw.flow.cards import CardPlace, Cards
from nanoclaw.flow.requests import Caller, tell_agent
from nanoclaw.store.approvals import Approval, NewApproval, Wait
from nanoclaw.store.tables import Tables

ASK_USER = "ask_user_question"
MOST_OPTIONS = 10
MOST_LABEL = 64
MOST_TITLE = 100
MOST_QUESTION = 2_000
MOST_SECONDS = 3_600
DEFAULT_SECONDS = 300
NO_CHAT = "There is no chat to ask in: this work came from another agent or the host. Say in your answer what is open."
TIMED_OUT = "Nobody has answered yet. Go on without it; an answer that comes later is told to you."


class _Option(msgspec.Struct, forbid_unknown_fields=True):
    label: str
    value: str = ""


class _Question(msgspec.Struct, forbid_unknown_fields=True):
    question: str
    options: list[str | _Option]
    title: str = ""
    timeout_seconds: float = DEFAULT_SECONDS


class Questions:
    """Puts agents' questions to people."""

    def __init__(self, tables: Tables, approvals: Approvals, cards: Cards, requests: AgentRequests) -> None:
        self._tables = tables
        self._approvals = approvals
        self._cards = cards
        self._requests = requests

    def ask(
        self, connection: sqlite3.Connection, caller: Caller, arguments: str, after: Aftermath, now: int
    ) -> ToolAnswer | None:
        """Put the question; None: the answer comes later, at the latest when the time is over."""
        try:
            question = msgspec.json.decode(arguments, type=_Question)
        except msgspec.MsgspecError as error:
            return ToolAnswer("refused", f"ask_user_question needs a question and options: {error}.")
        options = tuple(_option(item) for item in question.options)
        if fault := find_fault(question.question, question.title, options):
            return ToolAnswer("refused", fault)
        chat = self._find_chat(connection, caller)
        if chat is None:
            return ToolAnswer("refused", NO_CHAT)
        seconds = min(max(question.timeout_seconds, 1.0), float(MOST_SECONDS))
        wait = Wait(caller.fence, caller.seq, now + int(seconds * 1000))
        digest = hashlib.sha256(f"{question.question}\n{options}".encode()).hexdigest()[:16]
        subject = f"{caller.session}:{digest}"
        known = self._tables.approvals.find_open(connection, ApprovalKind.QUESTION, subject)
        if known is not None:  # the attempt before this one asked it, and its box is gone
            self._tables.approvals.set_wait(connection, known.id, wait)
            return None
        if self._requests.is_over_limit(connection, (caller.session, caller.agent_group), now):
            return ToolAnswer("refused", ENOUGH)
        group = self._tables.groups.get(connection, caller.agent_group)
        title = one_line(question.title, MOST_TITLE)
        new = NewApproval(
            kind=ApprovalKind.QUESTION,
            subject=subject,
            title=f"{group.name} asks: {title}" if title else f"{group.name} asks",
            text=question.question,
            options=options,
            payload="{}",
            expires_at=now + LIFE_MS,
            agent_group=caller.agent_group,
            session=caller.session,
            chat=chat,
            asked=caller.place.user if caller.place else None,
            wait=wait,
        )
        self._put(connection, self._approvals.open(connection, new, now), caller, after, now)
        return None

    def decided(self, connection: sqlite3.Connection, end: End, after: Aftermath, now: int) -> str:
        """Give the answer to the tool that waits; to one that does not any more, as a note for the next turn."""
        approval = end.approval
        if approval.session is None:
            return ""
        if end.option is None:
            answer = ToolAnswer("expired", f"Nobody answered in time: {approval.text}")
        else:
            answer = ToolAnswer("done", end.option.value)
        wait = approval.wait
        if wait is not None and self._is_waiting(connection, approval.session, wait):
            after.answers.append(AnswerTo(approval.session, wait.fence, wait.seq, answer))
        else:
            words = answer.text if end.option is None else f"{end.name} answered {end.option.value!r}: {approval.text}"
            tell_agent(connection, self._tables, approval.session, SystemIn(ASK_USER, answer.status, words, now))
        return ""

    def give_up_waits(self, connection: sqlite3.Connection, after: Aftermath, now: int) -> int:
        """Tell the tools that have waited long enough; their questions stay open. Returns how many."""
        waited = self._tables.approvals.list_waited_for(connection, now)
        for approval in waited:
            self._tables.approvals.set_wait(connection, approval.id, None)
            if approval.session is not None and approval.wait is not None:
                answer = ToolAnswer("expired", TIMED_OUT)
                after.answers.append(AnswerTo(approval.session, approval.wait.fence, approval.wait.seq, answer))
        return len(waited)

    def _put(
        self, connection: sqlite3.Connection, approval: Approval, caller: Caller, after: Aftermath, now: int
    ) -> None:
        place, chat = caller.place, approval.chat
        if chat is None:
            return
        thread = place.thread if place is not None and place.chat == chat else None
        row = place.id if place is not None else None
        where = CardPlace(chat, thread, approval.asked, caller.session, caller.fence, row)
        self._cards.send(connection, approval, where, after, now)

    def _find_chat(self, connection: sqlite3.Connection, caller: Caller) -> str | None:
        """Return the chat of the row being worked on, if the agent answers there itself; else the session's own."""
        place = caller.place
        if place is not None and place.return_session is not None:
            return None  # what another agent asked: the person's chat is that one's to write to
        chat = place.chat if place is not None and place.chat is not None else caller.chat
        if chat is None or not self._tables.chats.destination_name(connection, caller.agent_group, chat):
            return None
        return chat

    def _is_waiting(self, connection: sqlite3.Connection, session: str, wait: Wait) -> bool:
        found = self._tables.sessions.get(connection, session)
        return found.fence == wait.fence and found.run_state is not RunState.OVER


def find_fault(question: str, title: str, options: tuple[Option, ...]) -> str:
    """Return what is wrong with a question, in a sentence; '' when nothing is."""
    if not question.strip() or len(question) > MOST_QUESTION or len(title) > MOST_TITLE:
        return f"A question has 1 to {MOST_QUESTION} characters, its title at most {MOST_TITLE}."
    if not 1 <= len(options) <= MOST_OPTIONS:
        return f"A question has 1 to {MOST_OPTIONS} options."
    if any(not option.label or len(option.value) > MOST_LABEL for option in options):
        return f"An option has 1 to {MOST_LABEL} characters, on one line."
    if len({option.value for option in options}) < len(options):
        return "Two options are the same."
    return ""


def _option(item: str | _Option) -> Option:
    label, value = (item, item) if isinstance(item, str) else (item.label, item.value or item.label)
    return Option(value, one_line(label, MOST_LABEL))
