"""Idle costs exactly nothing: a day goes by, looked at as the sweep does, and not one turn is opened."""

from __future__ import annotations

from pathlib import Path

from tests.flow.world import open_world

STEP_SECONDS = 60
DAY_STEPS = 24 * 3600 // STEP_SECONDS


async def test_an_idle_day_opens_no_turn_and_starts_no_box(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        family = await world.chat("family")
        club = await world.chat("club", is_group=True, engage_mode="mention")
        await family.says("good night")
        await family.hears("you said: good night")
        await club.says("nobody asked the agent")
        await world.quiet()
        opened, boxes = len(world.gateway.charges), len(world.boxes)
        assert (opened, boxes, world.gateway.open) == (1, 1, set())
        for _ in range(DAY_STEPS):
            world.clock.advance(STEP_SECONDS)
            await world.sweep.look()
        await world.quiet()
        assert len(world.gateway.charges) - opened == 0  # no turn: the gateway refuses every call
        assert len(world.boxes) - boxes == 0
        assert len(world.live) == 0 and world.gateway.listening == set()  # the box of the evening is gone too
        assert family.heard == ["you said: good night"] and club.heard == []
        await family.says("good morning")
        await family.hears("you said: good night", "you said: good morning")
        assert len(world.gateway.charges) - opened == 1
