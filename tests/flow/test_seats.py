"""More conversations than boxes may run at once: they wait in a fair queue, see their place, and all are answered."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

from nanoclaw.admin.call import OPERATOR, check_request
from nanoclaw.admin.request import Request
from nanoclaw.config import Settings
from nanoclaw.domain.group import BoxLimits
from nanoclaw.flow.aftermath import Aftermath
from nanoclaw.testing.scripted_box import Act, BoxTurn
from tests.flow.test_limits_path import limit
from tests.flow.world import Home, World, open_world


def home(path: Path, seats: int) -> Home:
    return Home(path, settings=Settings(boxes_at_once=seats))


def at_work_until(event: asyncio.Event) -> Act:
    async def act(turn: BoxTurn) -> None:
        await turn.wait(event)
        turn.finish("done: " + " / ".join(turn.texts))

    return act


async def ask(world: World, noun: str, verb: str) -> list[dict[str, object]]:
    """What `ncl NOUN VERB` shows."""
    call = check_request(Request(noun, verb), OPERATOR, world.clock.now_ms())
    table = await world.store.read(lambda connection: world.desk.run(connection, call, Aftermath()))
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


def running(world: World) -> int:
    return sum(not box.is_gone for box in world.boxes)


async def test_an_idle_box_makes_room_the_one_used_longest_ago_first(tmp_path: Path) -> None:
    async with open_world(home(tmp_path, 2)) as world:
        chats = [await world.chat(name) for name in ("one", "two", "three")]
        for chat in chats[:2]:
            await chat.says("hi")
            await chat.hears("you said: hi")
            world.clock.advance(1)
        await chats[2].says("hi")
        await chats[2].hears("you said: hi")
        await world.quiet()
        assert [box.is_gone for box in world.boxes] == [True, False, False]
        assert "why=idle" in world.log_lines.getvalue()


async def test_while_all_are_at_work_a_chat_waits_is_told_its_place_once_and_claims_nothing(tmp_path: Path) -> None:
    async with open_world(home(tmp_path, 1)) as world:
        go = asyncio.Event()
        one, two, three = [await world.chat(name) for name in ("one", "two", "three")]
        world.script.then(at_work_until(go))
        await one.says("a")
        await world.until(lambda: len(world.boxes) == 1)
        await two.says("b")
        await three.says("c")
        await world.after(0)
        assert two.heard == []
        for _ in range(3):
            await world.after(2)
        told = (
            "1 assistant is at work, as many as may be at once. You are number {} in the queue; I begin in your turn."
        )
        assert (two.heard, three.heard) == ([told.format(1)], [told.format(2)])
        states = {text: (state, attempt) for text, state, _, attempt in await world.outcomes()}
        assert (states["b"], states["c"]) == (("queued", 0), ("queued", 0))
        go.set()
        await two.hears(told.format(1), "you said: b")
        await three.hears(told.format(2), "you said: c")
        await world.quiet()
        assert running(world) == 1


async def test_the_place_is_shown_by_status_and_by_the_sessions(tmp_path: Path) -> None:
    async with open_world(home(tmp_path, 1)) as world:
        one, two = await world.chat("one"), await world.chat("two")
        world.script.hangs()
        await one.says("a")
        await world.until(lambda: len(world.boxes) == 1)
        await two.says("b")
        await world.after(0)
        (waiting,) = world.seats.places()
        assert world.seats.places() == {waiting: 1}
        sessions = await ask(world, "sessions", "list")
        assert {row["id"]: row["place"] for row in sessions} == {waiting: 1, world.run.session: None}
        (status,) = await ask(world, "host", "status")
        assert (status["boxes"], status["boxes_waiting"]) == (1, 1)
        assert await world.rows("SELECT run_state FROM sessions WHERE id = ?", waiting) == [("over",)]


async def test_a_start_that_fails_gives_its_seat_to_the_next(tmp_path: Path) -> None:
    async with open_world(home(tmp_path, 1)) as world:
        one, two = await world.chat("one"), await world.chat("two")
        world.runtime.refuse(1, "no")
        await one.says("a")
        await world.quiet()
        await two.says("b")
        await two.hears("you said: b")
        await world.after(6)
        await one.hears("you said: a")


async def test_a_message_that_is_ended_while_it_waits_gives_up_its_place(tmp_path: Path) -> None:
    async with open_world(home(tmp_path, 1)) as world:
        one, two = await world.chat("one"), await world.chat("two")
        world.script.hangs()
        await one.says("a")
        await world.until(lambda: len(world.boxes) == 1)
        await two.says("b")
        await world.after(0)
        assert len(world.seats.places()) == 1
        await world.change("UPDATE inbox SET state = 'done', outcome = 'failed', ended_at = 1 WHERE state = 'queued'")
        await world.after(1)
        assert world.seats.places() == {}


async def test_a_box_at_work_that_is_fed_for_ever_lets_others_in_after_a_minute(tmp_path: Path) -> None:
    async with open_world(home(tmp_path, 1)) as world:
        go = asyncio.Event()
        one, two = await world.chat("one"), await world.chat("two")
        world.script.then(at_work_until(go))
        await one.says("a")
        await world.until(lambda: len(world.boxes) == 1)
        await two.says("b")
        await world.quiet()
        for _ in range(3):
            world.run.alive_at = world.clock.monotonic() + 30
            await world.after(30)
        await one.says("more")
        await world.quiet()
        assert world.run.claimed == 1
        go.set()
        await one.hears("done: a", "you said: more")
        assert two.heard[-1] == "you said: b"
        order = [box.label.session for box in world.boxes]
        assert order[0] == order[2] != order[1]


async def test_a_new_host_finds_who_waited_from_the_store(tmp_path: Path) -> None:
    place = home(tmp_path, 1)
    async with open_world(place) as world:
        one, two = await world.chat("one"), await world.chat("two")
        world.script.hangs()
        await one.says("a")
        await world.until(lambda: len(world.boxes) == 1)
        await two.says("b")
        await world.quiet()
    async with open_world(place) as world:
        await world.recover()
        for name, answer in (("one", "you said: a"), ("two", "you said: b")):
            chat = await world.chat(name)
            await world.until(lambda chat=chat, answer=answer: answer in chat.heard)


async def test_a_group_with_much_memory_takes_several_seats(tmp_path: Path) -> None:
    async with open_world(home(tmp_path, 2)) as world:
        await limit(world, BoxLimits(memory_mb=4096))
        one, two = await world.chat("one"), await world.chat("two")
        for chat in (one, two):
            await chat.says("hi")
            await chat.hears("you said: hi")
        await world.quiet()
        assert running(world) == 1


async def test_no_memory_no_second_box_and_the_queue_goes_on_when_there_is_some(tmp_path: Path) -> None:
    async with open_world(home(tmp_path, 9)) as world:
        one, two = await world.chat("one"), await world.chat("two")
        world.script.hangs()
        await one.says("a")
        await world.until(lambda: len(world.boxes) == 1)
        world.has_memory = False
        await two.says("b")
        await world.after(1)
        assert len(world.boxes) == 1
        world.has_memory = True
        await world.after(1)
        assert two.heard[-1] == "you said: b"


async def test_a_storm_of_chats_over_three_seats_all_are_answered_and_never_more_than_three_run(tmp_path: Path) -> None:
    chance = random.Random(5)
    async with open_world(home(tmp_path, 3)) as world:
        chats = [await world.chat(f"chat{number}") for number in range(12)]
        most = 0
        said = {chat.name: 0 for chat in chats}
        for step in range(60):
            chat = chance.choice(chats)
            said[chat.name] += 1
            if chance.random() < 0.2:
                world.script.dies()
            await chat.says(str(step))
            most = max(most, running(world), world.seats.at_work)
        for _ in range(40):
            await world.after(6)
            most = max(most, running(world))
        assert most <= 3
        assert [row for row in await world.outcomes() if row[1] != "done"] == []
        assert world.seats.places() == {}
        assert world.seats.at_work == len(world.live) <= 3
