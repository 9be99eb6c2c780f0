"""Turns that end without a word: who is told, who is not, and that nothing is kept open behind them."""

from __future__ import annotations

from pathlib import Path

import pytest

from nanoclaw.domain.wiring import EngageMode, IgnoredMessagePolicy
from nanoclaw.store.chats import ALWAYS, WiringRules
from nanoclaw.testing.scripted_box import BoxTurn
from tests.flow.cast import MENTION, Cast
from tests.flow.world import open_world

OVERHEARS = WiringRules(engage=EngageMode.MENTION, ignored=IgnoredMessagePolicy.ACCUMULATE)
ENDED = "The agent ended its work without an answer. Ask again, or ask what it did."


@pytest.mark.parametrize("rules", [ALWAYS, OVERHEARS])
async def test_a_command_of_the_agents_driver_that_ends_silent_in_a_group_is_told(
    tmp_path: Path, rules: WiringRules
) -> None:
    async with open_world(tmp_path) as world:
        chat = await Cast(world).chat("garden", ("Andy", rules))
        world.script.ends_silently()
        await chat.says("/compact" if rules is ALWAYS else "@andy /compact")
        await chat.hears(ENDED)


async def test_whoever_calls_an_agent_by_name_is_told_when_it_ends_silent(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        chat = await Cast(world).chat("garden", ("Andy", ALWAYS), ("Bob", MENTION))
        world.script.ends_silently()
        await chat.says("only overheard")
        await world.quiet()
        assert chat.heard == []
        world.script.ends_silently()
        world.script.ends_silently()
        await chat.says("@bob hi")
        await chat.hears(ENDED)


async def test_what_rides_behind_a_command_keeps_no_turn_and_no_box(tmp_path: Path) -> None:
    """The runner leaves what was overheard before a command to the next message; that may never come."""
    async with open_world(tmp_path) as world:
        chat = await Cast(world).chat("garden", ("Andy", OVERHEARS))

        async def finish_the_command_alone(turn: BoxTurn) -> None:
            turn.rows = [row for row in turn.rows if row.trigger]
            turn.finish("done")

        world.script.then(finish_the_command_alone)
        await chat.says("chatter")
        await chat.says("@andy /compact")
        await chat.hears("done")
        await world.quiet()
        assert world.gateway.open == set() and world.run.claimed == 0
        world.clock.advance(601)
        world.run.alive_at = world.clock.monotonic()
        await world.after(0)
        assert len(world.live) == 0
        await chat.says("@andy hi")
        await chat.hears("done", "you said: @andy hi")
        told = [text for box in world.boxes[1:] for _, text in ((r, c.text) for r, c in BoxTurn(box, box.seen).chats)]
        assert told == ["chatter", "@andy hi"]
        assert {outcome for _, _, outcome, _ in await world.outcomes()} == {"silent", "replied"}
