"""7d agents: what an agent writes to another becomes a row of a session of its own there; the answer comes back.

In: a letter (what an agent said, in which turn, working on which row), and where it goes.
Out: Allow, or Deny with words for the agent that wrote it; the sessions to wake.
Writes: `sessions` (one for each asking session), `inbox`; `outbox` (a notice to an owner), in the caller's transaction.
Never: mixes two asking conversations; lets two agents write to each other without end; leaves an asker waiting for
one that has ended.
Fails: with the transaction.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, replace

from nanoclaw.contract.mailbox import ATTACHMENTS, IN_DIRECTORY
from nanoclaw.contract.message import Attachment, ChatIn, InKind, SystemIn, to_json
from nanoclaw.domain.session import SessionId
from nanoclaw.domain.turn import InboxState
from nanoclaw.domain.verdict import Allow, Deny
from nanoclaw.domain.wiring import SessionMode
from nanoclaw.flow.aftermath import Aftermath
from nanoclaw.flow.files import StoredFile, files_to_json
from nanoclaw.store.chats import decide_local_name
from nanoclaw.store.groups import AgentGroup
from nanoclaw.store.inbox import NewRow, RowPlace
from nanoclaw.store.outbox import Lane, NewDelivery
from nanoclaw.store.tables import Tables

MOST_HOPS = 8  # agents that the words of one person may pass (issue 3, item 5)
MOST_WRITTEN = 30  # messages between two agent groups ...
WINDOW_MS = 10 * 60 * 1000  # ... in ten minutes

STOPPED = Deny("turn_stopped", "what you were asked was stopped, so nobody waits for it")
ASKED, ANSWERED, NOTED, LIMITED = "agent", "agent-answer", "agent-note", "agent-limit"  # inbox.routed_by


@dataclass(frozen=True, slots=True)
class Letter:
    """What an agent wrote. `place` is the row it answers, `hops` how many agents what it works on had passed.

    `notice`: words of the harness in it.
    """

    session: str
    agent_group: str
    turn: str
    place: RowPlace | None
    text: str
    notice: bool = False
    files: tuple[StoredFile, ...] = ()
    hops: int = 0


def decide_letter(hops: int, written: int) -> Allow | Deny:
    """Decide whether a letter may go on; `hops` counts it, `written` are those of the pair in the window before it."""
    if hops > MOST_HOPS:
        return Deny("hop_limit", f"these words have passed {MOST_HOPS} agents: no more is passed on")
    if written >= MOST_WRITTEN:
        return Deny("pair_limit", f"the two of you wrote {MOST_WRITTEN} messages in ten minutes: wait before the next")
    return Allow("destination")


class Agents:
    """Carries letters between agents."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def write(
        self, connection: sqlite3.Connection, letter: Letter, target: str, after: Aftermath, now: int
    ) -> Allow | Deny:
        """Ask another agent group, or answer it when it is the one that asked."""
        if letter.place is not None and letter.place.state == InboxState.DEAD:
            return STOPPED
        asker = self._asking_group(connection, letter.place)
        if asker is not None and asker.id == target:
            return self.answer(connection, letter, after, now)
        sender = self._tables.groups.get(connection, letter.agent_group)
        other = self._tables.groups.find(connection, target)
        if other is None or other.archived_at is not None:
            return Deny("agent_gone", "that agent is gone")
        if other.id == sender.id:
            return Deny("self_send", "it is addressed to yourself")
        session = self._tables.sessions.resolve(
            connection, other.id, SessionMode.PER_THREAD, (None, f"agent:{letter.session}"), now
        )
        place = letter.place
        row = NewRow(
            session=session,
            seq=0,
            kind=InKind.CHAT,
            trigger=True,
            message=place.message if place else None,
            routed_by=ASKED,
            sent_by=letter.session,
            sent_for=place.id if place else None,
            sent_turn=letter.turn,
            return_session=letter.session,
            return_row=place.id if place else None,
            hops=max(place.hops if place else 0, letter.hops) + 1,
        )
        verdict = self._admit(connection, (sender, other), row, after, now)
        if isinstance(verdict, Allow):
            self._put(connection, self._chat_row(connection, (sender, other), row, letter, now), after, now)
        return verdict

    def answer(self, connection: sqlite3.Connection, letter: Letter, after: Aftermath, now: int) -> Allow | Deny:
        """Answer the session that asked; whoever asked may be answered, destination or not."""
        asker = self._asking_group(connection, letter.place)
        if letter.place is None or asker is None:
            return Deny("nobody_asked", "nobody waits for it")
        if letter.place.state == InboxState.DEAD:
            return STOPPED
        if asker.archived_at is not None:
            return Deny("agent_gone", f"{asker.name}, who asked, is gone")
        if letter.notice:
            self.end_without_answer(connection, letter, after, now)
            return Allow("answer")
        sender = self._tables.groups.get(connection, letter.agent_group)
        row = self._row_back(connection, letter, letter.place, ANSWERED)
        verdict = self._admit(connection, (sender, asker), row, after, now)
        if isinstance(verdict, Allow):
            self._put(connection, self._chat_row(connection, (sender, asker), row, letter, now), after, now)
        else:  # the asker waits, so it is told each time
            self.end_without_answer(connection, replace(letter, text=verdict.words), after, now)
        return verdict

    def end_without_answer(self, connection: sqlite3.Connection, letter: Letter, after: Aftermath, now: int) -> None:
        """Tell the session that asked that it waits for nothing; the letter's text says why, '' when nobody knows."""
        asker = self._asking_group(connection, letter.place)
        if letter.place is None or asker is None or asker.archived_at is not None:
            return
        name = self._name_of(connection, asker, self._tables.groups.get(connection, letter.agent_group))
        words = f"{name} ended without an answer" + (f": {letter.text}" if letter.text else ".")
        note = to_json(SystemIn("agent", "failed", words, now))
        row = replace(self._row_back(connection, letter, letter.place, NOTED), kind=InKind.SYSTEM, content=note)
        self._put(connection, row, after, now)

    def _admit(
        self,
        connection: sqlite3.Connection,
        pair: tuple[AgentGroup, AgentGroup],
        row: NewRow,
        after: Aftermath,
        now: int,
    ) -> Allow | Deny:
        """Judge a letter by the limits; when one is met first, the other side and an owner are told as well."""
        sender, other = pair
        written, told = self._tables.inbox.count_between(connection, (sender.id, other.id), now - WINDOW_MS)
        verdict = decide_letter(row.hops, written)
        if isinstance(verdict, Deny) and not told:
            words = f"{sender.name} and {other.name} wrote to each other without end, so a message was held back"
            note = SystemIn("agent", "refused", f"{words}: {verdict.words}.", now)
            held = NewRow(
                session=row.session,
                seq=0,
                kind=InKind.SYSTEM,
                trigger=False,
                content=to_json(note),
                routed_by=LIMITED,
                sent_by=row.sent_by,
            )
            self._put(connection, held, after, now)
            tell_owners(connection, self._tables, f"{words}: {verdict.words}.", after, now)
        return verdict

    def _row_back(self, connection: sqlite3.Connection, letter: Letter, place: RowPlace, routed_by: str) -> NewRow:
        """Return a row for whoever asked; where its own answer goes is where that of the asking row went."""
        asked_from = self._tables.inbox.find(connection, place.return_row) if place.return_row else None
        return NewRow(
            session=place.return_session or "",
            seq=0,
            kind=InKind.CHAT,
            trigger=True,
            message=place.message,
            routed_by=routed_by,
            sent_by=letter.session,
            sent_for=place.id,
            sent_turn=letter.turn,
            return_session=asked_from.return_session if asked_from else None,
            return_row=asked_from.return_row if asked_from else None,
            hops=max(place.hops, letter.hops) + 1,
        )

    def _chat_row(
        self,
        connection: sqlite3.Connection,
        pair: tuple[AgentGroup, AgentGroup],
        row: NewRow,
        letter: Letter,
        now: int,
    ) -> NewRow:
        """Return the row with the letter in it, as the agent that gets it sees it."""
        sender, other = pair
        seq = self._tables.sessions.take_seq(connection, row.session, now)
        asked_from = None
        if row.routed_by == ANSWERED and letter.place is not None and letter.place.return_row is not None:
            asked_from = self._tables.inbox.find(connection, letter.place.return_row)
        chat = ChatIn(
            text=letter.text,
            sender=sender.name,
            sender_id=f"agent:{sender.id}",
            origin=self._name_of(connection, other, sender),
            sent_at=now,
            by_agent=True,
            reply_to=asked_from.seq if asked_from else None,
            attachments=decide_attachments(seq, letter.files),
        )
        return replace(row, seq=seq, content=to_json(chat), files=files_to_json(letter.files))

    def _put(self, connection: sqlite3.Connection, row: NewRow, after: Aftermath, now: int) -> None:
        if row.seq == 0:
            row = replace(row, seq=self._tables.sessions.take_seq(connection, row.session, now))
        self._tables.inbox.add(connection, row, now)
        if row.trigger:
            after.wake[SessionId(row.session)] = None

    def _asking_group(self, connection: sqlite3.Connection, place: RowPlace | None) -> AgentGroup | None:
        if place is None or place.return_session is None:
            return None
        session = self._tables.sessions.get(connection, place.return_session)
        return self._tables.groups.get(connection, session.agent_group)

    def _name_of(self, connection: sqlite3.Connection, reader: AgentGroup, named: AgentGroup) -> str:
        """Return what one agent group calls another: its destination of that name, else one made from the name."""
        known = self._tables.chats.find_agent_destination(connection, reader.id, named.id)
        return known or decide_local_name(named.name)


def decide_attachments(seq: int, files: Sequence[StoredFile]) -> tuple[Attachment, ...]:
    """Return where the files that come with message `seq` lie in the box that gets it."""
    folder = f"{IN_DIRECTORY}/{ATTACHMENTS}/{seq}"
    return tuple(Attachment(file.name, f"{folder}/{file.name}", file.bytes) for file in files)


def tell_owners(connection: sqlite3.Connection, tables: Tables, words: str, after: Aftermath, now: int) -> None:
    """Queue a notice in an owner's direct chat; without one it is only in the audit."""
    chat = tables.people.find_owner_chat(connection)
    if chat is None:
        return
    delivery = NewDelivery(
        session=None, run=0, seq=None, turn=None, reply_to=None, chat=chat, thread=None, text=words, notice=True
    )
    tables.outbox.add(connection, delivery, now)
    after.lanes[Lane(None, chat, "")] = None
    after.chats[chat] = None
