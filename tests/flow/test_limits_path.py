"""A group's own limits on the path: what its next box is given, and when a turn has taken too long."""

from __future__ import annotations

import os
import sqlite3
from dataclasses import replace
from pathlib import Path

from nanoclaw.domain.group import BoxLimits
from nanoclaw.domain.limits import GIB, MIB
from nanoclaw.flow.aftermath import Aftermath
from nanoclaw.runner.mailbox import Inbound
from nanoclaw.sandbox.runtimes.base import ExitReason
from nanoclaw.store.defaults import FOLDER
from tests.flow.world import World, open_world


async def limit(world: World, limits: BoxLimits) -> None:
    """Give the default agent limits of its own, as `ncl groups config update` does."""

    def change(connection: sqlite3.Connection) -> str:
        groups = world.tables.groups
        group = groups.find_by_folder(connection, FOLDER)
        assert group is not None
        groups.configure(connection, group, replace(groups.config(connection, group), limits=limits), 1)
        return group

    group = await world.store.write(change)
    world.carrier.carry(Aftermath(renew={group: None}))


async def test_a_box_has_the_limits_of_its_group_from_its_next_start(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        chat = await world.chat()
        await chat.says("one")
        await chat.hears("you said: one")
        assert world.boxes[0].spec.limits.memory_bytes == 2 * GIB
        await limit(world, BoxLimits(memory_mb=4096, processes=300, turn_minutes=5))
        await world.quiet()
        await chat.says("two")
        await chat.hears("you said: one", "you said: two")
        assert (world.boxes[1].spec.limits.memory_bytes, world.boxes[1].spec.limits.processes) == (4 * GIB, 300)
        run = Inbound(str(world.run.mailbox.in_directory)).read_run()
        assert (run.settings.process_limit, run.settings.turn_seconds) == (300, 300.0)


async def test_a_turn_may_take_as_long_as_its_group_says(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await limit(world, BoxLimits(turn_minutes=5))
        chat = await world.chat()
        world.script.hangs()
        await chat.says("work")
        await world.until(lambda: len(world.boxes) == 1 and world.boxes[0].is_quiet)
        await world.after(0)  # the first look collects, and counts as its last sign of work
        for _ in range(8):
            assert "why=stuck" not in world.log_lines.getvalue()
            world.run.alive_at = world.clock.monotonic() + 45
            await world.after(45.1)
        assert "why=stuck" in world.log_lines.getvalue()


async def fill(world: World, name: str, megabytes: int) -> None:
    """The agent writes a file; the watchdog looks, a minute later."""
    with open(world.means.config.paths.workspace(FOLDER) / name, "wb") as file:
        os.posix_fallocate(file.fileno(), 0, megabytes * MIB)
    for run in world.live:
        run.alive_at = world.clock.monotonic() + 61
    world.clock.advance(61)
    await world.watchdog.look()
    await world.quiet()


async def test_the_chat_is_told_once_when_the_files_are_close_to_their_limit(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await limit(world, BoxLimits(disk_mb=64))
        chat = await world.chat()
        await chat.says("hi")
        await world.quiet()
        await fill(world, "a", 50)
        assert chat.heard == ["you said: hi"]
        await fill(world, "b", 9)
        mend = "Delete some, or give it more: `ncl groups config update main --disk 128M`."
        assert chat.heard[1:] == [f"The agent's files take 59.0 of 64.0 MB. {mend}"]
        await fill(world, "c", 1)
        assert len(chat.heard) == 2
        assert len(world.live) == 1


async def test_files_over_the_limit_end_the_run_and_the_chat_hears_which_limit_and_how_much(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await limit(world, BoxLimits(disk_mb=64))
        chat = await world.chat()
        for _ in range(3):
            world.script.hangs()
        await chat.says("hi")
        await world.quiet()
        await fill(world, "a", 90)
        assert "why=disk" in world.log_lines.getvalue()
        for _ in range(2):
            await world.after(20)
            await world.watchdog.look()
            await world.quiet()
        mend = "Delete some, or give it more: `ncl groups config update main --disk 128M`."
        assert chat.heard == [
            f"I gave up on this message after 3 tries: the agent's files take 90.0 of 64.0 MB. {mend}"
        ]


async def test_a_box_that_begins_over_its_limit_may_tidy_up_but_not_grow(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await limit(world, BoxLimits(disk_mb=64))
        chat = await world.chat()
        await chat.says("hi")
        await world.quiet()
        await fill(world, "a", 70)
        assert "why=disk" not in world.log_lines.getvalue()  # its first walk
        await fill(world, "b", 5)
        assert "why=disk" in world.log_lines.getvalue()


async def test_an_agent_killed_for_memory_is_named_as_such_though_its_runner_lived(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await limit(world, BoxLimits(memory_mb=3072))
        chat = await world.chat()
        for _ in range(3):
            world.script.dies(3, "the agent's program ended", ExitReason.MEMORY)
        await chat.says("hi")
        await world.quiet()
        for _ in range(2):
            await world.after(20)
        mend = "Ask for less at once, or give it more: `ncl groups config update main --memory 6G`."
        words = "I gave up on this message after 3 tries: the agent ran out of its memory of 3 GB."
        assert chat.heard == [f"{words} {mend}"]
