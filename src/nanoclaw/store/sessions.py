"""Sessions and their one live run, with its fence."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from nanoclaw.domain.session import RunState, SessionId
from nanoclaw.domain.turn import LONGEST_BACKOFF_MS
from nanoclaw.domain.wiring import AgentGroupId, MessagingGroupId, SessionMode
from nanoclaw.errors import StaleClaim, StoreError
from nanoclaw.store.people import NewId
from nanoclaw.store.sql import Sql


@dataclass(frozen=True, slots=True)
class Session:
    """One row of `sessions`; times in epoch milliseconds."""

    id: SessionId
    agent_group: AgentGroupId
    chat: MessagingGroupId | None
    thread: str | None
    fence: int
    run_state: RunState
    run_changed_at: int
    collected_message: int
    collected_ack: int
    last_seq: int
    continuation: str | None
    not_before: int
    last_active_at: int
    closed_at: int | None = None


class Sessions:
    """The only writer of `sessions`."""

    def __init__(self, new_id: NewId) -> None:
        self._sql = Sql("sessions.sql")
        self._new_id = new_id

    def resolve(
        self,
        connection: sqlite3.Connection,
        agent_group: str,
        mode: SessionMode,
        address: tuple[str | None, str | None],
        now: int,
    ) -> SessionId:
        """Return the session of an agent group for (chat, thread) under a session mode, made when there is none."""
        chat, thread = address
        key = {
            "agent_group_id": agent_group,
            "mode": mode.value,
            "messaging_group_id": None if mode is SessionMode.AGENT_SHARED else chat,
            "thread_id": thread if mode is SessionMode.PER_THREAD else None,
        }
        row = self._sql.row(connection, "find_session", **key)
        if row is not None:
            return SessionId(row["id"])
        session = SessionId(self._new_id())
        self._sql.change(connection, "insert_session", id=session, now=now, **key)
        return session

    def get(self, connection: sqlite3.Connection, session: str) -> Session:
        """Return a session. Raises StoreError when there is none."""
        row = self._sql.row(connection, "get_session", id=session)
        if row is None:
            raise StoreError(f"session {session} is gone")
        return _session(row)

    def find(self, connection: sqlite3.Connection, session: str) -> Session | None:
        """Return a session, None when there is none."""
        row = self._sql.row(connection, "get_session", id=session)
        return _session(row) if row else None

    def list_all(self, connection: sqlite3.Connection) -> list[Session]:
        """Return the sessions that are not closed, latest first."""
        return [_session(row) for row in self._sql.rows(connection, "list_sessions")]

    def list_of_group(self, connection: sqlite3.Connection, group: str) -> list[Session]:
        """Return every session of an agent group, closed ones too."""
        return [_session(row) for row in self._sql.rows(connection, "list_of_group", agent_group_id=group)]

    def list_asked(self, connection: sqlite3.Connection, asker: str) -> list[Session]:
        """Return the sessions in which other agents work for a session (flow/agents.py makes them)."""
        return [_session(row) for row in self._sql.rows(connection, "list_asked", thread_id=f"agent:{asker}")]

    def close(self, connection: sqlite3.Connection, session: str, now: int) -> None:
        """Close a session: the next message for it begins another."""
        self._sql.change(connection, "close_session", id=session, now=now)

    def list_idle(self, connection: sqlite3.Connection, before: int, most: int) -> list[SessionId]:
        """Return up to `most` sessions of threads in which nothing has happened since `before`."""
        return [SessionId(row["id"]) for row in self._sql.rows(connection, "list_idle", before=before, most=most)]

    def list_live(self, connection: sqlite3.Connection) -> list[Session]:
        """Return the sessions whose run is not over."""
        return [_session(row) for row in self._sql.rows(connection, "list_live")]

    def list_due(self, connection: sqlite3.Connection, now: int) -> list[SessionId]:
        """Return the sessions that wait for a run to be started, or for the live one to be fed."""
        rows = self._sql.rows(connection, "list_due", now=now, latest=now + LONGEST_BACKOFF_MS)
        return [SessionId(row["id"]) for row in rows]

    def take_seq(self, connection: sqlite3.Connection, session: str, now: int) -> int:
        """Take the next even message number."""
        row = self._sql.row(connection, "take_seq", id=session, now=now)
        if row is None:
            raise StoreError(f"session {session} is gone")
        return int(row["last_seq"])

    def raise_fence(self, connection: sqlite3.Connection, session: str, now: int) -> int:
        """over -> starting. Returns the new run's fence; raises StaleClaim when a run is live."""
        row = self._sql.row(connection, "raise_fence", id=session, now=now)
        if row is None:
            raise StaleClaim(f"session {session} has a live run")
        return int(row["fence"])

    def set_running(
        self, connection: sqlite3.Connection, session: str, fence: int, now: int, proof: str | None = None
    ) -> bool:
        """starting -> running, behind a wall of which `proof` says what it holds. False: the run has moved on."""
        return self._sql.change(connection, "set_running", id=session, fence=fence, now=now, proof=proof) == 1

    def set_proof(self, connection: sqlite3.Connection, session: str, proof: str) -> None:
        """Note the proof that kept a session's box from starting."""
        self._sql.change(connection, "set_proof", id=session, proof=proof)

    def set_stopping(self, connection: sqlite3.Connection, session: str, fence: int, now: int) -> bool:
        """starting, running -> stopping. Returns False when the run has moved on."""
        return self._sql.change(connection, "set_stopping", id=session, fence=fence, now=now) == 1

    def set_over(
        self, connection: sqlite3.Connection, session: str, fence: int, now: int, *, not_before: int = 0
    ) -> bool:
        """Any state -> over. Returns False when it was over already."""
        changed = self._sql.change(connection, "set_over", id=session, fence=fence, now=now, not_before=not_before)
        return changed == 1

    def set_collected(
        self,
        connection: sqlite3.Connection,
        run: tuple[str, int],
        counters: tuple[int, int],
        continuation: str | None,
        now: int,
    ) -> None:
        """Record how far a run's outbound.db was applied. Raises StaleClaim for a run that is over."""
        session, fence = run
        message, ack = counters
        changed = self._sql.change(
            connection,
            "set_collected",
            id=session,
            fence=fence,
            message=message,
            ack=ack,
            continuation=continuation,
            now=now,
        )
        if changed != 1:
            raise StaleClaim(f"run {fence} of session {session} is over")

    def remove_of_group(self, connection: sqlite3.Connection, group: str, most: int) -> int:
        """Erase at most so many sessions of an agent group that has no rows any more; return how many."""
        return self._sql.change(connection, "remove_of_group", agent_group_id=group, most=most)


def _session(row: sqlite3.Row) -> Session:
    return Session(
        id=SessionId(row["id"]),
        agent_group=AgentGroupId(row["agent_group_id"]),
        chat=MessagingGroupId(row["messaging_group_id"]) if row["messaging_group_id"] else None,
        thread=row["thread_id"],
        fence=row["fence"],
        run_state=RunState(row["run_state"]),
        run_changed_at=row["run_changed_at"],
        collected_message=row["collected_message"],
        collected_ack=row["collected_ack"],
        last_seq=row["last_seq"],
        continuation=row["continuation"],
        not_before=row["not_before"],
        last_active_at=row["last_active_at"],
        closed_at=row["closed_at"],
    )
