"""7 collect: what a box wrote becomes deliveries, outcomes and requests, in one store transaction.

In: typed rows of a run's outbound.db (sandbox/wire.py parsed them).
Out: how far it was applied, and the aftermath: chats with news, lanes to deliver, answers to requests.
Writes: `outbox`, `inbox` (claimed -> done, guarded by run and attempt), `sessions` (counters, continuation).
Never: applies a row of a run that is over (a zombie's file is nobody's); lets an agent name a chat it may not send to.
Fails: StaleClaim for a zombie; AgentFault for what no honest runner writes; then nothing is applied.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from nanoclaw.contract.message import InKind, SystemIn, chat_from_json
from nanoclaw.domain.turn import Outcome, TurnEnd, TurnFacts, decide_turn_end
from nanoclaw.domain.verdict import Deny
from nanoclaw.domain.wiring import Rule
from nanoclaw.flow.aftermath import Aftermath
from nanoclaw.flow.agents import Agents, Letter
from nanoclaw.flow.files import NOTHING_TAKEN, Taken, files_from_json
from nanoclaw.flow.requests import Caller, Requests, tell_agent
from nanoclaw.sandbox.mailbox import Outbound
from nanoclaw.sandbox.wire import AckState, OutAck, OutChat, OutMessage, OutRequest
from nanoclaw.store.audit import Entry
from nanoclaw.store.inbox import Claim, ClaimedRow, RowPlace
from nanoclaw.store.outbox import Lane, NewDelivery
from nanoclaw.store.tables import Tables

NOT_SENT = "Your message{to} was not sent: {why}."
NO_DESTINATION = Deny("no_destination", "you may not send there, or no such destination exists")
NO_FILES_THERE = "files can be sent to agents; sending them to chats comes later"


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
    claimed: int = 0  # rows the run has still to answer
    finished: int = 0  # rows that ended
    message: int = 0
    ack: int = 0
    more_work: bool = False
    spent: list[str] = field(default_factory=list[str])  # kept files (flow/files.py) that nobody needs any more


@dataclass(frozen=True, slots=True)
class Said:
    """A message of the agent, the row it answers, and its files."""

    message: OutMessage
    chat: OutChat
    place: RowPlace | None
    taken: Taken


class Collect:
    """Applies what boxes wrote."""

    def __init__(self, tables: Tables, requests: Requests, now_ms: Callable[[], int]) -> None:
        self._tables = tables
        self._requests = requests
        self._agents = Agents(tables)
        self._now_ms = now_ms

    def apply(
        self,
        connection: sqlite3.Connection,
        run: RunKey,
        out: Outbound,
        counters: tuple[int, int],
        taken: Mapping[int, Taken] = NOTHING_TAKEN,
    ) -> Collected:
        """Apply one reading; `counters` are the last applied message seq and ack rowid. Raises StaleClaim.

        `taken` are the files of its messages, which the host has copied out of the box.
        """
        now = self._now_ms()
        done = Collected(message=counters[0], ack=counters[1], more_work=out.more)
        before = {row.seq: row for row in self._tables.inbox.claimed(connection, run.session, run.fence)}
        for message in out.messages:
            self._take_message(connection, run, (message, taken.get(message.seq, Taken())), done)
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

    def _take_message(
        self, connection: sqlite3.Connection, run: RunKey, wrote: tuple[OutMessage, Taken], done: Collected
    ) -> None:
        message, taken = wrote
        place = None
        if message.reply_to is not None:
            place = self._tables.inbox.place(connection, run.session, message.reply_to)
            if place is not None and place.run != run.fence:
                place = None  # a row of an earlier run: nobody waits for this one's words about it
        match message.body:
            case OutChat():
                self._take_chat(connection, run, Said(message, message.body, place, taken), done)
            case OutRequest():
                caller = Caller(run.session, run.fence, run.agent_group, message.seq, run.chat, place)
                self._requests.handle(connection, caller, message.body, done.after, self._now_ms())

    def _take_chat(self, connection: sqlite3.Connection, run: RunKey, said: Said, done: Collected) -> None:
        chat, now = said.chat, self._now_ms()
        letter = self._letter(connection, run, said)
        target = self._find_target(connection, run, said)
        for why in said.taken.left_out:
            self._tell(connection, run, f"This file of your message{_to(chat)} was left out. {why}.")
        match target:
            case ("asker", _):
                verdict = self._agents.answer(connection, letter, done.after, now)
            case ("agent", group):
                verdict = self._agents.write(connection, letter, group, done.after, now)
            case ("channel", place_id):
                self._send(connection, run, (said, place_id), done)
                return
            case _:
                verdict = NO_DESTINATION
        if isinstance(verdict, Deny):
            done.spent += [file.path for file in said.taken.files]
            self._tables.audit.append(
                connection,
                Entry(now, "message.refused", f"session:{run.session}", run.agent_group, "deny", verdict.reason),
            )
            self._tell(connection, run, NOT_SENT.format(to=_to(chat), why=verdict.words))

    def _letter(self, connection: sqlite3.Connection, run: RunKey, said: Said) -> Letter:
        """Return what was said as a letter: a box may name the wrong row or none, the host knows what it works on."""
        work = self._tables.inbox.find_work(connection, run.session, run.fence)
        chat, place = said.chat, said.place or work
        hops = work.hops if work is not None else 0
        return Letter(
            run.session, run.agent_group, said.message.turn, place, chat.text, chat.notice, said.taken.files, hops
        )

    def _send(self, connection: sqlite3.Connection, run: RunKey, what: tuple[Said, str], done: Collected) -> None:
        said, target = what
        chat, place = said.chat, said.place
        if said.taken.files:
            done.spent += [file.path for file in said.taken.files]
            self._tell(connection, run, f"The files of your message{_to(chat)} were left out: {NO_FILES_THERE}.")
        thread = place.thread if place is not None and target == (place.chat or run.chat) else None
        self._tables.outbox.add(
            connection,
            NewDelivery(
                session=run.session,
                run=run.fence,
                seq=said.message.seq,
                turn=said.message.turn,
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

    def _find_target(self, connection: sqlite3.Connection, run: RunKey, said: Said) -> tuple[str, str] | None:
        """Return (`channel`, `agent` or `asker`, id) of where words go; None: nowhere."""
        place = said.place
        if said.chat.to is not None:
            return self._tables.chats.find_destination(connection, run.agent_group, said.chat.to)
        if place is not None and place.return_session is not None:
            return "asker", place.return_session
        chat = place.chat if place is not None and place.chat is not None else run.chat
        return None if chat is None else ("channel", chat)

    def _tell(self, connection: sqlite3.Connection, run: RunKey, words: str) -> None:
        tell_agent(connection, self._tables, run.session, SystemIn("send_message", "refused", words, self._now_ms()))

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
        place = self._tables.inbox.place(connection, claim.session, row.seq)
        end = self._decide_end(connection, claim, (row, turn), place)
        outcome = end.outcome if row.trigger else Outcome.SILENT
        if not self._tables.inbox.finish(connection, claim, turn, outcome, now):
            return
        done.finished += 1
        done.spent += [file.path for file in files_from_json(row.files)]
        if row.chat is not None:
            done.after.chats[row.chat] = None
        if end.words and row.trigger:
            self.say(connection, claim, (row, end.words), done)

    def _decide_end(
        self, connection: sqlite3.Connection, claim: Claim, what: tuple[ClaimedRow, str], place: RowPlace | None
    ) -> TurnEnd:
        """Decide how a row ended, from what was said in its turn to whoever waits for it."""
        row, turn = what
        said, noticed = self._tables.outbox.what_was_said(connection, claim.session, turn, row.id)
        written = self._tables.inbox.what_was_written(connection, claim.session, turn, row.id)
        to_agent = place is not None and place.return_session is not None
        facts = TurnFacts(
            said=written.answers > 0 if to_agent else said,
            noticed=written.notes > 0 if to_agent else noticed,
            is_group=row.is_group and not to_agent,
            is_mention=row.is_mention or row.routed_by == Rule.NAME,
            is_command=_is_command(row),
            is_waiting=written.asked > 0,
        )
        if not facts.said and not facts.noticed and not facts.is_waiting:
            state = self._tables.inbox.conversation(connection, claim.session, row.id)
            facts = replace(facts, is_waiting=state.waits, was_heard=state.heard)
        return decide_turn_end(facts)

    def say(self, connection: sqlite3.Connection, claim: Claim, what: tuple[ClaimedRow, str], done: Collected) -> None:
        """Queue the host's own words in answer to a row: in its chat, or for the agent that asked."""
        row, words = what
        place = self._tables.inbox.place(connection, claim.session, row.seq)
        if place is not None and place.return_session is not None:
            group = self._tables.sessions.get(connection, claim.session).agent_group
            letter = Letter(claim.session, group, "", place, words)
            self._agents.end_without_answer(connection, letter, done.after, self._now_ms())
            return
        if row.chat is None:
            return
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


def _to(chat: OutChat) -> str:
    return f" to {chat.to!r}" if chat.to is not None else ""


def _is_command(row: ClaimedRow) -> bool:
    return row.kind == InKind.CHAT and row.content is not None and chat_from_json(row.content).command
