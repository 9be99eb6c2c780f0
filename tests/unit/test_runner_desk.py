"""What the tools do, over real files: send, hand over a file, ask the host and wait."""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path

import pytest

from nanoclaw.contract.message import ChatIn, to_json
from nanoclaw.runner.desk import FILE_BYTES, TurnDesk, is_file_name
from nanoclaw.runner.mailbox import Destination, Draft, Inbound, Row
from nanoclaw.runner.tools import ToolRefused
from nanoclaw.sandbox import wire
from tests.runner_process import SENT_AT, SETTINGS, Mailbox


class Floor:
    """A turn that works on one row."""

    def __init__(self, *, by_agent: bool = False) -> None:
        chat = ChatIn("hi", "Ann", "u1", "ann", SENT_AT, by_agent=by_agent)
        self.row: Row | None = Row(2, "r", 1, "chat", True, to_json(chat))
        self.destinations = [Destination("family", "channel", "Family"), Destination("researcher", "agent", "R")]
        self.posted: list[Draft] = []

    def current_row(self) -> Row | None:
        return self.row

    def places(self) -> tuple[Destination, ...]:
        return tuple(self.destinations)

    def post(self, draft: Draft, *, said: bool) -> int:
        self.posted.append(draft)
        return 2 * len(self.posted) - 1

    @property
    def sent(self) -> list[tuple[str, str | None, list[str]]]:
        fields = [json.loads(draft.content) for draft in self.posted]
        return [(item["text"], item["to"], item["files"]) for item in fields]


class Stage:
    """A desk, its floor, its files."""

    def __init__(self, directory: Path, *, by_agent: bool = False) -> None:
        self.floor = Floor(by_agent=by_agent)
        self.mailbox = Mailbox(directory / "mail", SETTINGS)
        self.outbox, self.workspace = directory / "outbox", directory / "ws"
        self.outbox.mkdir()
        self.workspace.mkdir()
        inbound = Inbound(str(self.mailbox.inside))
        self.desk = TurnDesk(self.floor, inbound, str(self.outbox), str(self.workspace), time.monotonic)


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


async def test_a_message_goes_where_it_may_and_one_to_an_agent_says_how_its_answer_comes(stage: Stage) -> None:
    assert await stage.desk.send_message("hi", None) == "Sent."
    assert await stage.desk.send_message("hi", "family") == "Sent."
    assert "message of its own" in await stage.desk.send_message("hi", "researcher")
    assert stage.floor.sent == [("hi", None, []), ("hi", "family", []), ("hi", "researcher", [])]
    with pytest.raises(ToolRefused, match="Destinations: family, researcher"):
        await stage.desk.send_message("hi", "nobody")


async def test_a_place_that_came_up_in_the_middle_of_a_run_can_be_written_to_at_once(stage: Stage) -> None:
    with pytest.raises(ToolRefused):
        await stage.desk.send_message("hi", "work")
    stage.floor.destinations.append(Destination("work", "channel", "Work"))
    assert await stage.desk.send_message("hi", "work") == "Sent."


async def test_the_agent_that_asked_may_be_answered_by_its_name(tmp_path: Path) -> None:
    stage = Stage(tmp_path, by_agent=True)
    await stage.desk.send_message("here", "ann")
    assert stage.floor.sent == [("here", None, [])]


async def test_a_file_is_copied_out_under_a_free_name(stage: Stage) -> None:
    (stage.workspace / "report.txt").write_text("one")
    assert (await stage.desk.send_file("report.txt", "researcher", "look", None)).startswith("Sent as report.txt.")
    (stage.workspace / "report.txt").write_text("two")
    await stage.desk.send_file(str(stage.workspace / "report.txt"), "researcher", "", None)
    await stage.desk.send_file("report.txt", "researcher", "", "final")
    await stage.desk.send_file("report.txt", "researcher", "", "final")
    assert [files for *_, files in stage.floor.sent] == [["report.txt"], ["report-2.txt"], ["final"], ["final-2"]]
    assert (stage.outbox / "report.txt").read_text() == "one" and (stage.outbox / "report-2.txt").read_text() == "two"


async def test_a_file_for_a_chat_is_refused_with_words(stage: Stage) -> None:
    (stage.workspace / "x").write_text("x")
    for to in (None, "family"):
        with pytest.raises(ToolRefused, match="files can be sent to agents"):
            await stage.desk.send_file("x", to, "", None)
    assert stage.floor.posted == [] and list(stage.outbox.iterdir()) == []


async def test_what_is_no_plain_small_file_is_refused_with_words_and_nothing_hangs(
    stage: Stage,
) -> None:
    os.mkfifo(stage.workspace / "pipe")
    (stage.workspace / "folder").mkdir()
    with (stage.workspace / "big").open("wb") as big:
        big.truncate(FILE_BYTES + 1)
    (stage.workspace / "x").write_text("x")
    (stage.workspace / "zero").symlink_to("/dev/zero")
    (stage.workspace / "two\nlines").write_text("x")
    cases = [("pipe", "plain file"), ("folder", "cannot be read"), ("big", "larger"), ("gone", "cannot")]
    cases += [("zero", "plain file"), ("two\nlines", "no name for a file"), ("y" * 4000, "no name for a file")]
    for path, words in cases:
        with pytest.raises(ToolRefused, match=words):
            await stage.desk.send_file(path, "researcher", "", None)
    for name in ("..", "a/b", "a\nb", "x" * 129, ".", "x" * 4000):
        with pytest.raises(ToolRefused, match="no name for a file") as refused:
            await stage.desk.send_file("x", "researcher", "", name)
        assert len(str(refused.value)) < 300
        assert not is_file_name(name) and not wire.is_file_name(name)
    assert stage.floor.posted == []


async def test_an_answer_is_waited_for_and_taken_by_the_number_of_its_request(stage: Stage) -> None:
    async with asyncio.TaskGroup() as group:
        first = group.create_task(stage.desk.ask("create_agent", {"name": "a"}))
        second = group.create_task(stage.desk.ask("create_agent", {"name": "b"}))
        while len(stage.floor.posted) < 2:
            await asyncio.sleep(0)
        stage.mailbox.answer(3, "done", "b is there")
        stage.desk.rung()
        assert (await second).text == "b is there" and not first.done()
        stage.mailbox.answer(1, "refused", "no a")  # its doorbell is lost: the poll finds it
    assert (first.result().status, first.result().text) == ("refused", "no a")
    assert json.loads(stage.floor.posted[0].content) == {"action": "create_agent", "arguments": '{"name": "a"}'}
    assert stage.floor.posted[0].reply_to == 2


async def test_no_answer_in_time_and_too_long_a_request_are_refused_with_words(stage: Stage) -> None:
    with pytest.raises(ToolRefused, match=r"No answer came within 0\.05 s"):
        await stage.desk.ask("ncl", {"arguments": []}, 0.05)
    with pytest.raises(ToolRefused, match="longer than"):
        await stage.desk.ask("create_agent", {"instructions": "x" * 200_001})
    assert len(stage.floor.posted) == 1
