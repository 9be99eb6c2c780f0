"""Everything at once, at random: whatever dies, hangs up, is lost or set back, each message is answered once, in order.

A seed is one story: lives of a host over one home, each ended by a kill at a durable step, a graceful stop or a plain
kill, with boxes that die, doorbells that are lost, follow-ups, idle stops and a clock that is set back. Only the step
where a platform has a message and the store does not know it is left out: there a repeat is right, and marked.
"""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from nanoclaw.channels.base import Incoming
from nanoclaw.domain.session import RunEnd
from nanoclaw.testing.crashpoints import HOST_CRASH_POINTS
from nanoclaw.testing.scripted_box import Act, BoxTurn
from tests.flow.world import Chat, Home, World, open_world

CHATS = ("family", "work")
POINTS = [point for point in HOST_CRASH_POINTS if point != "deliver.handed_over"]
STEPS = ("say", "stop", "wait", "set back")
LOOKS = 60
GAVE_UP = "I gave up on this message"


class Story:
    """One seed: what people said so far, and which messages have cost a box its life."""

    def __init__(self, path: Path, seed: int) -> None:
        self.home = Home(path)
        self.dice = random.Random(seed)
        self.said: list[Incoming] = []
        self.deadly: set[str] = set()

    async def live(self) -> None:
        """One life of the host, and its end."""
        dice = self.dice
        crash_at = dice.choice(POINTS) if dice.random() < 0.6 else ""
        async with open_world(self.home, crash_at=crash_at) as world:
            chats = await self.begin(world, may_die=True)
            await self.step(world, dice.choice(chats), "say")
            for _ in range(dice.randint(2, 11)):
                await self.step(world, dice.choice(chats), dice.choices(STEPS, (6, 1, 2, 1))[0])
                await spins(dice.randint(0, 30))
            if crash_at:
                await spins(200)
            elif dice.random() < 0.6:
                await world.drain()

    async def end(self) -> None:
        """The last life, in which nothing goes wrong: everything is answered, and nothing is left over."""
        async with open_world(self.home) as world:
            chats = await self.begin(world, may_die=False)
            for _ in range(LOOKS):
                await pass_time(world, 5)
                await world.quiet()
                if await is_done(world):
                    break
            ended = {text: state for text, state, *_ in await world.outcomes()}
            assert list(ended.values()).count("done") + gave_up(chats) == len(self.said), world.log_lines.getvalue()
            for chat in chats:
                ours = [item.text for item in self.said if item.chat_id == chat.name]
                assert answered(chat) == [text for text in ours if ended[text] == "done"]
            assert world.gateway.open == set()
            await world.drain()
            assert list(self.home.path.glob("sessions/*/*/runs/*")) == []

    async def begin(self, world: World, *, may_die: bool) -> list[Chat]:
        chats = [await world.chat(name) for name in CHATS]
        for _ in range(200):
            world.script.then(self.act(may_die=may_die))
        await world.recover()
        await world.channel.receive(*self.said)  # the platform repeats what was not acknowledged
        return chats

    async def step(self, world: World, chat: Chat, what: str) -> None:
        dice = self.dice
        match what:
            case "say":
                fresh = [chat.message(f"m{len(self.said) + number}") for number in range(dice.randint(1, 3))]
                self.said += fresh
                await world.channel.receive(*fresh)
            case "stop":
                for run in world.live:
                    world.spawn(world.runs.stop(run, RunEnd.IDLE, 1.0), "stop")
            case "wait":
                await pass_time(world, dice.choice((0.5, 1, 5, 20)))
            case _:
                world.clock.set_back(3600)

    def act(self, *, may_die: bool) -> Act:
        dice = self.dice

        async def act(turn: BoxTurn) -> None:
            await spins(dice.randint(0, 3))
            if may_die and dice.random() < 0.25 and self.deadly.isdisjoint(turn.texts):
                self.deadly.update(turn.texts)
                turn.exit(dice.choice((0, 1, 3, 137)))
            turn.box.muted = dice.random() < 0.2
            if dice.random() < 0.2:
                await take_follow_ups(turn)
            turn.finish("you said: " + " / ".join(turn.texts))
            turn.box.muted = False

        return act


@pytest.mark.parametrize("seed", range(10))
async def test_every_message_is_answered_once_and_in_order_in_story(tmp_path: Path, seed: int) -> None:
    await play(tmp_path, seed)


@pytest.mark.long  # four minutes of random stories: the ten above are the daily share
@pytest.mark.parametrize("seed", range(10, 500))
async def test_every_message_is_answered_once_and_in_order_in_long_story(tmp_path: Path, seed: int) -> None:
    await play(tmp_path, seed)


async def play(path: Path, seed: int) -> None:
    story = Story(path, seed)
    for _ in range(story.dice.randint(1, 4)):
        await story.live()
    await story.end()


async def spins(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def take_follow_ups(turn: BoxTurn) -> None:
    try:
        async with asyncio.timeout(0.02):
            await turn.more()
    except TimeoutError:
        return


async def pass_time(world: World, seconds: float) -> None:
    world.clock.advance(seconds)
    for run in world.live:
        run.alive_at = world.clock.monotonic()
    await world.sweep.look()


async def is_done(world: World) -> bool:
    if any(state not in ("done", "dead") for _, state, *_ in await world.outcomes()):
        return False
    # only then: an end and its answer are written as one, and may be between the two looks
    return not await world.rows("SELECT 1 FROM outbox WHERE state NOT IN ('sent', 'failed')")


def gave_up(chats: list[Chat]) -> int:
    """How many messages were given up, with words: those in whose turn a box and two hosts died."""
    return sum(GAVE_UP in text for chat in chats for text in chat.heard)


def answered(chat: Chat) -> list[str]:
    replies = [text.rpartition("\n")[2] for text in chat.heard if GAVE_UP not in text]
    words = [text.removeprefix("you said: ") for text in replies]
    return [part for text in words for part in text.split(" / ")]
