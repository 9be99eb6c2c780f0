"""7 collect: what a box wrote becomes deliveries, outcomes and requests, in one store transaction.

In: typed rows of a run's outbound.db (sandbox/wire.py parsed them).
Out: how far it was applied, and the aftermath: chats with news, lanes to deliver, answers to requests.
Writes: `outbox`, `inbox` (claimed -> done, guarded by run and attempt), `sessions` (counters, continuation).
Never: applies a row of a run that is over (a zombie's file is nobody's); lets an agent name a chat it may not send to.
Fails: StaleClaim for a zombie; AgentFault for what no honest runner writes; then nothing is applied.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field

from nanoclaw.contract.message import SystemIn
from nanoclaw.domain.turn import Outcome, TurnFacts, decide_turn_end
from nanoclaw.flow.aftermath import Aftermath
from nanoclaw.flow.requests import Caller, Requests, tell_agent
from nanoclaw.sandbox.mailbox import Outbound
from nanoclaw.sandbox.wire import AckState, OutAck, OutChat, OutMessage, OutRequest
from nanoclaw.store.inbox import Claim, ClaimedRow, RowPlace
from nanoclaw.store.outbox import Lane, NewDelivery
from nanoclaw.store.tables import Tables

NOWHERE = "Your message to {to!r} was not sent: you may not send there, or no such destination exists."


@dataclass(frozen=True, slots=True)
class RunKey:
    """Which run's rows these are."""

    session: str
    fence: int
    agent_group: str
    chat: str | None  # where an answer goes when its trigger names no chat


@dataclass(slots=True)
class Collected:
    """What the transaction did."""

    after: Aftermath = field(default_factory=Aftermath)
    claimed: int = 0  # rows the run still holds
    finished: int = 0  # rows that ended
    message: int = 0
    ack: int = 0
    more_work: bool = False


class Collect:
    """Applies what boxes wrote."""

    def __init__(self, tables: Tables, requests: Requests, now_ms: Callable[[], int]) -> None:
        self._tables = tables
        self._requests = requests
        self._now_ms = now_ms

    def apply(self, connection: sqlite3.Connection, run: RunKey, out: Outbound, counters: tuple[int, int]) -> Collected:
        """Apply one reading; `counters` are the last applied message seq and ack rowid. Raises StaleClaim."""
        now = self._now_ms()
        done = Collected(message=counters[0], ack=counters[1], more_work=out.more)
        before = {row.seq: row for row in self._tables.inbox.claimed(connection, run.session, run.fence)}
        for message in out.messages:
            self._take_message(connection, run, message, done)
            done.message = message.seq
        for ack in out.acks:
            self._take_ack(connection, run, ack, before, done)
            done.ack = ack.rowid
        self._tables.sessions.set_collected(
            connection,
            (run.session, run.fence),
            (done.message, done.ack),
            out.state_of("continuation"),
            now,
        )
        done.claimed = self._tables.inbox.count_claimed(connection, run.session, run.fence)
        return done

    def _take_message(self, connection: sqlite3.Connection, run: RunKey, message: OutMessage, done: Collected) -> None:
        place = None
        if message.reply_to is not None:
            place = self._tables.inbox.place(connection, run.session, message.reply_to)
        match message.body:
            case OutChat():
                self._take_chat(connection, run, (message, message.body, place), done)
            case OutRequest():
                caller = Caller(run.session, run.fence, run.agent_group, message.seq, run.chat, place)
                self._requests.handle(connection, caller, message.body, done.after, self._now_ms())

    def _take_chat(
        self,
        connection: sqlite3.Connection,
        run: RunKey,
        said: tuple[OutMessage, OutChat, RowPlace | None],
        done: Collected,
    ) -> None:
        message, chat, place = said
        origin = place.chat if place is not None and place.chat is not None else run.chat
        target = origin if chat.to is None else self._find_target(connection, run, chat.to)
        if target is None:
            note = SystemIn("send_message", "refused", NOWHERE.format(to=chat.to), self._now_ms())
            tell_agent(connection, self._tables, run.session, note)
            return
        thread = place.thread if place is not None and target == origin else None
        self._tables.outbox.add(
            connection,
            NewDelivery(
                session=run.session,
                run=run.fence,
                seq=message.seq,
                turn=message.turn,
                reply_to=place.id if place else None,
                chat=target,
                thread=thread,
                text=chat.text,
                notice=chat.notice,
            ),
            self._now_ms(),
        )
        done.after.chats[target] = None
        done.after.lanes[Lane(run.session, target, thread or "")] = None

    def _find_target(self, connection: sqlite3.Connection, run: RunKey, name: str) -> str | None:
        found = self._tables.chats.find_destination(connection, run.agent_group, name)
        return found[1] if found is not None and found[0] == "channel" else None

    def _take_ack(
        self,
        connection: sqlite3.Connection,
        run: RunKey,
        ack: OutAck,
        rows: dict[int, ClaimedRow],
        done: Collected,
    ) -> None:
        row = rows.get(ack.seq)
        if row is None or row.attempt != ack.attempt:
            return  # not this run's row, or done already: the guard in SQL would refuse it as well
        claim = Claim(run.session, run.fence, ack.seq, ack.attempt)
        match ack.state:
            case AckState.TAKEN | AckState.FAILED:
                return  # the store knows it as claimed: its turn when it is finished, its fate when the run is over
            case AckState.FINISHED:
                self._finish(connection, claim, (row, ack.turn), done)

    def _finish(
        self, connection: sqlite3.Connection, claim: Claim, what: tuple[ClaimedRow, str], done: Collected
    ) -> None:
        row, turn = what
        now = self._now_ms()
        said, noticed = self._tables.outbox.what_was_said(connection, claim.session, turn, row.id)
        facts = TurnFacts(
            said=said,
            noticed=noticed,
            is_group=row.is_group,
            is_mention=row.is_mention,
        )
        end = decide_turn_end(facts)
        outcome = end.outcome if row.trigger else Outcome.SILENT
        if not self._tables.inbox.finish(connection, claim, turn, outcome, now):
            return
        done.finished += 1
        if row.chat is not None:
            done.after.chats[row.chat] = None
        if end.words and row.trigger and row.chat is not None:
            self.say(connection, claim, (row, end.words), done)

    def say(self, connection: sqlite3.Connection, claim: Claim, what: tuple[ClaimedRow, str], done: Collected) -> None:
        """Queue the host's own words in answer to a row."""
        row, words = what
        if row.chat is None:
            return
        place = self._tables.inbox.place(connection, claim.session, row.seq)
        thread = place.thread if place else None
        self._tables.outbox.add(
            connection,
            NewDelivery(
                session=claim.session,
                run=claim.run,
                seq=None,
                turn=None,
                reply_to=row.id,
                chat=row.chat,
                thread=thread,
                text=words,
                notice=True,
            ),
            self._now_ms(),
        )
        done.after.chats[row.chat] = None
        done.after.lanes[Lane(claim.session, row.chat, thread or "")] = None
