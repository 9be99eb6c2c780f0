"""Which sessions are closed for want of anything said: threads alone, and only when nothing waits or is asked."""

from __future__ import annotations

import pytest

from nanoclaw.domain.session import SessionId
from nanoclaw.domain.wiring import SessionMode
from nanoclaw.store.inbox import NewRow
from tests.store.stage import Stage, open_stage

BEFORE, MOST = 500, 10


def thread(stage: Stage, mode: SessionMode = SessionMode.PER_THREAD, thread_id: str | None = "t1") -> SessionId:
    """A session in which nothing has happened since 0."""
    return stage.tables.sessions.resolve(stage.connection, stage.agent_group, mode, (stage.chat.id, thread_id), 0)


def idle(stage: Stage) -> list[SessionId]:
    return stage.tables.sessions.list_idle(stage.connection, BEFORE, MOST)


def queue(stage: Stage, session: SessionId, *, trigger: bool) -> None:
    stage.tables.inbox.add(stage.connection, NewRow(session, 2, "chat", trigger), 0)


def test_a_thread_without_news_is_idle_until_it_is_closed_and_the_next_message_makes_another() -> None:
    stage = open_stage()
    old = thread(stage)
    assert idle(stage) == [old]
    stage.tables.sessions.close(stage.connection, old, 1000)
    assert idle(stage) == [] and thread(stage) != old
    assert old not in [session.id for session in stage.tables.sessions.list_all(stage.connection)]


def test_as_many_as_are_asked_for_are_found_at_once() -> None:
    stage = open_stage()
    made = {thread(stage, thread_id=f"t{number}") for number in range(MOST + 1)}
    assert len(idle(stage)) == MOST and set(idle(stage)) < made


@pytest.mark.parametrize(
    ("mode", "thread_id"),
    [(SessionMode.PER_THREAD, None), (SessionMode.SHARED, "t1"), (SessionMode.AGENT_SHARED, "t1")],
)
def test_the_conversation_of_a_whole_chat_is_never_idle(mode: SessionMode, thread_id: str | None) -> None:
    stage = open_stage()
    thread(stage, mode, thread_id)
    assert idle(stage) == []


def test_a_thread_with_news_or_a_live_run_is_not_idle() -> None:
    stage = open_stage()
    session = thread(stage)
    stage.connection.execute("UPDATE sessions SET last_active_at = ?", (BEFORE,))
    assert idle(stage) == []
    stage.connection.execute("UPDATE sessions SET last_active_at = 0, run_state = 'running' WHERE id = ?", (session,))
    assert idle(stage) == []


def test_a_thread_with_a_waiting_message_is_not_idle_but_one_with_overheard_talk_is() -> None:
    stage = open_stage()
    session = thread(stage)
    queue(stage, session, trigger=False)
    assert idle(stage) == [session]
    stage.connection.execute("UPDATE inbox SET trigger = 1")
    assert idle(stage) == []


def test_a_thread_whose_agent_has_asked_something_or_has_a_task_is_not_idle() -> None:
    stage = open_stage()
    session = thread(stage)
    stage.connection.execute(
        "INSERT INTO approvals (id, kind, state, session_id, code, subject, title, options, payload, created_at,"
        " expires_at) VALUES ('a', 'question', 'open', ?, '1', 's', 't', '[]', '{}', 0, 1)",
        (session,),
    )
    assert idle(stage) == []
    stage.connection.execute("DELETE FROM approvals")
    stage.connection.execute(
        "INSERT INTO tasks (id, agent_group_id, session_id, state, prompt, schedule, timezone, created_at)"
        " VALUES ('t', ?, ?, 'active', 'p', '{}', 'UTC', 0)",
        (stage.agent_group, session),
    )
    assert idle(stage) == []
    stage.connection.execute("UPDATE tasks SET state = 'ended'")
    assert idle(stage) == [session]
