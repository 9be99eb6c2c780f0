"""1 receive: a channel's batch, taken in one transaction; what is accepted is never lost again.

In: batches of `Incoming` with the channel's cursor; presses of buttons.
Out: one `Accepted` for each message, in order; an aftermath: sessions to wake, deliveries to send.
Writes: everything of stages 2 to 4 and the cursor, in one commit.
Never: acknowledges before the commit; accepts the same platform id of a chat twice; keeps a word of a refused message.
Fails: StoreError (StoreFull when the disk is full): nothing was committed, the channel repeats the batch.
"""

from __future__ import annotations

import dataclasses
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from nanoclaw.channels.base import Accepted, Click, ClickAnswer, Incoming
from nanoclaw.clock import Clock
from nanoclaw.domain.people import UserId
from nanoclaw.domain.verdict import Allow, Ask, Deny
from nanoclaw.domain.wiring import UNKNOWN_WORDS, Patterns
from nanoclaw.flow.admit import Sender, judge, record_refusal
from nanoclaw.flow.aftermath import Aftermath
from nanoclaw.flow.commands import parse_command
from nanoclaw.flow.enqueue import Admission, Admitted, enqueue
from nanoclaw.flow.route import Route, find_chat, find_routes, find_sender
from nanoclaw.log import Log
from nanoclaw.store.chats import Chat
from nanoclaw.store.db import Store
from nanoclaw.store.tables import Tables

NOT_WIRED = Deny("no_agent_wired", "No agent is connected to this chat.")
NOT_ENGAGED = Deny("no_agent_engaged", "No agent listens to this message.")
NOT_ASKED = "unknown_sender_not_asked"  # overheard, or another agent of the chat was asked about already
FAILED = "This message could not be handed to the agent; the log of the host says why. Please send it again."


class Asking(Protocol):
    """Asks people, and takes their answers, inside the receiving transaction (flow/approvals.py)."""

    def take_answer(
        self,
        connection: sqlite3.Connection,
        channel: str,
        incoming: Incoming,
        user: UserId | None,
        after: Aftermath,
        now: int,
    ) -> str | None:
        """Return words for the person when a message answered a card or was a pairing code; None: it is a message."""
        ...

    def click(
        self,
        connection: sqlite3.Connection,
        channel: str,
        click: Click,
        user: UserId | None,
        after: Aftermath,
        now: int,
    ) -> ClickAnswer:
        """Take the press of a button."""
        ...

    def ask_about_sender(
        self,
        connection: sqlite3.Connection,
        place: tuple[Chat, str],
        sender: Sender,
        incoming: Incoming,
        after: Aftermath,
        now: int,
    ) -> Deny:
        """Ask about an unknown sender of a chat that asks; `place` is the chat and the agent group they wrote to."""
        ...

    def ask_about_chat(
        self,
        connection: sqlite3.Connection,
        channel: str,
        sender: Sender,
        incoming: Incoming,
        after: Aftermath,
        now: int,
    ) -> Deny:
        """Ask about a direct message or a mention in a chat that no agent is wired to."""
        ...


class NobodyAsked:
    """The closed answer of a host that asks nobody."""

    def take_answer(
        self,
        connection: sqlite3.Connection,
        channel: str,
        incoming: Incoming,
        user: UserId | None,
        after: Aftermath,
        now: int,
    ) -> str | None:
        """Every message is a message."""
        return None

    def click(
        self,
        connection: sqlite3.Connection,
        channel: str,
        click: Click,
        user: UserId | None,
        after: Aftermath,
        now: int,
    ) -> ClickAnswer:
        """No card was ever sent."""
        return ClickAnswer("This question is not open any more.", taken=False)

    def ask_about_sender(
        self,
        connection: sqlite3.Connection,
        place: tuple[Chat, str],
        sender: Sender,
        incoming: Incoming,
        after: Aftermath,
        now: int,
    ) -> Deny:
        """Refuse: there is nobody to ask."""
        return Deny("unknown_sender_nobody_to_ask", UNKNOWN_WORDS)

    def ask_about_chat(
        self,
        connection: sqlite3.Connection,
        channel: str,
        sender: Sender,
        incoming: Incoming,
        after: Aftermath,
        now: int,
    ) -> Deny:
        """Refuse: there is nobody to ask."""
        return NOT_WIRED


