"""3b commands: what people tell the host, or an agent's driver, by an exact first word.

In: an admitted message that engages an agent and whose first word is a command; the session it would reach.
Out: an inbox row that has ended with words for the chat, or one for the agent's driver; runs to end.
Writes: `inbox`, `outbox`, `sessions` (closed), in the caller's transaction.
Never: takes `/clearx` or `/clear.` for `/clear`; lets somebody without the right stop at silence: they are told.
Fails: closed: whoever is not known to the agent group, or not its approver, is refused; the text goes nowhere.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from enum import StrEnum

from nanoclaw.channels.base import Incoming
from nanoclaw.contract.message import ChatIn, InKind, to_json
from nanoclaw.domain.people import Standing
from nanoclaw.domain.session import RunEnd, RunState, SessionId
from nanoclaw.domain.turn import Outcome
from nanoclaw.domain.verdict import Allow, Deny
from nanoclaw.domain.wiring import fold
from nanoclaw.flow.admit import Sender
from nanoclaw.flow.aftermath import Aftermath
from nanoclaw.flow.agents import Agents, Letter
from nanoclaw.flow.route import Route
from nanoclaw.store.chats import Chat
from nanoclaw.store.inbox import Claim, NewRow
from nanoclaw.store.outbox import Lane, NewDelivery
from nanoclaw.store.sessions import Session
from nanoclaw.store.tables import Tables


class CommandName(StrEnum):
    """The commands there are; everything else that begins with a slash is ordinary text."""

    STOP = "/stop"
    STATUS = "/status"
    HELP = "/help"
    CLEAR = "/clear"
    COMPACT = "/compact"
    CONTEXT = "/context"
    COST = "/cost"
    FILES = "/files"


FOR_EVERYBODY_KNOWN = (CommandName.STOP, CommandName.STATUS, CommandName.HELP)
HELP = """\
/status  what {name} is doing
/stop  ends what {name} is doing, and what it has asked of others, at once; the conversation goes on
/help  these lines
For admins of {name} alone:
/clear  begins a new conversation; memory and files stay
/compact  shortens the conversation in memory
/context /cost /files  what the conversation holds, what it cost, which files it knows"""


@dataclass(frozen=True, slots=True)
class Command:
    """A command; `text` is it with its arguments."""

    name: CommandName
    text: str


@dataclass(frozen=True, slots=True)
class Given:
    """A command on its way to one agent's session; `message` is its inbound id, `rule` the gate that let it in."""

    command: Command
    message: str
    incoming: Incoming
    chat: Chat
    sender: Sender
    route: Route
    rule: str
    session: SessionId

    @property
    def agent(self) -> str:
        """The agent's name."""
        return self.route.wiring.agent_name


def parse_command(text: str, names: list[str]) -> Command | None:
    """Return the command a message is, after the name of the agent it may begin with (`@Andy /stop`)."""
    text = _without_name(text.strip(), names)
    if not text.startswith("/"):
        return None
    first, *rest = text.split(None, 1)
    name = next((name for name in CommandName if name == first.lower()), None)
    return None if name is None else Command(name, " ".join((name, *rest)))


def decide_command(name: CommandName, standing: Standing, agent: str) -> Allow | Deny:
    """Decide whether somebody may give a command to an agent."""
    if not standing.is_known:
        return Deny("command_needs_member", f"{name} is for people whom {agent} knows.")
    if name not in FOR_EVERYBODY_KNOWN and not standing.is_approver:
        return Deny("command_needs_admin", f"{name} is for admins of {agent}, and you are not one. /help says more.")
    return Allow(standing.value)


def give_command(
    connection: sqlite3.Connection, tables: Tables, given: Given, after: Aftermath, now: int
) -> Deny | None:
    """Carry out a command for one agent, or hand it to the agent's driver; return why it was refused, if it was."""
    standing = tables.people.standing(connection, given.sender.user, given.route.wiring.agent_group)
    verdict = decide_command(given.command.name, standing, given.agent)
    desk = _Desk(connection, tables, given, after, now)
    if isinstance(verdict, Deny):
        desk.answer(verdict.words, Outcome.REFUSED)
        return verdict
    match given.command.name:
        case CommandName.STOP:
            desk.stop()
        case CommandName.CLEAR:
            desk.clear()
        case CommandName.STATUS:
            desk.answer(desk.describe())
        case CommandName.HELP:
            desk.answer(HELP.format(name=given.agent))
        case CommandName.COMPACT | CommandName.CONTEXT | CommandName.COST | CommandName.FILES:
            desk.pass_on()
    return None


