"""Random swarms: whatever agents do to each other, every row ends, the person hears of it, and nobody waits."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from nanoclaw.flow.agents import MOST_HOPS
from nanoclaw.testing.scripted_box import Act, BoxTurn
from tests.flow.swarm import agent, ends_with, introduce, open_swarm
from tests.flow.test_agents_talk import settled

AGENTS = ("andy", "ann", "ben")
ACTS = 150
PATIENCE = 60  # looks, half a minute apart


def choose_act(dice: random.Random) -> Act:
    """What an agent does with its next rows."""
    kind = dice.choice(("answer", "answer", "silent", "ask", "ask", "both", "die", "fail"))
    targets = dice.sample(AGENTS, dice.randint(1, 2))

    async def act(turn: BoxTurn) -> None:
        asks = [(f"do {turn.rows[-1].seq}", name) for name in targets]
        match kind:
            case "answer":
                ends_with(turn, ("done", None))
            case "silent":
                ends_with(turn)
            case "ask":
                ends_with(turn, *asks)
            case "both":
                ends_with(turn, ("on it", None), *asks)
            case "die":
                turn.send("half", targets[0])
                turn.exit(1, "died")
            case _:
                turn.write(acks="failed")
                turn.exit(3, "failed")

    return act


@pytest.mark.parametrize("seed", range(8))
async def test_every_swarm_comes_to_an_end_and_the_person_hears_of_it(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    async with open_swarm(tmp_path, "ann", "ben") as world:
        await introduce(world, await agent(world, "ann"), "ben")
        chats = [await world.chat("family"), await world.chat("work")]
        for _ in range(ACTS):
            world.script.then(choose_act(dice))
        accepted = [await chat.says("go") for chat in chats]
        for _ in range(PATIENCE):
            await world.after(30)
            open_rows = await world.rows("SELECT id FROM inbox WHERE outcome IS NULL AND trigger = 1")
            if not open_rows:
                break
        assert open_rows == [], f"seed {seed}: {len(open_rows)} rows never ended"
        for chat, message in zip(chats, accepted, strict=True):
            assert chat.heard, f"seed {seed}: {chat.name} heard nothing"
            assert await settled(world, message.message) in ("replied", "failed")
        ((hops,),) = await world.rows("SELECT max(hops) FROM inbox WHERE routed_by IN ('agent', 'agent-answer')")
        assert (hops or 0) <= MOST_HOPS
        crossed = await world.rows(
            "SELECT count(*) FROM inbox i JOIN inbound b ON b.id = i.inbound_id JOIN sessions s ON s.id = i.session_id"
            " WHERE s.messaging_group_id IS NOT NULL AND s.messaging_group_id <> b.messaging_group_id"
        )
        assert crossed == [(0,)]
