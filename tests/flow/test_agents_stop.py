"""`/stop` and `/clear` reach the agents that were asked as well: nothing goes on that nobody waits for any more."""

from __future__ import annotations

from pathlib import Path

import pytest

from nanoclaw.flow.aftermath import Aftermath
from nanoclaw.flow.agents import STOPPED as TURN_STOPPED
from nanoclaw.flow.agents import Agents, Letter
from nanoclaw.testing.scripted_box import BoxTurn
from tests.flow.swarm import ends_with, open_swarm, sessions_of
from tests.flow.test_agents_talk import settled

STOPPED = "Stopped, as Alice asked."


@pytest.mark.parametrize("command", ["/stop", "/clear"])
async def test_a_stop_ends_the_agents_that_were_asked_and_those_they_asked(tmp_path: Path, command: str) -> None:
    async with open_swarm(tmp_path, "ann", "ben") as world:
        chat = await world.chat()

        async def asks_both(turn: BoxTurn) -> None:
            ends_with(turn, ("dig", "ann"), ("dig too", "ben"))

        world.runtime.script_for("family").then(asks_both)
        world.runtime.script_for("andy").hangs()
        world.runtime.script_for("andy").hangs()
        accepted = await chat.says("dig")
        await world.until(lambda: len(world.boxes) == 3)
        await world.quiet()
        assert await settled(world, accepted.message) is None
        await chat.says(command)
        await world.until(lambda: len(chat.heard) == 1)
        await world.quiet()
        await world.after(120)
        assert chat.heard[0].startswith(STOPPED)
        assert len(chat.heard) == 1 and len(world.boxes) == 3
        assert await settled(world, accepted.message) == "failed"
        for name in ("ann", "ben"):
            assert [row for row in await sessions_of(world, name) if row[0] in {r.session for r in world.live}] == []
        await chat.says("and now?")
        await world.until(lambda: len(chat.heard) == 2)
        assert chat.heard[1] == "you said: and now?"


async def test_an_answer_that_is_on_its_way_when_it_is_stopped_wakes_nobody(tmp_path: Path) -> None:
    async with open_swarm(tmp_path, "ann") as world:
        chat = await world.chat()

        async def asks_and_goes_on(turn: BoxTurn) -> None:
            turn.send("dig", to="ann")
            await turn.more()

        world.runtime.script_for("family").then(asks_and_goes_on)
        world.runtime.script_for("andy").replies("found it")
        await chat.says("dig")
        await world.until(lambda: len(world.boxes) == 2)
        await world.quiet()
        await chat.says("/stop")
        await chat.hears(STOPPED)
        await world.after(120)
        assert chat.heard == [STOPPED] and len(world.boxes) == 2
        assert await world.rows("SELECT count(*) FROM inbox WHERE state IN ('queued', 'claimed')") == [(0,)]


async def test_what_a_stopped_agent_still_writes_goes_nowhere(tmp_path: Path) -> None:
    async with open_swarm(tmp_path, "ann") as world:
        chat = await world.chat()
        world.runtime.script_for("family").replies("dig", to="ann")
        world.runtime.script_for("andy").hangs()
        await chat.says("dig")
        await world.until(lambda: len(world.boxes) == 2)
        await world.quiet()
        await chat.says("/stop")
        await chat.hears(STOPPED)
        await world.quiet()
        ((session, group, seq),) = await world.rows(
            "SELECT i.session_id, s.agent_group_id, i.seq FROM inbox i JOIN sessions s ON s.id = i.session_id"
            " WHERE i.state = 'dead'"
        )
        andy = await world.rows("SELECT id FROM agent_groups WHERE folder = 'main'")
        agents, after = Agents(world.tables), Aftermath()
        place = await world.store.read(lambda c: world.tables.inbox.place(c, session, seq))
        late = Letter(session, group, "1-1", place, "found it")
        assert await world.store.write(lambda c: agents.answer(c, late, after, 0)) == TURN_STOPPED
        assert await world.store.write(lambda c: agents.write(c, late, andy[0][0], after, 0)) == TURN_STOPPED
        assert not after.wake
