"""A group that is set up anew: its live boxes end when they have answered, and what comes later gets a new one."""

from __future__ import annotations

import asyncio
from pathlib import Path

from nanoclaw.flow.aftermath import Aftermath
from nanoclaw.testing.scripted_box import BoxTurn
from tests.flow.world import Home, World, open_world


def renew(world: World) -> None:
    after = Aftermath()
    after.renew[next(iter(world.live)).group.id] = None
    world.carrier.carry(after)


async def test_an_idle_box_ends_at_once_and_the_next_message_gets_a_new_one(tmp_path: Path) -> None:
    async with open_world(Home(tmp_path)) as world:
        chat = await world.chat("family")
        world.script.replies("one")
        world.script.replies("two")
        await chat.says("first")
        await chat.hears("one")
        await world.quiet()
        renew(world)
        await world.quiet()
        assert len(world.live) == 0
        await chat.says("second")
        await chat.hears("one", "two")
        assert len(world.boxes) == 2


async def test_a_box_at_work_answers_first_and_what_comes_meanwhile_waits_for_the_new_one(tmp_path: Path) -> None:
    go_on = asyncio.Event()

    async def works(turn: BoxTurn) -> None:
        await turn.wait(go_on)
        turn.finish("one")

    async with open_world(Home(tmp_path)) as world:
        chat = await world.chat("family")
        world.script.then(works)
        world.script.replies("two")
        await chat.says("first")
        await world.until(lambda: any(run.claimed for run in world.live), lambda: "nothing was claimed")
        renew(world)
        await chat.says("second")
        await world.quiet()
        assert not world.boxes[0].is_gone
        assert [row.seq for row in world.boxes[0].seen] == [2]
        go_on.set()
        await chat.hears("one", "two")
        assert world.boxes[0].is_gone
        assert len(world.boxes) == 2
