"""Questions put to people: opened once for a subject, answered once, each expires."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from dataclasses import dataclass

from nanoclaw.domain.approval import CODE_CHARACTERS, CODE_DIGITS, ApprovalKind, ApprovalState
from nanoclaw.domain.card import Option, options_from_json, options_to_json
from nanoclaw.domain.people import UserId
from nanoclaw.store.people import NewId
from nanoclaw.store.sql import Sql

MOST_DUE = 100  # ended in one look of the sweep
SHORT_CODES = 20  # tries at a code of two characters before one of three


@dataclass(frozen=True, slots=True)
class Wait:
    """A tool that waits for the answer: request `seq` of run `fence`, until then (epoch milliseconds)."""

    fence: int
    seq: int
    until: int


@dataclass(frozen=True, slots=True)
class NewApproval:
    """A question about to be put. `agent_group` None: only global admins and owners may answer.

    `subject` is what it is about: one open question for each kind and subject. `channel`: where it came from.
    """

    kind: ApprovalKind
    subject: str
    title: str
    text: str
    options: tuple[Option, ...]
    payload: str
    expires_at: int
    agent_group: str | None = None
    session: str | None = None
    chat: str | None = None
    asked: str | None = None
    channel: str = ""
    wait: Wait | None = None


@dataclass(frozen=True, slots=True)
class Approval:
    """A question; times in epoch milliseconds. `asked` is the user a question was put to, `answer` the chosen label."""

    id: str
    kind: ApprovalKind
    state: ApprovalState
    agent_group: str | None
    session: str | None
    chat: str | None
    asked: UserId | None
    code: str
    subject: str
    title: str
    text: str
    channel: str
    options: tuple[Option, ...]
    payload: str
    answer: str
    answered_by: UserId | None
    wait: Wait | None
    wanted: str  # the option that waits for words of its chooser
    created_at: int
    expires_at: int
    ended_at: int | None


@dataclass(frozen=True, slots=True)
class Ended:
    """How a question ends. `payload` is what is left of it, `message` the platform's id of a typed answer."""

    state: ApprovalState
    payload: str
    answer: str = ""
    by: UserId | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True)
class Words:
    """Who owes the words of an option, where, until when."""

    user: UserId
    chat: str
    value: str
    until: int


@dataclass(frozen=True, slots=True)
class OpenCount:
    """How many questions stand open: those of agents and those about strangers."""

    of_session: int
    of_group: int
    of_agents: int
    of_chat: int
    of_strangers: int


