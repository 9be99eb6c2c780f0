"""Single stages over a real store: new terminal chats, requests with a handler, the sweep as a service."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import cast

from nanoclaw.channels.base import Incoming
from nanoclaw.contract.message import SystemIn, ToolAnswer
from nanoclaw.errors import Refused, StoreFull
from nanoclaw.flow.aftermath import Aftermath, AnswerTo
from nanoclaw.flow.deliver import Deliver
from nanoclaw.flow.requests import Caller, Requests, tell_agent
from nanoclaw.flow.route import find_chat, find_sender
from nanoclaw.flow.sweep import Sweep
from nanoclaw.sandbox.wire import OutRequest
from tests.flow.world import open_world
from tests.store.stage import Stage, open_stage


def said(sender: str, chat: str) -> Incoming:
    return Incoming("1", chat, sender, "Somebody", "hi", 0)


def find(stage: Stage, channel: str, sender: str, chat: str):
    return find_chat(stage.connection, stage.tables, channel, said(sender, chat), 0)


def test_a_new_chat_of_the_operators_terminal_is_made_once_and_wired_to_the_default_agent() -> None:
    stage = open_stage()
    chat = find(stage, "terminal", "uid:0", "garden")
    assert chat is not None and not chat.is_group and find(stage, "terminal", "uid:0", "garden") == chat
    (wiring,) = stage.tables.chats.wirings(stage.connection, chat.id)
    assert wiring.agent_group == stage.agent_group
    assert stage.tables.chats.destination_name(stage.connection, stage.agent_group, chat.id) == "garden"


def test_nobody_else_and_no_other_channel_makes_chats() -> None:
    stage = open_stage()
    assert find(stage, "terminal", "uid:4242", "garden") is None
    assert find(stage, "scripted", "uid:0", "garden") is None
    assert find_sender(stage.connection, stage.tables, "scripted", "uid:0") is None


def test_a_terminal_without_a_default_agent_makes_no_chat() -> None:
    stage = open_stage()
    stage.connection.execute("UPDATE agent_groups SET folder = 'elsewhere'")
    assert find(stage, "terminal", "uid:0", "garden") is None


def test_a_request_is_answered_by_its_handler_who_is_told_the_caller_by_the_host() -> None:
    stage = open_stage()
    asked: list[tuple[Caller, str, int]] = []

    def handler(
        connection: sqlite3.Connection, caller: Caller, arguments: str, after: Aftermath, now: int
    ) -> ToolAnswer:
        asked.append((caller, arguments, now))
        return ToolAnswer("done", "as you wished")

    requests, after = Requests(stage.tables, {"wish": handler}), Aftermath()
    caller = Caller(stage.session, 1, stage.agent_group, 5, stage.chat.id, None)
    requests.handle(stage.connection, caller, OutRequest("wish", '{"caller": "somebody else"}'), after, 7)
    assert asked == [(caller, '{"caller": "somebody else"}', 7)]
    assert after.answers == [AnswerTo(stage.session, 1, 5, ToolAnswer("done", "as you wished"))]


def test_a_handler_that_refuses_leaves_nothing_behind_but_the_audit_and_its_words() -> None:
    stage = open_stage()

    def handler(connection: sqlite3.Connection, caller: Caller, arguments: str, after: Aftermath, now: int) -> None:
        stage.tables.groups.add(connection, "Half Made", "half-made", now)
        raise Refused("Not today.")

    requests, after = Requests(stage.tables, {"wish": handler}), Aftermath()
    caller = Caller(stage.session, 1, stage.agent_group, 5, stage.chat.id, None)
    requests.handle(stage.connection, caller, OutRequest("wish", "{}"), after, 7)
    assert after.answers == [AnswerTo(stage.session, 1, 5, ToolAnswer("refused", "Not today."))]
    assert stage.tables.groups.find_by_folder(stage.connection, "half-made") is None
    (entry,) = stage.tables.audit.last(stage.connection, 10)
    assert (entry["event"], entry["subject"], entry["verdict"]) == ("request.refused", "wish", "deny")


class FullOnce:
    """Deliveries whose first look meets a full disk."""

    def __init__(self) -> None:
        self.looks = 0
        self.second = asyncio.Event()

    async def look(self) -> None:
        self.looks += 1
        if self.looks == 1:
            raise StoreFull("no room")
        self.second.set()


async def test_the_sweep_looks_once_a_second_and_goes_on_when_the_disk_is_full(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        deliver = FullOnce()
        stages = (world.live, world.runs, world.wake, cast(Deliver, deliver), world.chase)
        sweep = Sweep(world.means, *stages, seats=world.seats, teller=world.teller)
        async with asyncio.timeout(5):
            await sweep.run(deliver.second)
        assert deliver.looks == 2 and "store.filled" in world.log_lines.getvalue()


def test_a_note_for_a_closed_session_waits_for_nothing_but_one_that_wakes_the_agent_does() -> None:
    stage = open_stage()
    note = SystemIn("ask_user_question", "expired", "Nobody answered in time", 0)
    stage.tables.sessions.close(stage.connection, stage.session, 0)
    tell_agent(stage.connection, stage.tables, stage.session, note)
    assert stage.tables.inbox.waiting(stage.connection, stage.session) == []
    tell_agent(stage.connection, stage.tables, stage.session, note, trigger=True)
    assert len(stage.tables.inbox.waiting(stage.connection, stage.session)) == 1
