"""What waits for agents: one row for each accepted message and wiring; claims with attempt and fence."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from nanoclaw.domain.turn import Outcome
from nanoclaw.errors import StaleClaim
from nanoclaw.store.people import NewId
from nanoclaw.store.sql import Sql

MOST_CLAIMED = 100  # rows claimed at once; the rest follows when these are finished


@dataclass(frozen=True, slots=True)
class NewRow:
    """A row about to be queued. `message` is the inbound id of what a person wrote that began it.

    `content` is set when the box sees something else than that. The last eight are of words of another agent: which
    session sent them, for which of its rows, in which turn, where a plain answer goes (a session and its row; None: the
    chat), how many agents they have passed, which files came with them (JSON).
    """

    session: str
    seq: int
    kind: str
    trigger: bool
    message: str | None = None
    wiring: str | None = None
    content: str | None = None
    routed_by: str = ""
    admitted_by: str = ""
    sent_by: str | None = None
    sent_for: str | None = None
    sent_turn: str | None = None
    return_session: str | None = None
    return_row: str | None = None
    hops: int = 0
    files: str = "[]"
    outcome: Outcome | None = None  # it has ended already: the host itself has answered, in this turn
    turn: str | None = None


@dataclass(frozen=True, slots=True)
class Work:
    """What a session's agent does: trigger rows its run holds, since when (epoch milliseconds), and what waits."""

    held: int
    since: int
    waiting: int


@dataclass(frozen=True, slots=True)
class ClaimedRow:
    """A row a run holds, with what its prompt needs. `sent_at` in epoch milliseconds."""

    id: str
    seq: int
    attempt: int
    failures: int
    kind: str
    trigger: bool
    content: str | None
    message: str | None
    text: str
    sender: str
    sender_name: str
    sent_at: int
    chat: str | None
    is_group: bool
    is_mention: bool
    user: str | None
    routed_by: str = ""
    sent_by: str | None = None  # the session of the agent that wrote it
    files: str = "[]"
    task: str | None = None  # of which it is one firing


@dataclass(frozen=True, slots=True)
class RowPlace:
    """Where the answer to a row goes."""

    id: str
    attempt: int
    state: str
    run: int | None
    message: str | None
    chat: str | None
    thread: str | None
    return_session: str | None = None
    return_row: str | None = None
    hops: int = 0
    user: str | None = None  # the person whose message began it
    session: str = ""
    seq: int = 0
    sent_by: str | None = None  # the session of the agent that wrote it


@dataclass(frozen=True, slots=True)
class Written:
    """What an agent wrote to other agents in a turn or for a row. `asked`: questions that nobody has ended yet."""

    answers: int
    notes: int
    asked: int


@dataclass(frozen=True, slots=True)
class Conversation:
    """What a row led to: some of it is under way; whoever waits for this session's answer has heard something."""

    waits: bool
    heard: bool


@dataclass(frozen=True, slots=True)
class Claim:
    """The guard of every change a run asks for."""

    session: str
    run: int
    seq: int
    attempt: int