@dataclass(frozen=True, slots=True)
class _Taking:
    """One message on its way through the stages."""

    connection: sqlite3.Connection
    sender: Sender
    incoming: Incoming
    after: Aftermath
    now: int

    @property
    def is_called(self) -> bool:
        """Whether whoever wrote it means an agent, by the channel's word: then they are told of a refusal."""
        return self.incoming.is_mention or not self.incoming.is_group


@dataclass(slots=True)
class _Denials:
    """Why some of the agents do not get the message, in order of priority."""

    engaged: list[Deny]
    overheard: list[Deny]

    @property
    def first(self) -> Deny | None:
        """The one that is recorded; one of an agent that was called before one of an agent that only overhears."""
        return next(iter((*self.engaged, *self.overheard)), None)


class Intake:
    """Takes messages of every channel through stages 2 to 4, each inside the caller's transaction."""

    def __init__(self, tables: Tables, asking: Asking, log: Log) -> None:
        self._tables = tables
        self._asking = asking
        self._log = log
        self._patterns = Patterns()

    def take(
        self, connection: sqlite3.Connection, channel: str, incoming: Incoming, after: Aftermath, now: int
    ) -> Accepted:
        """Take a message as a platform gave it: a repetition, an answer to a question, or a message for agents."""
        incoming = decide_clean(incoming)
        chat = self._tables.chats.find(connection, channel, incoming.chat_id)
        if chat is not None:
            known = self._tables.inbound.find(connection, channel, chat.id, incoming.platform_id)
            if known is not None:
                return Accepted(known, fresh=False)
        user = find_sender(connection, self._tables, channel, incoming.sender)
        words = self._asking.take_answer(connection, channel, incoming, user, after, now)
        if words is not None:
            return Accepted("", fresh=True, words=words)
        return self.take_one(connection, channel, incoming, after, now)

    def take_one(
        self, connection: sqlite3.Connection, channel: str, incoming: Incoming, after: Aftermath, now: int
    ) -> Accepted:
        """Take a message for agents; one that some of them have already goes to those who may have it now."""
        incoming, tables = decide_clean(incoming), self._tables
        sender = Sender(channel, incoming.sender, find_sender(connection, tables, channel, incoming.sender))
        chat = find_chat(connection, tables, channel, incoming, now)
        wirings = tables.chats.wirings(connection, chat.id) if chat is not None else []
        taking = _Taking(connection, sender, incoming, after, now)
        if chat is None or not wirings:
            return self._take_unwired(taking, chat)
        routes = find_routes(connection, tables, self._patterns, wirings, incoming)
        admissions, denials = self._judge(taking, chat, routes)
        command = parse_command(incoming.text, [wiring.agent_name for wiring in wirings])
        if command is not None:  # it is nobody's context
            admissions = [admission for admission in admissions if admission.route.trigger]
        if not admissions:
            return self._refuse(taking, chat, denials)
        queued = enqueue(connection, tables, Admitted(incoming, chat, sender, admissions, command), after, now)
        for failure in queued.failures:
            self._log.error("route.failed", agent_group=failure.agent_group, error=failure.error)
        if queued.message == "":
            return Accepted("", fresh=True, refused=FAILED, reason="route_failed")
        denials.engaged += queued.denials
        if (denial := denials.first) is not None:
            record_refusal(connection, tables, sender, (chat.id, queued.message), denial, now)
        return Accepted(queued.message, fresh=True)

    def click(
        self, connection: sqlite3.Connection, channel: str, click: Click, after: Aftermath, now: int
    ) -> ClickAnswer:
        """Take the press of a button."""
        user = find_sender(connection, self._tables, channel, click.sender)
        return self._asking.click(connection, channel, click, user, after, now)

    def _take_unwired(self, taking: _Taking, chat: Chat | None) -> Accepted:
        if not taking.is_called:
            return Accepted("", fresh=True)  # other people's talk: not even counted
        if chat is not None and chat.denied_at is not None:
            denial = Deny("chat_denied")
        else:
            denial = self._asking.ask_about_chat(
                taking.connection, taking.sender.channel, taking.sender, taking.incoming, taking.after, taking.now
            )
        where = taking.incoming.chat_id if chat is None else chat.id
        record_refusal(taking.connection, self._tables, taking.sender, (where, where), denial, taking.now)
        return Accepted("", fresh=True, refused=denial.words, reason=denial.reason)

    def _judge(self, taking: _Taking, chat: Chat, routes: list[Route]) -> tuple[list[Admission], _Denials]:
        """Judge every route, those that only overhear too: a stranger's words are nobody's context."""
        admissions, denials, asked = list[Admission](), _Denials([], []), False
        for route in routes:
            verdict = judge(taking.connection, self._tables, chat, route.wiring, taking.sender)
            if isinstance(verdict, Ask):
                ask = route.trigger and not asked
                verdict = self._ask(taking, chat, route) if ask else Deny(NOT_ASKED)
                asked = asked or ask
            if isinstance(verdict, Allow):
                admissions.append(Admission(route, verdict.rule))
            else:
                (denials.engaged if route.trigger else denials.overheard).append(verdict)
        return admissions, denials

    def _ask(self, taking: _Taking, chat: Chat, route: Route) -> Deny:
        place = (chat, route.wiring.agent_group)
        return self._asking.ask_about_sender(
            taking.connection, place, taking.sender, taking.incoming, taking.after, taking.now
        )

    def _refuse(self, taking: _Taking, chat: Chat, denials: _Denials) -> Accepted:
        denial = denials.first or NOT_ENGAGED
        record_refusal(taking.connection, self._tables, taking.sender, (chat.id, chat.id), denial, taking.now)
        told = taking.is_called or bool(denials.engaged)
        return Accepted("", fresh=True, refused=denial.words if told else "", reason=denial.reason)


