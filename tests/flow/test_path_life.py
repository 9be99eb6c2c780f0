"""The life of boxes: kept while idle, ended when unused or when memory is short, stopped without blame."""

from __future__ import annotations

import asyncio
from pathlib import Path

from nanoclaw.config import Settings
from nanoclaw.testing.scripted_box import BoxTurn
from tests.flow.world import Home, World, open_world


async def test_an_idle_box_is_kept_ten_minutes_and_then_ended(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        chat = await world.chat()
        await chat.says("one")
        await chat.hears("you said: one")
        await world.quiet()
        await beat(world, 600)
        assert len(world.live) == 1
        await beat(world, 1)
        assert len(world.live) == 0 and world.boxes[0].stop_asked
        assert await world.rows("SELECT run_state, not_before FROM sessions") == [("over", 0)]
        assert list(tmp_path.glob("sessions/*/*/runs/*")) == []
        await chat.says("two")
        await chat.hears("you said: one", "you said: two")
        assert len(world.boxes) == 2


async def test_a_box_at_work_is_not_idle_however_long_it_takes(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        chat = await world.chat()
        world.script.hangs()
        await chat.says("long work")
        await world.quiet()
        await beat(world, 1200)
        assert len(world.live) == 1


async def test_when_memory_is_short_the_idle_box_used_longest_ago_goes_first(tmp_path: Path) -> None:
    home = Home(tmp_path, settings=Settings(memory_floor_mb=1 << 40))
    async with open_world(home) as world:
        busy, old, new = await world.chat("busy"), await world.chat("old"), await world.chat("new")
        world.runtime.script_for("busy").hangs()
        await busy.says("work")
        await world.quiet()
        for chat in (old, new):
            await chat.says("hi")
            await chat.hears("you said: hi")
            await world.quiet()
            world.clock.advance(1)
        sessions = {box.label.session: BoxTurn(box, box.seen).chats[0][1].origin for box in world.boxes}
        await world.after(0)
        assert {sessions[run.session] for run in world.live} == {"busy", "new"}
        await world.after(1)
        await world.after(1)
        assert {sessions[run.session] for run in world.live} == {"busy"}


async def test_a_message_that_comes_while_its_idle_box_is_being_ended_is_answered(tmp_path: Path) -> None:
    """At another moment of the box's end each time."""
    async with open_world(tmp_path) as world:
        for number in range(15):
            chat = await world.chat(f"chat {number}")
            await chat.says("before")
            await chat.hears("you said: before")
            await world.quiet()
            await let_pass(world, 601)
            looking = asyncio.ensure_future(world.sweep.look())
            for _ in range(2 * number):
                await asyncio.sleep(0)
            await chat.says("meanwhile")
            await looking
            await world.quiet()
            await world.after(1)
            assert chat.heard == ["you said: before", "you said: meanwhile"]


async def test_a_graceful_stop_gives_its_rows_back_without_a_back_off(tmp_path: Path) -> None:
    home = Home(tmp_path)
    async with open_world(home) as world:
        chat = await world.chat()
        world.script.hangs()
        await chat.says("hi")
        await world.quiet()
        await world.drain()
        assert world.boxes[0].stop_asked and len(world.live) == 0
        assert await world.outcomes() == [("hi", "queued", None, 1)]
        assert await world.rows("SELECT run_state, not_before <= ? FROM sessions", home.clock.now_ms()) == [("over", 1)]
        await chat.says("while it stops")
        await world.quiet()
        assert len(world.boxes) == 1
    async with open_world(home) as world:
        await world.recover()
        await world.until(lambda: len(chat.heard) >= 1, lambda: str(chat.heard))
        await world.quiet()
        words = "\n".join(chat.heard)
        assert words.index("hi") < words.index("while it stops")
        assert await world.rows("SELECT DISTINCT failures, outcome FROM inbox") == [(0, "replied")]


async def beat(world: World, seconds: float) -> None:
    """Let time pass with a sign of life of every box in it, and look as the sweep does."""
    await let_pass(world, seconds)
    await world.after(0)


async def let_pass(world: World, seconds: float) -> None:
    world.clock.advance(seconds)
    for run in world.live:
        run.alive_at = world.clock.monotonic()
