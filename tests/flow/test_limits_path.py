"""A group's own limits on the path: what its next box is given, and when a turn has taken too long."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

from nanoclaw.domain.group import BoxLimits
from nanoclaw.domain.limits import GIB
from nanoclaw.flow.aftermath import Aftermath
from nanoclaw.runner.mailbox import Inbound
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
