"""Talking: what people say reaches an agent, what agents say reaches the chat."""

from __future__ import annotations

from pathlib import Path

from tests.flow.world import open_world


async def test_one_message_gets_one_reply(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        chat = await world.chat()
        world.script.replies("hello")
        await chat.says("hi")
        await chat.hears("hello")
        await world.quiet()
        assert await world.outcomes() == [("hi", "done", "replied", 1)]
