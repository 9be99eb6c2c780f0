"""What a message costs does not grow with what was said before it: in steps of SQLite's machine, not in time."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from nanoclaw.domain.approval import ApprovalKind
from nanoclaw.store.inbox import Claim
from nanoclaw.store.outbox import Lane
from nanoclaw.store.tables import Tables
from tests.store.stage import Stage, open_stage

MANY = 4000
UNKNOWN_SENDER = ApprovalKind.UNKNOWN_SENDER
MOST_STEPS = 3000  # one step for each row of the past would be MANY and more
STEP = 20

INBOUND = """INSERT INTO inbound (id, channel_type, platform_id, messaging_group_id, sender, sender_name, text,
  is_group, is_mention, sent_at, accepted_at) VALUES (?, 'terminal', ?, ?, 'a', 'A', 'hi', 0, 0, 0, 0)"""
INBOX = """INSERT INTO inbox (id, inbound_id, session_id, seq, kind, trigger, state, attempt, run, turn, outcome,
  queued_at) VALUES (?, ?, ?, ?, 'chat', ?, ?, 1, 1, ?, ?, 0)"""
OUTBOX = """INSERT INTO outbox (id, session_id, run, seq, turn, reply_to, messaging_group_id, text, state, sent_order,
  created_at) VALUES (?, ?, 1, ?, ?, ?, ?, 'hello', 'sent', ?, 0)"""
APPROVAL = """INSERT INTO approvals (id, kind, state, code, subject, title, options, payload, answer_message,
  created_at, expires_at, ended_at) VALUES (?, 'unknown_sender', ?, ?, ?, 't', '[]', '{}', ?, 0, 9, ?)"""


@pytest.fixture(scope="module")
def past() -> Iterator[Stage]:
    """One session of one chat in which MANY messages were answered, and as many overheard ones still wait.

    As many questions were put to people; one is open.
    """
    stage = open_stage()
    session, chat, many = stage.session, stage.chat.id, range(MANY)
    write = stage.connection.executemany
    stage.connection.execute("BEGIN")
    write(INBOUND, [(f"m{n:05}", f"p{n}", chat) for n in many])
    write(INBOX, [(f"i{n:05}", f"m{n:05}", session, 2 * n + 2, 1, "done", f"1-{n}", "replied") for n in many])
    write(INBOX, [(f"j{n:05}", None, session, 2 * (MANY + n) + 2, 0, "queued", None, None) for n in many])
    write(OUTBOX, [(f"o{n:05}", session, 2 * n + 1, f"1-{n}", f"i{n:05}", chat, n + 1) for n in many])
    write(APPROVAL, [(f"q{n:05}", "denied", f"c{n}", f"s{n}", f"p{n}", 1) for n in many])
    write(APPROVAL, [("r", "open", "c", "s", None, None)])
    stage.connection.execute("UPDATE outbox SET approval_id = 'r' WHERE id = 'o00007'")
    stage.connection.execute("UPDATE sessions SET last_seq = ?", (4 * MANY + 2,))
    stage.connection.execute("COMMIT")
    yield stage
    stage.connection.close()


Work = Callable[[Tables, sqlite3.Connection, Stage], Any]
WORKS: dict[str, Work] = {
    "deciding how a turn ended": lambda t, c, s: t.outbox.what_was_said(c, s.session, "1-7", "i00007"),
    "telling what an attempt has sent": lambda t, c, s: t.outbox.already_sent(c, "i00007"),
    "showing the last delivery": lambda t, c, s: t.outbox.last_sent(c, s.chat.id, 1),
    "showing what is new": lambda t, c, s: t.outbox.list_sent(c, s.chat.id, MANY - 1, 10),
    "showing what answered a message": lambda t, c, s: t.outbox.sent_for_message(c, "m00007"),
    "tracing a message": lambda t, c, s: t.outbox.of_message(c, "m00007"),
    "asking whether a message has ended": lambda t, c, s: t.inbox.list_settled(c, ["m00007"]),
    "looking for what is due": lambda t, c, s: t.sessions.list_due(c, 1),
    "asking whether an agent is waited for": lambda t, c, s: t.inbox.has_waiting_trigger(c, s.session),
    "looking for lanes": lambda t, c, s: t.outbox.lanes(c),
    "taking the next of a lane": lambda t, c, s: t.outbox.take_next(c, Lane(s.session, s.chat.id, ""), 1),
    "finishing a row": lambda t, c, s: t.inbox.finish(c, Claim(s.session, 1, 16, 1), "1-7", "replied", 0),  # type: ignore[arg-type]
    "starting the host": lambda t, c, s: t.outbox.resend_unknown(c, "terminal", mark=False),
    "finding the newest id": lambda t, c, s: t.outbox.newest_id(c),
    "asking whether somebody was asked something": lambda t, c, s: t.approvals.has_open(c),
    "looking for the cards that a message may answer": lambda t, c, s: t.outbox.standing_cards(c, s.chat.id, "", "u"),
    "asking whether a message was an answer": lambda t, c, s: t.approvals.find_by_message(c, "p7"),
    "asking whose words are wanted": lambda t, c, s: t.approvals.find_wanting_words(c, "u", s.chat.id, 0),
    "looking for a question on the same subject": lambda t, c, s: t.approvals.find_open(c, UNKNOWN_SENDER, "s7"),
    "looking for open questions": lambda t, c, s: t.approvals.list_open(c),
    "looking for questions of an agent group": lambda t, c, s: t.approvals.list_of_group(c, s.agent_group),
    "looking for questions that are due": lambda t, c, s: t.approvals.is_due(c, 10),
    "telling what an agent wrote to others": lambda t, c, s: t.inbox.what_was_written(c, s.session, "1-7", "i00007"),
    "following a conversation": lambda t, c, s: t.inbox.conversation(c, s.session, "i00007"),
    "counting what two agents wrote": lambda t, c, s: t.inbox.count_between(c, (s.agent_group, "other"), 0),
    "asking whether a box has work": lambda t, c, s: t.inbox.count_claimed(c, s.session, 1),
    "saying what an agent does": lambda t, c, s: t.inbox.describe_work(c, s.session),
    "showing how the host is": lambda t, c, s: t.inbox.count_waiting(c),
}


@pytest.mark.parametrize("work", WORKS)
def test_a_long_past_costs_nothing_when(work: str, past: Stage) -> None:
    assert steps_of(past, WORKS[work]) < MOST_STEPS


def test_a_query_that_reads_the_past_is_seen(past: Stage) -> None:
    query = "SELECT count(*) FROM outbox WHERE session_id = ? AND (turn = ? OR reply_to = ?)"
    assert steps_of(past, lambda t, c, s: c.execute(query, (s.session, "1-7", "i00007")).fetchall()) > MOST_STEPS


def steps_of(stage: Stage, work: Work) -> int:
    ticks = [0]

    def tick() -> int:
        ticks[0] += 1
        return 0

    stage.connection.set_progress_handler(tick, STEP)
    try:
        work(stage.tables, stage.connection, stage)
    finally:
        stage.connection.set_progress_handler(None, 0)
    return ticks[0] * STEP