class Inbox:
    """The only writer of `inbox`."""

    def __init__(self, new_id: NewId) -> None:
        self._sql = Sql("inbox.sql")
        self._new_id = new_id

    def add(self, connection: sqlite3.Connection, row: NewRow, now: int) -> str:
        """Queue a row; return its id."""
        row_id = self._new_id()
        self._sql.change(
            connection,
            "insert_row",
            id=row_id,
            inbound_id=row.message,
            session_id=row.session,
            wiring_id=row.wiring,
            seq=row.seq,
            kind=row.kind,
            trigger=int(row.trigger),
            content=row.content,
            routed_by=row.routed_by,
            admitted_by=row.admitted_by,
            from_session_id=row.sent_by,
            from_inbox_id=row.sent_for,
            from_turn=row.sent_turn,
            return_session_id=row.return_session,
            return_inbox_id=row.return_row,
            hops=row.hops,
            files=row.files,
            outcome=row.outcome,
            turn=row.turn,
            now=now,
        )
        return row_id

    def claim(self, connection: sqlite3.Connection, session: str, run: int, now: int) -> int:
        """queued -> claimed for a run, in order; return how many."""
        return self._sql.change(connection, "claim_rows", session_id=session, run=run, now=now, most=MOST_CLAIMED)

    def claimed(self, connection: sqlite3.Connection, session: str, run: int) -> list[ClaimedRow]:
        """Return the rows a run holds, in order."""
        return [_claimed(row) for row in self._sql.rows(connection, "list_claimed", session_id=session, run=run)]

    def place(self, connection: sqlite3.Connection, session: str, seq: int) -> RowPlace | None:
        """Return where the answer to message number `seq` goes; None: the agent names a message it never got."""
        row = self._sql.row(connection, "find_by_seq", session_id=session, seq=seq)
        return None if row is None else _place(row)

    def find_work(self, connection: sqlite3.Connection, session: str, run: int) -> RowPlace | None:
        """Return the row that a run works on, whatever it says itself; when it works on none, the last it got."""
        row = self._sql.row(connection, "find_work", session_id=session, run=run)
        return None if row is None else _place(row)

    def find(self, connection: sqlite3.Connection, row_id: str) -> RowPlace | None:
        """Return the place of a row by its id; None: it is gone."""
        row = self._sql.row(connection, "find_by_id", id=row_id)
        return None if row is None else _place(row)

    def what_was_written(self, connection: sqlite3.Connection, session: str, turn: str, row_id: str) -> Written:
        """Return what a session's agent wrote to other agents in a turn or for a row."""
        row = self._sql.row(connection, "what_was_written", session_id=session, turn=turn, id=row_id)
        return Written(0, 0, 0) if row is None else Written(row["answers"], row["notes"], row["asked"])

    def written_for(self, connection: sqlite3.Connection, row_id: str) -> list[tuple[str, str]]:
        """Return (agent, text) of what was written to other agents for a row, oldest first."""
        return [(row["name"], row["text"]) for row in self._sql.rows(connection, "list_written_for", id=row_id)]

    def conversation(self, connection: sqlite3.Connection, session: str, row_id: str) -> Conversation:
        """Return how the conversation stands that a row of a session belongs to, the row itself left out."""
        row = self._sql.row(connection, "find_conversation", session_id=session, id=row_id)
        return Conversation(False, False) if row is None else Conversation(bool(row["waits"]), bool(row["heard"]))

    def list_files(self, connection: sqlite3.Connection) -> list[str]:
        """Return the `files` of every row that has not ended."""
        return [str(row["files"]) for row in self._sql.rows(connection, "list_files")]

    def count_between(self, connection: sqlite3.Connection, groups: tuple[str, str], since: int) -> tuple[int, bool]:
        """Return how much two agent groups wrote to each other since then, and whether a limit was told of."""
        row = self._sql.row(connection, "count_between", first=groups[0], second=groups[1], since=since)
        return (0, False) if row is None else (int(row["written"]), bool(row["told"]))

    def finish(self, connection: sqlite3.Connection, claim: Claim, turn: str, outcome: Outcome, now: int) -> bool:
        """claimed -> done. Returns False for a stale claim: another run or attempt owns the row."""
        return self._guarded(connection, "finish_row", claim, turn=turn, outcome=outcome, now=now)

    def requeue(self, connection: sqlite3.Connection, row: ClaimedRow, run: int, *, blame: bool) -> None:
        """claimed -> queued, keeping its place; `blame` counts it as a failure of this row. Raises StaleClaim."""
        changed = self._sql.change(connection, "requeue_row", id=row.id, run=run, attempt=row.attempt, blame=int(blame))
        if changed != 1:
            raise StaleClaim(f"inbox row {row.id} is not held by run {run}")

    def bury(self, connection: sqlite3.Connection, row: ClaimedRow, run: int, now: int) -> None:
        """claimed -> dead. Raises StaleClaim."""
        changed = self._sql.change(connection, "bury_row", id=row.id, run=run, attempt=row.attempt, now=now)
        if changed != 1:
            raise StaleClaim(f"inbox row {row.id} is not held by run {run}")

    def list_open(self, connection: sqlite3.Connection, session: str) -> list[RowPlace]:
        """Return where the answers to a session's trigger rows that have not ended go, in order."""
        return [_place(row) for row in self._sql.rows(connection, "list_open", session_id=session)]

    def bury_all(self, connection: sqlite3.Connection, session: str, now: int) -> list[RowPlace]:
        """queued, claimed -> dead for a session's all; context ends silent. Returns where answers were waited for."""
        places = self.list_open(connection, session)
        self._sql.change(connection, "bury_open", session_id=session, now=now)
        return places

    def bury_answers(self, connection: sqlite3.Connection, session: str, sender: str, now: int) -> int:
        """queued -> dead for what another agent's session has answered; return how many."""
        return self._sql.change(connection, "bury_answers", session_id=session, from_session_id=sender, now=now)

    def fail_waiting(self, connection: sqlite3.Connection, session: str, message: str) -> None:
        """silent -> failed for the row of a message that waited for an agent which was stopped."""
        self._sql.change(connection, "fail_waiting", session_id=session, inbound_id=message)

    def awaits_answer(self, connection: sqlite3.Connection, group: str) -> bool:
        """Return whether another agent has yet to answer one of an agent group's sessions."""
        return self._sql.row(connection, "find_awaited", agent_group_id=group) is not None

    def remove_of_group(self, connection: sqlite3.Connection, group: str, most: int) -> list[str | None]:
        """Erase at most so many rows of an agent group; return the inbound id of each."""
        rows = self._sql.rows(connection, "list_of_group", agent_group_id=group, most=most)
        self._sql.change(connection, "remove_rows", ids=json.dumps([row["id"] for row in rows]))
        return [row["inbound_id"] for row in rows]

    def forget_sender(self, connection: sqlite3.Connection, group: str) -> None:
        """Take an agent group's sessions out of what other agents have heard from it; the words stay theirs."""
        self._sql.change(connection, "forget_sender", agent_group_id=group)

    def trim_context(self, connection: sqlite3.Connection, session: str, most: int, now: int) -> int:
        """queued -> done, silent: the oldest of what was overheard, so that `most` ride along with a trigger row."""
        return self._sql.change(connection, "trim_context", session_id=session, most=most, now=now)

    def end_context(self, connection: sqlite3.Connection, session: str, now: int) -> int:
        """queued -> done, silent: everything that waits without a trigger."""
        return self._sql.change(connection, "end_context", session_id=session, now=now)

    def waiting(self, connection: sqlite3.Connection, session: str) -> list[str]:
        """Return the ids of the rows that wait, in order."""
        return [str(row["id"]) for row in self._sql.rows(connection, "list_waiting", session_id=session)]

    def move(self, connection: sqlite3.Connection, row: str, session: str, seq: int) -> None:
        """Let a row wait in another session, under a number taken there."""
        self._sql.change(connection, "move_row", id=row, session_id=session, seq=seq)

    def describe_work(self, connection: sqlite3.Connection, session: str) -> Work:
        """Return what a session's agent works on and what waits for it."""
        row = self._sql.row(connection, "describe_work", session_id=session)
        return Work(0, 0, 0) if row is None else Work(row["held"], row["since"] or 0, row["waiting"])

    def count_claimed(self, connection: sqlite3.Connection, session: str, run: int) -> int:
        """Return how many rows a run has to answer; what only rides along with the next one keeps no turn open."""
        row = self._sql.row(connection, "count_claimed", session_id=session, run=run)
        return int(row["n"]) if row else 0

    def has_waiting_trigger(self, connection: sqlite3.Connection, session: str) -> bool:
        """Return whether a row that wakes the agent waits."""
        return self._sql.row(connection, "has_waiting_trigger", session_id=session) is not None

    def count_waiting(self, connection: sqlite3.Connection) -> int:
        """Return how many rows wait for an answer, for `status`."""
        row = self._sql.row(connection, "count_waiting")
        return int(row["n"]) if row else 0

    def list_settled(self, connection: sqlite3.Connection, messages: Sequence[str]) -> list[tuple[str, str]]:
        """Return (message, outcome) of those messages that have ended, every delivery of theirs included."""
        rows = self._sql.rows(connection, "list_settled", messages=json.dumps(list(messages)))
        return [(row["message"], row["outcome"] or Outcome.SILENT) for row in rows]

    def of_message(self, connection: sqlite3.Connection, message: str) -> list[sqlite3.Row]:
        """Return the inbox rows of a message, for `trace`."""
        return self._sql.rows(connection, "list_of_message", inbound_id=message)

    def _guarded(self, connection: sqlite3.Connection, query: str, claim: Claim, **values: str | int) -> bool:
        changed = self._sql.change(
            connection,
            query,
            session_id=claim.session,
            run=claim.run,
            seq=claim.seq,
            attempt=claim.attempt,
            **values,
        )
        return changed == 1


