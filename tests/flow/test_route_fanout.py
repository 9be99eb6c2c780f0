"""One message for several agents: the failure of one, repetitions, a message that more agents are given later."""

from __future__ import annotations

from pathlib import Path

from nanoclaw.channels.base import Accepted
from nanoclaw.flow.aftermath import Aftermath
from nanoclaw.store.chats import ALWAYS
from tests.flow.cast import Cast
from tests.flow.world import CHANNEL, Chat, World, open_world

# An agent whose rows the store does not take: what is wrong with one session is no business of the others.
BROKEN = "CREATE TRIGGER broken BEFORE INSERT ON inbox WHEN NEW.session_id IN (SELECT s.id FROM sessions s JOIN \
agent_groups g ON g.id = s.agent_group_id WHERE g.name = 'Broken') BEGIN SELECT raise(ABORT, 'no room for it'); END"


async def replay(world: World, chat: Chat, text: str, platform_id: str, sender: str) -> Accepted:
    """As an approval gives a held message to the intake."""
    message, after = chat.message(text, sender, platform_id=platform_id), Aftermath()
    accepted = await world.store.write(
        lambda connection: world.intake.take_one(connection, CHANNEL, message, after, world.clock.now_ms())
    )
    world.carrier.carry(after)
    return accepted


async def test_one_agents_failure_does_not_touch_the_others(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        cast = Cast(world)
        chat = await cast.chat("ops", ("Andy", ALWAYS), ("Broken", ALWAYS), ("Cy", ALWAYS))
        await world.change(BROKEN)
        accepted = await chat.says("hi")
        assert accepted.message and not accepted.refused
        assert await cast.who("hi") == ["Andy", "Cy"]
        await chat.hears("you said: hi", "you said: hi")
        assert await cast.audited() == [("route.failed", "host", cast.agents["Broken"])]
        assert "event=route.failed" in world.log_lines.getvalue() and "no room for it" in world.log_lines.getvalue()
        assert await world.rows("SELECT count(*) FROM sessions WHERE agent_group_id = ?", cast.agents["Broken"]) == [
            (0,)
        ]


async def test_a_message_that_no_agent_could_be_given_is_not_kept_and_its_sender_is_told(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        cast = Cast(world)
        chat = await cast.chat("ops", ("Broken", ALWAYS))
        await world.change(BROKEN)
        failed, other = await chat.says("hi"), await world_says_elsewhere(cast)
        assert failed.message == "" and failed.reason == "route_failed" and "could not be handed" in failed.refused
        assert other.message and await world.rows("SELECT text FROM inbound") == [("fine",)]


async def world_says_elsewhere(cast: Cast) -> Accepted:
    return await (await cast.chat("home", ("Andy", ALWAYS))).says("fine")


async def test_a_repeated_message_is_accepted_once_and_aborts_nothing_of_its_batch(tmp_path: Path) -> None:
    """Defect 16: a repetition was an error that cut off the rest."""
    async with open_world(tmp_path) as world:
        cast = Cast(world)
        chat = await cast.chat("ops", ("Andy", ALWAYS), ("Bob", ALWAYS))
        first = await chat.says("one", platform_id="p1")
        batch = [chat.message("one", platform_id="p1"), chat.message("two", platform_id="p2")]
        again, second = await world.channel.receive(*batch, *[])
        assert (again.message, again.fresh) == (first.message, False) and second.fresh
        assert await cast.who("one") == ["Andy", "Bob"] and await cast.who("two") == ["Andy", "Bob"]
        assert await cast.refusals() == []


async def test_the_same_platform_id_in_two_chats_is_two_messages(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        cast = Cast(world)
        for name in ("a", "b"):
            chat = await cast.chat(name, ("Andy", ALWAYS))
            assert (await chat.says(f"in {name}", platform_id="1:/x")).fresh
        assert len(await cast.given()) == 2


async def test_a_held_message_reaches_the_agent_that_its_sender_was_let_in_to_and_no_other_twice(
    tmp_path: Path,
) -> None:
    async with open_world(tmp_path) as world:
        cast = Cast(world)
        chat = await cast.chat("ops", ("Andy", ALWAYS), ("Bob", ALWAYS))
        user = await cast.person("mum", member="Andy")
        accepted = await chat.says("hi", sender="mum", platform_id="p1")
        assert await cast.who("hi") == ["Andy"]
        bob = cast.agents["Bob"]
        await world.store.write(lambda c: world.tables.people.add_member(c, user, bob, 0))
        for _ in range(2):
            replayed = await replay(world, chat, "hi", "p1", "mum")
            assert replayed.message == accepted.message
        assert await cast.who("hi") == ["Andy", "Bob"]
        await chat.hears("you said: hi", "you said: hi")


async def test_a_held_message_is_judged_again_and_refused_when_its_sender_is_still_unknown(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        cast = Cast(world)
        chat = await cast.chat("ops", ("Andy", ALWAYS))
        assert (await replay(world, chat, "hi", "p1", "mallory")).reason == "unknown_sender_strict"
        assert await cast.given() == []


async def test_a_batch_keeps_its_order_over_chats_and_agents(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        cast = Cast(world)
        chats = [await cast.chat(name, ("Andy", ALWAYS), ("Bob", ALWAYS)) for name in ("a", "b")]
        batch = [chats[number % 2].message(f"{number}") for number in range(40)]
        await world.channel.receive(*batch)
        texts = [text for text, agent, *_ in await cast.given() if agent == "Bob"]
        assert texts == [str(number) for number in range(40)]