class Receiver:
    """The sink of one channel."""

    def __init__(
        self,
        channel: str,
        intake: Intake,
        store: Store,
        tables: Tables,
        clock: Clock,
        log: Log,
        *,
        carry: Callable[[Aftermath], None],
        reached: Callable[[str], None],
    ) -> None:
        self._channel = channel
        self._intake = intake
        self._store = store
        self._tables = tables
        self._clock = clock
        self._log = log.bind(channel=channel)
        self._carry = carry
        self._reached = reached

    async def accept(self, batch: Sequence[Incoming], cursor: str | None = None) -> list[Accepted]:
        """Commit the batch and the cursor; return one Accepted for each message. Raises StoreError."""
        now = self._clock.now_ms()
        self._reached("receive.before_commit")
        taken, after = await self._store.write(lambda connection: self._take(connection, batch, cursor, now))
        self._reached("receive.committed")
        for item in taken:
            if item.reason:
                self._log.info("message.refused", reason=item.reason)
            elif item.fresh and item.message:
                self._log.info("message.accepted", message=item.message)
        self._carry(after)
        return taken

    async def click(self, click: Click) -> ClickAnswer:
        """Take the press of a button. Raises StoreError."""
        now, after = self._clock.now_ms(), Aftermath()
        answer = await self._store.write(
            lambda connection: self._intake.click(connection, self._channel, click, after, now)
        )
        self._carry(after)
        return answer

    def _take(
        self, connection: sqlite3.Connection, batch: Sequence[Incoming], cursor: str | None, now: int
    ) -> tuple[list[Accepted], Aftermath]:
        after = Aftermath()
        taken = [self._intake.take(connection, self._channel, incoming, after, now) for incoming in batch]
        if cursor is not None:
            self._tables.inbound.set_cursor(connection, self._channel, cursor, now)
        return taken, after


def decide_clean(incoming: Incoming) -> Incoming:
    """Return the message without lone surrogates, which no database takes and no channel should let through."""
    texts = {
        field.name: value
        for field in dataclasses.fields(incoming)
        if isinstance(value := getattr(incoming, field.name), str) and not _is_clean(value)
    }
    if not texts:
        return incoming
    clean = {name: value.encode("utf-8", "replace").decode("utf-8") for name, value in texts.items()}
    return dataclasses.replace(incoming, **clean)


def _is_clean(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
