"""Files from one agent to another: copied by the host, whatever the box of the sender has made of its outbox."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from nanoclaw.contract.message import ChatOut, OutKind, to_json
from nanoclaw.flow.aftermath import Aftermath
from nanoclaw.flow.files import FILE_BYTES, MESSAGE_BYTES
from nanoclaw.runner.mailbox import FINISHED, Draft, Inbound
from nanoclaw.testing.scripted_box import BoxTurn
from tests.flow.swarm import agent, introduce, notes, open_swarm, told
from tests.flow.world import Home, World

PASSWORD = "root:x:0:0"


def outbox(turn: BoxTurn) -> Path:
    return turn.box.outbound_db.parent / "outbox"


def in_box(world: World, index: int, path: str) -> Path:
    """A file of a box, by its path in there."""
    return world.boxes[index].in_directory / path.removeprefix("/session/in/")


def sends(plant: Callable[[Path], object], *names: str, to: str = "researcher", text: str = "look at this"):
    """An act: put files into the outbox, then send them and finish."""

    async def act(turn: BoxTurn) -> None:
        plant(outbox(turn))
        draft = Draft(OutKind.CHAT, to_json(ChatOut(text, to, files=names)), turn.rows[-1].seq)
        turn.write([draft], FINISHED)

    return act


async def test_a_file_is_there_when_the_agent_reads_of_it_and_gone_from_the_host_when_it_is_done(
    tmp_path: Path,
) -> None:
    async with open_swarm(tmp_path, "researcher") as world:
        chat = await world.chat()
        seen: list[str] = []

        async def reads(turn: BoxTurn) -> None:
            ((_, message),) = turn.chats
            for file in message.attachments:
                path = in_box(world, 1, file.path)
                seen.append(f"{file.name} {file.bytes} {path.read_text()} {path.stat().st_mode & 0o777:o}")
            turn.finish("read")

        world.runtime.script_for("family").then(
            sends(
                lambda box: [(box / "a.txt").write_text("one"), (box / "b c.txt").write_text("two")], "a.txt", "b c.txt"
            )
        )
        world.runtime.script_for("andy").then(reads)
        await chat.says("go")
        await chat.hears("you said: read")
        await world.quiet()
        assert seen == ["a.txt 3 one 644", "b c.txt 3 two 644"]
        assert list(tmp_path.glob("sessions/*/*/attachments/*/*")) == []


def plant_link(box: Path) -> None:
    (box / "f").symlink_to("/etc/passwd")


def plant_hard_link(box: Path) -> None:
    os.link(box.parents[5] / "secret", box / "f")


def plant_pipe(box: Path) -> None:
    os.mkfifo(box / "f")


def plant_folder(box: Path) -> None:
    (box / "f").mkdir()


def plant_large(box: Path) -> None:
    with (box / "f").open("wb") as file:
        file.truncate(FILE_BYTES + 1)


def plant_nothing(box: Path) -> None:
    pass


def plant_linked_box(box: Path) -> None:
    """The outbox itself is a link: no box can do that to its mount, but a host must not trust it."""
    shutil.rmtree(box)
    box.symlink_to("/etc")


@pytest.mark.parametrize(
    "plant",
    [plant_link, plant_hard_link, plant_pipe, plant_folder, plant_large, plant_nothing, plant_linked_box],
)
async def test_what_is_no_small_plain_file_is_left_out_and_the_agent_is_told(
    tmp_path: Path, plant: Callable[[Path], None]
) -> None:
    (tmp_path / "sessions").mkdir()
    (tmp_path / "sessions" / "secret").write_text(PASSWORD)
    async with open_swarm(tmp_path, "researcher") as world:
        chat = await world.chat()
        world.runtime.script_for("family").then(sends(plant, "f" if plant is not plant_linked_box else "passwd"))
        await chat.says("go")
        await world.until(lambda: len(chat.heard) == 1)
        await world.quiet()
        (question,) = await told(world, "researcher")
        assert question.text == "look at this" and question.attachments == ()
        (note,) = await notes(world, "main")
        assert "was left out" in note and ("f:" in note or "passwd:" in note)
        assert world.boxes[1].in_directory.joinpath("inbox").exists()
    copies = [path for path in tmp_path.glob("sessions/*/*/runs/*/in/inbox/**/*") if path.is_file()]
    assert copies == []


@pytest.mark.parametrize("name", ["../f", "/etc/passwd", ".", "..", "a/b", "a\nb", "x" * 129, "x" * 4000, ""])
async def test_a_name_that_is_no_name_ends_the_run_as_hostile(tmp_path: Path, name: str) -> None:
    async with open_swarm(tmp_path, "researcher") as world:
        chat = await world.chat()
        for _ in range(3):
            world.runtime.script_for("family").then(sends(plant_nothing, name))
        await chat.says("go")
        for _ in range(4):
            await world.after(30)
        assert "could not be trusted" in chat.heard[-1]
        assert await told(world, "researcher") == []


async def test_a_message_carries_fifty_mebibytes_and_no_more(tmp_path: Path) -> None:
    names = ("1", "2", "3")

    def plant(box: Path) -> None:
        for name in names:
            with (box / name).open("wb") as file:
                file.truncate(FILE_BYTES)

    async with open_swarm(tmp_path, "researcher") as world:
        chat = await world.chat()
        world.runtime.script_for("family").then(sends(plant, *names))
        await chat.says("go")
        await world.until(lambda: len(chat.heard) == 1)
        (question,) = await told(world, "researcher")
        assert [file.name for file in question.attachments] == ["1", "2"] and 3 * FILE_BYTES > MESSAGE_BYTES
        assert "3: it is larger than the 10485760 bytes there is room for" in (await notes(world, "main"))[0]


async def test_files_for_a_chat_are_left_out_with_words_and_the_message_goes(tmp_path: Path) -> None:
    async with open_swarm(tmp_path, "researcher") as world:
        chat = await world.chat()
        world.script.then(sends(lambda box: (box / "f").write_text("x"), "f", to="family"))
        await chat.says("go")
        await chat.hears("look at this")
        await world.quiet()
        assert "sending them to chats comes later" in (await notes(world, "main"))[0]
        assert list(tmp_path.glob("sessions/*/*/attachments/*/*")) == []


@pytest.mark.parametrize("point", ["collect.read", "collect.applied", "wake.claimed", "wake.projected"])
async def test_a_file_outlives_a_host_that_is_killed_and_what_nobody_waits_for_is_removed(
    tmp_path: Path, point: str
) -> None:
    home = Home(tmp_path)
    async with open_swarm(home, "researcher") as world:
        chat = await world.chat()
        world.runtime.script_for("andy").hangs()

        async def arm(turn: BoxTurn) -> None:
            world._crash_at = point
            await sends(lambda box: (box / "f").write_text("kept"), "f")(turn)

        world.runtime.script_for("family").then(arm)
        await chat.says("go")
        await world.quiet()
    stray = tmp_path / "sessions" / "g" / "s" / "attachments" / "1-1" / "0"
    stray.parent.mkdir(parents=True)
    stray.write_text("nobody's")
    async with open_swarm(home, "researcher") as world:
        chat = await world.chat()
        read: list[str] = []

        async def reads(turn: BoxTurn) -> None:
            file = turn.chats[-1][1].attachments[0]
            read.append((turn.box.in_directory / file.path.removeprefix("/session/in/")).read_text())
            turn.finish("read it")

        world.runtime.script_for("family").then(sends(lambda box: (box / "f").write_text("kept"), "f"))
        world.runtime.script_for("andy").then(reads)
        await world.recover()
        for _ in range(3):
            await world.after(30)
        await chat.hears("you said: read it")
        assert read == ["kept"] and not stray.exists()


async def test_an_agent_that_runs_is_told_where_it_may_write_from_now_on(tmp_path: Path) -> None:
    async with open_swarm(tmp_path, "researcher") as world:
        chat = await world.chat()
        await chat.says("hi")
        await chat.hears("you said: hi")
        await introduce(world, "main", await agent(world, "writer"))
        ((group,),) = await world.rows("SELECT id FROM agent_groups WHERE folder = 'main'")
        world.carrier.carry(Aftermath(groups={group: None}))
        await world.quiet()
        places = Inbound(str(world.boxes[0].in_directory)).read_destinations()
        assert [place.name for place in places if place.kind == "agent"] == ["researcher", "writer"]
        world.runtime.script_for("family").replies("welcome", to="writer")
        await chat.says("greet the new one")
        await world.quiet()
        assert [one.text for one in await told(world, "writer")] == ["welcome"]
        assert "You may now write to: writer." in await notes(world, "main")
        assert len([box for box in world.boxes if box.label.session == world.boxes[0].label.session]) == 1
