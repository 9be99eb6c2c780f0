"""Scenarios on a disk that is really full: run as a child in a mount namespace of its own, where a tmpfs is that disk.

`python -m tests.flow.full_disk DIRECTORY` runs all of them side by side and prints {name: "ok" or what went wrong}.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import sqlite3
import sys
import traceback
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import pytest

from nanoclaw.errors import StoreFull
from nanoclaw.testing.scripted_box import BoxTurn
from tests.flow.world import Home, World, open_world

CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
MS_REC_PRIVATE = 0x4000 | 0x40000
DISK = "size=3m"


class Disk:
    """A tmpfs that can be filled to the last byte and emptied again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ballast = path / "ballast"
        path.mkdir(parents=True, exist_ok=True)
        mount("tmpfs", path, "tmpfs", 0, DISK)

    def fill(self) -> None:
        with self.ballast.open("ab", buffering=0) as file:
            for size in (65536, 4096, 1):
                try:
                    while True:
                        file.write(b"\0" * size)
                except OSError:
                    continue
        database = self.path / "nanoclaw.db"
        if database.exists():
            fill_log(database)

    def empty(self) -> None:
        self.ballast.unlink(missing_ok=True)


def fill_log(database: Path) -> None:
    """Use up what room is left inside the database's own log, a page at a time."""
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        for number in range(4000):
            try:
                connection.execute("UPDATE schema_version SET applied_at = ?", (number,))
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
                    raise
                return
    raise AssertionError("the disk never filled")


async def a_message_is_refused_and_accepted_when_the_platform_repeats_it(world: World, disk: Disk) -> None:
    chat = await world.chat()
    await chat.says("before")
    await chat.hears("you said: before")
    await world.quiet()
    disk.fill()
    message = chat.message("hi", platform_id="p1")
    with pytest.raises(StoreFull, match="Free some space"):
        await world.channel.receive(message)
    await world.after(1)
    assert chat.heard == ["you said: before"]
    disk.empty()
    (accepted,) = await world.channel.receive(message)
    assert accepted.fresh
    await chat.hears("you said: before", "you said: hi")


async def an_answer_that_comes_while_the_disk_is_full_is_sent_when_there_is_room(world: World, disk: Disk) -> None:
    chat, finish = await world.chat(), asyncio.Event()

    async def answers_late(turn: BoxTurn) -> None:
        await turn.wait(finish)
        turn.finish("late")

    world.script.then(answers_late)
    await chat.says("hi")
    await world.quiet()
    disk.fill()
    finish.set()
    await world.until(lambda: "store.filled" in world.log_lines.getvalue(), world.log_lines.getvalue)
    await world.after(1)
    assert chat.heard == []
    disk.empty()
    await world.after(1)
    await chat.hears("late")


async def what_was_handed_to_the_platform_is_not_sent_again_nor_in_the_way(world: World, disk: Disk) -> None:
    chat = await world.chat()
    world.channel.block(chat.name)
    world.script.replies("first", "second")
    await chat.says("hi")
    await world.until(lambda: len(world.channel.asked) == 1)
    disk.fill()
    world.channel.unblock(chat.name)
    await world.until(lambda: chat.heard == ["first"])
    await world.until(lambda: "store.filled" in world.log_lines.getvalue(), world.log_lines.getvalue)
    disk.empty()
    await chat.hears("first", "second")
    await world.quiet()
    assert await world.rows("SELECT text, state FROM outbox ORDER BY id") == [("first", "sent"), ("second", "sent")]


async def a_send_that_fails_on_a_full_disk_is_repeated(world: World, disk: Disk) -> None:
    chat = await world.chat()
    world.channel.block(chat.name)
    world.channel.fail(chat.name, 1)
    await chat.says("hi")
    await world.until(lambda: len(world.channel.asked) == 1)
    disk.fill()
    world.channel.unblock(chat.name)
    await world.until(lambda: "store.filled" in world.log_lines.getvalue(), world.log_lines.getvalue)
    disk.empty()
    await world.quiet()
    await world.after(2)
    await chat.hears("you said: hi")


async def a_box_that_dies_on_a_full_disk_is_tried_again(world: World, disk: Disk) -> None:
    chat, die = await world.chat(), asyncio.Event()

    async def dies_late(turn: BoxTurn) -> None:
        await turn.wait(die)
        turn.exit(1)

    world.script.then(dies_late)
    await chat.says("hi")
    await world.quiet()
    disk.fill()
    die.set()
    await world.until(lambda: "store.filled" in world.log_lines.getvalue(), world.log_lines.getvalue)
    disk.empty()
    await world.until(lambda: len(world.live) == 0)
    await world.quiet()
    await world.after(5)
    await chat.hears("you said: hi")