def _place(row: sqlite3.Row) -> RowPlace:
    return RowPlace(
        id=row["id"],
        attempt=row["attempt"],
        state=row["state"],
        run=row["run"],
        message=row["inbound_id"],
        chat=row["messaging_group_id"],
        thread=row["thread_id"],
        return_session=row["return_session_id"],
        return_row=row["return_inbox_id"],
        hops=row["hops"],
        user=row["user_id"],
        session=row["session_id"],
        seq=row["seq"],
        sent_by=row["from_session_id"],
    )


def _claimed(row: sqlite3.Row) -> ClaimedRow:
    return ClaimedRow(
        id=row["id"],
        seq=row["seq"],
        attempt=row["attempt"],
        failures=row["failures"],
        kind=row["kind"],
        trigger=bool(row["trigger"]),
        content=row["content"],
        message=row["inbound_id"],
        text=row["text"] or "",
        sender=row["sender"] or "",
        sender_name=row["sender_name"] or "",
        sent_at=row["sent_at"] or 0,
        chat=row["messaging_group_id"],
        is_group=bool(row["is_group"]),
        is_mention=bool(row["is_mention"]),
        user=row["user_id"],
        routed_by=row["routed_by"],
        sent_by=row["from_session_id"],
        files=row["files"],
        task=row["task"],
    )