class _Desk:
    """Carries out one command for one agent's session."""

    def __init__(
        self, connection: sqlite3.Connection, tables: Tables, given: Given, after: Aftermath, now: int
    ) -> None:
        self._connection = connection
        self._tables = tables
        self._given = given
        self._after = after
        self._now = now

    def stop(self) -> None:
        """End the running turn; what waits behind it stays, and so does the conversation."""
        session = self._tables.sessions.get(self._connection, self._given.session)
        seq = self._take_seq()
        turn = f"stopped-{seq}"
        working, asked = self._end_turn(session, turn), self._end_asked(session.id)
        if working:
            self._end_run(session, RunEnd.STOPPED_BY_PERSON)
        if working or asked:
            self._answer(seq, f"Stopped, as {self._asker} asked.", turn=turn)
        else:
            self._answer(seq, f"There is nothing to stop. {self.describe()}")

    def clear(self) -> None:
        """Close the session, so that the next message begins a conversation; what waits goes there."""
        session = self._tables.sessions.get(self._connection, self._given.session)
        seq = self._take_seq()
        turn = f"cleared-{seq}"
        working, asked = self._end_turn(session, turn), self._end_asked(session.id)
        stopped = working or asked
        words = f"{self._given.agent} begins a new conversation. Its memory and files are as they were."
        if stopped:
            words = f"Stopped, as {self._asker} asked. {words}"
        self._answer(seq, words, turn=turn if stopped else None)
        self._tables.inbox.end_context(self._connection, session.id, self._now)
        self._tables.sessions.close(self._connection, session.id, self._now)
        self._move_waiting(session)
        self._end_run(session, RunEnd.STOPPED_BY_PERSON if working else RunEnd.IDLE)

    def pass_on(self) -> None:
        """Queue the command for the agent's driver, exactly as it was given."""
        given = self._given
        content = ChatIn(
            text=given.command.text,
            sender=given.incoming.sender_name,
            sender_id=given.incoming.sender,
            origin=self._tables.chats.destination_name(self._connection, given.route.wiring.agent_group, given.chat.id),
            sent_at=given.incoming.sent_at,
            command=True,
        )
        self._add_row(self._take_seq(), content=to_json(content))
        self._after.wake[given.session] = None

    def answer(self, words: str, outcome: Outcome = Outcome.REPLIED) -> None:
        """Answer the command in the host's own words."""
        self._answer(self._take_seq(), words, outcome=outcome)

    def describe(self) -> str:
        """Say whether the agent works, since when, and what waits."""
        work = self._tables.inbox.describe_work(self._connection, self._given.session)
        waiting = f" {_count(work.waiting)} {'wait' if work.waiting != 1 else 'waits'}." if work.waiting else ""
        if work.held == 0:
            return f"{self._given.agent} is idle.{waiting}"
        seconds = max(0, self._now - work.since) // 1000
        return f"{self._given.agent} has worked on {_count(work.held)} for {_duration(seconds)}.{waiting}"

    @property
    def _asker(self) -> str:
        return self._given.incoming.sender_name

    def _take_seq(self) -> int:
        return self._tables.sessions.take_seq(self._connection, self._given.session, self._now)

    def _answer(self, seq: int, words: str, *, outcome: Outcome = Outcome.REPLIED, turn: str | None = None) -> None:
        given = self._given
        row = self._add_row(seq, outcome=outcome, turn=turn)
        self._say(words, (given.chat.id, given.incoming.thread_id), row, turn)

    def _add_row(
        self, seq: int, *, content: str | None = None, outcome: Outcome | None = None, turn: str | None = None
    ) -> str:
        given = self._given
        row = NewRow(
            session=given.session,
            seq=seq,
            kind=InKind.CHAT,
            trigger=True,
            message=given.message,
            wiring=given.route.wiring.id,
            content=content,
            routed_by=given.route.rule,
            admitted_by=given.rule,
            outcome=outcome,
            turn=turn,
        )
        return self._tables.inbox.add(self._connection, row, self._now)

    def _say(self, words: str, place: tuple[str, str | None], reply_to: str, turn: str | None) -> None:
        chat, thread = place
        delivery = NewDelivery(
            session=self._given.session,
            run=0,
            seq=None,
            turn=turn,
            reply_to=reply_to,
            chat=chat,
            thread=thread,
            text=words,
            notice=True,
        )
        self._tables.outbox.add(self._connection, delivery, self._now)
        self._after.chats[chat] = None
        self._after.lanes[Lane(self._given.session, chat, thread or "")] = None

    def _end_turn(self, session: Session, turn: str) -> bool:
        """End every row that the live run holds, here and now: a host that dies next has no turn to take up again."""
        told = {(str(self._given.chat.id), self._given.incoming.thread_id)}
        rows = self._tables.inbox.claimed(self._connection, session.id, session.fence)
        for row in rows:
            claim = Claim(session.id, session.fence, row.seq, row.attempt)
            outcome = Outcome.FAILED if row.trigger else Outcome.SILENT
            place = self._tables.inbox.place(self._connection, session.id, row.seq)
            self._tables.inbox.finish(self._connection, claim, turn, outcome, self._now)
            if row.chat is None or not row.trigger:
                continue
            self._after.chats[row.chat] = None
            where = (row.chat, place.thread if place else None)
            if place is not None and place.return_session is not None:
                letter = Letter(session.id, session.agent_group, turn, place, f"stopped, as {self._asker} asked")
                Agents(self._tables).end_without_answer(self._connection, letter, self._after, self._now)
            elif where not in told:
                told.add(where)
                self._say(f"Stopped, as {self._asker} asked.", where, row.id, None)
        return any(row.trigger for row in rows)

    def _end_asked(self, asker: SessionId) -> bool:
        """End what other agents still do for a session, and those they have asked, and their answers on the way."""
        found = False
        for session in self._tables.sessions.list_asked(self._connection, asker):
            rows = self._tables.inbox.bury_all(self._connection, session.id, self._now)
            answers = self._tables.inbox.bury_answers(self._connection, asker, session.id, self._now)
            for row in rows:
                if row.message is not None:
                    self._tables.inbox.fail_waiting(self._connection, asker, row.message)
            if rows:
                self._end_run(session, RunEnd.STOPPED_BY_PERSON)
            found = self._end_asked(session.id) or bool(rows) or answers > 0 or found
        return found

    def _end_run(self, session: Session, end: RunEnd) -> None:
        if session.run_state in (RunState.STARTING, RunState.RUNNING):
            self._after.end[session.id] = end

    def _move_waiting(self, session: Session) -> None:
        given, sessions = self._given, self._tables.sessions
        waiting = self._tables.inbox.waiting(self._connection, session.id)
        if not waiting:
            return
        mode, thread = given.route.wiring.session_mode, session.thread
        fresh = sessions.resolve(self._connection, session.agent_group, mode, (given.chat.id, thread), self._now)
        for row in waiting:
            seq = sessions.take_seq(self._connection, fresh, self._now)
            self._tables.inbox.move(self._connection, row, fresh, seq)
        self._after.wake[fresh] = None


def _without_name(text: str, names: list[str]) -> str:
    for name in sorted(names, key=len, reverse=True):
        called, rest = text[: len(name) + 1], text[len(name) + 1 :]
        if name and fold(called) == fold("@" + name) and rest[:1].isspace():
            return rest.lstrip()
    return text


def _count(messages: int) -> str:
    return "1 message" if messages == 1 else f"{messages} messages"


def _duration(seconds: int) -> str:
    if seconds < 120:
        return f"{seconds} s"
    return f"{seconds // 60} min" if seconds < 7200 else f"{seconds // 3600} h"