async def what_a_box_asked_before_it_died_is_answered_once(world: World, disk: Disk) -> None:
    chat = await world.chat()

    async def asks_and_dies(turn: BoxTurn) -> None:
        turn.box.muted = True
        turn.ask("launch_rocket")
        turn.exit(1)

    world.script.then(asks_and_dies)
    world.at["end.drained"] = disk.fill
    await chat.says("hi")
    await world.until(lambda: "store.filled" in world.log_lines.getvalue(), world.log_lines.getvalue)
    del world.at["end.drained"]
    disk.empty()
    await world.until(lambda: len(world.live) == 0)
    await world.after(5)
    await chat.hears("you said: hi")
    assert await world.rows("SELECT count(*) FROM audit") == [(1,)]
    assert [row.kind for box in world.boxes for row in box.seen].count("system") <= 1


async def a_box_that_cannot_start_on_a_full_disk_is_tried_again(world: World, disk: Disk) -> None:
    chat = await world.chat()
    world.gateway.refuse_next_listen(OSError("no room"))
    world.at["wake.projected"] = disk.fill
    await chat.says("hi")
    await world.until(lambda: "store.filled" in world.log_lines.getvalue(), world.log_lines.getvalue)
    del world.at["wake.projected"]
    disk.empty()
    await world.quiet()
    await world.after(5)
    await chat.hears("you said: hi")


async def an_idle_box_is_ended_on_a_full_disk(world: World, disk: Disk) -> None:
    chat = await world.chat()
    await chat.says("hi")
    await chat.hears("you said: hi")
    await world.quiet()
    disk.fill()
    world.clock.advance(601)
    world.run.alive_at = world.clock.monotonic()
    await world.sweep.look()
    await world.until(lambda: world.boxes[0].stop_asked)
    disk.empty()
    await world.until(lambda: len(world.live) == 0)
    await chat.says("again")
    await chat.hears("you said: hi", "you said: again")


async def a_follow_up_whose_mailbox_is_full_is_answered_by_a_new_run(world: World, disk: Disk) -> None:
    chat = await world.chat()
    await chat.says("hi")
    await chat.hears("you said: hi")
    await world.quiet()
    disk.fill()
    text = "x" * 100_000
    await chat.says(text)
    await world.until(lambda: len(world.live) == 0, world.log_lines.getvalue)
    disk.empty()
    await world.quiet()
    await world.after(5)
    await chat.hears("you said: hi", f"you said: {text}")


async def a_mailbox_that_cannot_be_made_is_made_when_there_is_room(world: World, disk: Disk) -> None:
    chat = await world.chat()
    disk.fill()
    await chat.says("hi")
    await world.until(lambda: "run.start_failed" in world.log_lines.getvalue(), world.log_lines.getvalue)
    disk.empty()
    await world.quiet()
    await world.after(5)
    await chat.hears("you said: hi")


Scenario = Callable[[World, Disk], Awaitable[None]]
STORE: tuple[Scenario, ...] = (
    a_message_is_refused_and_accepted_when_the_platform_repeats_it,
    an_answer_that_comes_while_the_disk_is_full_is_sent_when_there_is_room,
    what_was_handed_to_the_platform_is_not_sent_again_nor_in_the_way,
    a_send_that_fails_on_a_full_disk_is_repeated,
    a_box_that_dies_on_a_full_disk_is_tried_again,
    what_a_box_asked_before_it_died_is_answered_once,
    a_box_that_cannot_start_on_a_full_disk_is_tried_again,
    an_idle_box_is_ended_on_a_full_disk,
)
MAILBOX: tuple[Scenario, ...] = (
    a_follow_up_whose_mailbox_is_full_is_answered_by_a_new_run,
    a_mailbox_that_cannot_be_made_is_made_when_there_is_room,
)
NAMES = tuple(scenario.__name__ for scenario in STORE + MAILBOX)


async def play(scenario: Scenario, folder: str, root: Path) -> tuple[str, str]:
    home = root / scenario.__name__
    disk = Disk(home / folder)
    try:
        async with open_world(Home(home)) as world:
            await scenario(world, disk)
    except Exception:  # boundary: each scenario tells for itself
        return scenario.__name__, traceback.format_exc()
    return scenario.__name__, "ok"


async def play_all(root: Path) -> dict[str, str]:
    plays = [play(scenario, "data", root) for scenario in STORE]
    plays += [play(scenario, "sessions", root) for scenario in MAILBOX]
    return dict(await asyncio.gather(*plays))


def mount(source: str, target: Path, kind: str, flags: int, options: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(source.encode(), bytes(target), kind.encode(), flags, options.encode()) != 0:
        raise OSError(ctypes.get_errno(), "mount", str(target))


def enter_namespace() -> None:
    """Get a mount namespace of one's own; a normal user gets it inside a user namespace, and stays who they are."""
    uid, gid = os.geteuid(), os.getegid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS if uid == 0 else CLONE_NEWNS | CLONE_NEWUSER) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    if uid != 0:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    mount("none", Path("/"), "none", MS_REC_PRIVATE, "")


if __name__ == "__main__":
    try:
        enter_namespace()
    except OSError as error:
        print(json.dumps({"cannot": str(error)}))
    else:
        print(json.dumps(asyncio.run(play_all(Path(sys.argv[1])))))