class Approvals:
    """The only writer of `approvals`."""

    def __init__(self, new_id: NewId) -> None:
        self._sql = Sql("approvals.sql")
        self._new_id = new_id

    def add(self, connection: sqlite3.Connection, new: NewApproval, now: int) -> Approval:
        """Open a question under a new code. Raises sqlite3.IntegrityError: one on this subject is open."""
        approval = self._new_id()
        wait = new.wait
        self._sql.change(
            connection,
            "insert_approval",
            id=approval,
            kind=new.kind,
            agent_group_id=new.agent_group,
            session_id=new.session,
            messaging_group_id=new.chat,
            asked_user_id=new.asked,
            code=self._choose_code(connection, approval),
            subject=new.subject,
            title=new.title,
            text=new.text,
            channel=new.channel,
            options=options_to_json(new.options),
            payload=new.payload,
            waits_run=wait.fence if wait else None,
            waits_seq=wait.seq if wait else None,
            waits_until=wait.until if wait else None,
            now=now,
            expires_at=new.expires_at,
        )
        return _approval(self._sql.rows(connection, "find_approval", id=approval)[0])

    def find(self, connection: sqlite3.Connection, approval: str) -> Approval | None:
        """Return a question, in whatever state."""
        return _maybe(self._sql.row(connection, "find_approval", id=approval))

    def find_open(self, connection: sqlite3.Connection, kind: ApprovalKind, subject: str) -> Approval | None:
        """Return the open question on a subject."""
        return _maybe(self._sql.row(connection, "find_open", kind=kind, subject=subject))

    def has_open(self, connection: sqlite3.Connection) -> bool:
        """Return whether any question stands open."""
        return self._sql.row(connection, "has_open") is not None

    def list_open(self, connection: sqlite3.Connection) -> list[Approval]:
        """Return the open questions, oldest first."""
        return [_approval(row) for row in self._sql.rows(connection, "list_open")]

    def list_of_group(self, connection: sqlite3.Connection, agent_group: str) -> list[Approval]:
        """Return the open questions of an agent group, oldest first."""
        return [_approval(row) for row in self._sql.rows(connection, "list_of_group", agent_group_id=agent_group)]

    def of_session(self, connection: sqlite3.Connection, session: str, since: int, until: int) -> list[Approval]:
        """Return what a session's agent asked in a time (epoch milliseconds), in any state, for `trace`."""
        rows = self._sql.rows(connection, "list_of_session", session_id=session, since=since, until=until)
        return [_approval(row) for row in rows]

    def count_open(
        self, connection: sqlite3.Connection, *, session: str | None, agent_group: str | None, chat: str | None
    ) -> OpenCount:
        """Count the open questions, for the limits."""
        (row,) = self._sql.rows(
            connection, "count_open", session_id=session, agent_group_id=agent_group, messaging_group_id=chat
        )
        return OpenCount(*row)

    def end(self, connection: sqlite3.Connection, approval: str, ended: Ended, now: int) -> bool:
        """open -> approved | denied | expired. Returns False when it had ended already."""
        changed = self._sql.change(
            connection,
            "end_approval",
            id=approval,
            state=ended.state,
            payload=ended.payload,
            answer=None if not ended.answer else json.dumps(ended.answer, ensure_ascii=False),
            answered_by=ended.by,
            answer_message=ended.message,
            now=now,
        )
        return changed == 1

    def set_payload(self, connection: sqlite3.Connection, approval: str, payload: str) -> None:
        """Note what is still to be done about a question, open or ended."""
        self._sql.change(connection, "set_payload", id=approval, payload=payload)

    def find_denied(
        self, connection: sqlite3.Connection, kind: ApprovalKind, subject: str, since: int
    ) -> Approval | None:
        """Return the question on a subject that was lately answered with no, among the newest thousand questions."""
        return _maybe(self._sql.row(connection, "find_denied", kind=kind, subject=subject, since=since))

    def list_owing(self, connection: sqlite3.Connection, kind: ApprovalKind) -> list[Approval]:
        """Return the answered questions whose payload says that something is still `owed`, oldest first."""
        return [_approval(row) for row in self._sql.rows(connection, "list_owing", kind=kind)]

    def is_due(self, connection: sqlite3.Connection, now: int) -> bool:
        """Return whether a question's life, or somebody's wait for it, is over."""
        return self._sql.row(connection, "find_due", now=now) is not None

    def list_expired(self, connection: sqlite3.Connection, now: int) -> list[Approval]:
        """Return open questions whose life is over."""
        return [_approval(row) for row in self._sql.rows(connection, "list_expired", now=now, most=MOST_DUE)]

    def list_waited_for(self, connection: sqlite3.Connection, now: int) -> list[Approval]:
        """Return open questions whose tool has waited long enough."""
        return [_approval(row) for row in self._sql.rows(connection, "list_waited_for", now=now, most=MOST_DUE)]

    def set_wait(self, connection: sqlite3.Connection, approval: str, wait: Wait | None) -> None:
        """Say which tool waits for the answer; None: nobody any more."""
        run, seq, until = (wait.fence, wait.seq, wait.until) if wait else (None, None, None)
        self._sql.change(connection, "set_wait", id=approval, run=run, seq=seq, until=until)

    def set_words(
        self, connection: sqlite3.Connection, approval: str, words: Words | None, message: str | None = None
    ) -> None:
        """Take the next message of a person in a chat as the words of an option; None: no longer."""
        self._sql.change(
            connection,
            "set_words",
            id=approval,
            user_id=words.user if words else None,
            messaging_group_id=words.chat if words else None,
            value=words.value if words else None,
            until=words.until if words else None,
            answer_message=message,
        )

    def find_wanting_words(self, connection: sqlite3.Connection, user: str, chat: str, now: int) -> Approval | None:
        """Return the question that waits for words of a person in a chat."""
        return _maybe(self._sql.row(connection, "find_wanting_words", user_id=user, messaging_group_id=chat, now=now))

    def find_by_message(self, connection: sqlite3.Connection, message: str) -> Approval | None:
        """Return the question that a typed message has answered: its platform may hand it in again."""
        return _maybe(self._sql.row(connection, "find_by_message", answer_message=message))

    def _choose_code(self, connection: sqlite3.Connection, approval: str) -> str:
        """Return a code that no open question has: a letter and a digit, which is no word; more digits when crowded."""
        attempt = 0
        while True:
            digest = hashlib.sha256(f"{approval} {attempt}".encode()).digest()
            digits = 1 if attempt < SHORT_CODES else 2 if attempt < 100 * SHORT_CODES else 4
            code = CODE_CHARACTERS[digest[0] % len(CODE_CHARACTERS)]
            code += "".join(CODE_DIGITS[byte % len(CODE_DIGITS)] for byte in digest[1 : 1 + digits])
            if self._sql.row(connection, "find_code", code=code) is None:
                return code
            attempt += 1


def _maybe(row: sqlite3.Row | None) -> Approval | None:
    return None if row is None else _approval(row)


def _approval(row: sqlite3.Row) -> Approval:
    waits = row["waits_until"] is not None
    return Approval(
        id=row["id"],
        kind=ApprovalKind(row["kind"]),
        state=ApprovalState(row["state"]),
        agent_group=row["agent_group_id"],
        session=row["session_id"],
        chat=row["messaging_group_id"],
        asked=row["asked_user_id"],
        code=row["code"],
        subject=row["subject"],
        title=row["title"],
        text=row["text"],
        channel=row["channel"],
        options=options_from_json(row["options"]),
        payload=row["payload"],
        answer=json.loads(row["answer"]) if row["answer"] else "",
        answered_by=row["answered_by"],
        wait=Wait(row["waits_run"], row["waits_seq"], row["waits_until"]) if waits else None,
        wanted=row["text_value"] or "",
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        ended_at=row["ended_at"],
    )
