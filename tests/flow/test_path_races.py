"""Between two steps, when a hint is lost, a part misbehaves or the clock is set: nothing is lost or doubled."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from pathlib import Path

import pytest

from nanoclaw.channels.base import Outgoing, Receipt
from nanoclaw.domain.session import RunEnd
from nanoclaw.errors import SandboxError
from nanoclaw.sandbox.runtimes.base import BoxExit
from nanoclaw.testing.fakes import ScriptedChannel
from nanoclaw.testing.scripted_box import BoxTurn, ScriptedBox
from tests.flow.world import CHANNEL, Home, World, open_world


async def test_the_last_words_of_a_dead_run_are_sent_once_by_the_next_host(tmp_path: Path) -> None:
    home = Home(tmp_path)
    async with open_world(home) as world:
        chat = await world.chat()
        world.runtime.muted = True
        world.script.replies("whispered")
        await chat.says("hi")
        await world.quiet()
    async with open_world(home) as world:
        home.channel.block(chat.name)
        await world.recover()
        await world.until(lambda: len(home.channel.asked) == 1)
        home.channel.unblock(chat.name)
        await world.quiet()
        await world.after(1)
        assert chat.heard == ["whispered"] and len(home.channel.asked) == 1


async def test_what_is_said_of_a_message_given_up_at_a_start_is_said_once(tmp_path: Path) -> None:
    home = Home(tmp_path)
    async with open_world(home) as world:
        chat = await world.chat()
        world.script.hangs()
        await chat.says("hi")
        await world.quiet()
        await world.change("UPDATE inbox SET failures = 2")
    async with open_world(home) as world:
        home.channel.block(chat.name)
        await world.recover()
        await world.until(lambda: len(home.channel.asked) == 1)
        home.channel.unblock(chat.name)
        await world.quiet()
        await world.after(1)
        assert len(chat.heard) == 1 and "gave up" in chat.heard[0] and "repeat" not in chat.heard[0]


async def test_the_last_words_of_a_box_that_goes_wait_for_no_look(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        chat = await world.chat()
        world.runtime.muted = True

        async def speaks_and_goes(turn: BoxTurn) -> None:
            turn.finish("farewell")
            turn.exit(0)

        world.script.then(speaks_and_goes)
        await chat.says("hi")
        await chat.hears("farewell")


async def test_a_follow_up_whose_hint_is_lost_is_fed_at_the_next_look(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        chat = await world.chat()
        await chat.says("one")
        await chat.hears("you said: one")
        await world.quiet()
        world.channel.connect(world.receiver(lambda after: None))
        await chat.says("two")
        await world.quiet()
        assert chat.heard == ["you said: one"]
        await world.after(1)
        assert chat.heard == ["you said: one", "you said: two"] and len(world.boxes) == 1


async def test_the_gateway_knows_of_a_turn_before_the_box_can_see_its_rows(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        chat = await world.chat()
        await chat.says("one")
        await chat.hears("you said: one")
        await world.quiet()
        known: list[bool] = []
        world.at["wake.claimed"] = lambda: known.append(bool(world.gateway.open))
        await chat.says("two")
        await world.until(lambda: len(chat.heard) == 2)
        await world.quiet()
        assert known == [True] and world.gateway.open == set()


async def test_a_box_that_holds_its_inbound_file_a_while_is_not_ended_and_gets_its_rows(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        chat, held = await world.chat(), await locked_inbound(world)
        await chat.says("two")
        await world.until(lambda: len(world.live) == 1 and world.run.claimed == 1)
        later = time.monotonic() + 0.7  # longer than one try
        await world.until(lambda: time.monotonic() > later)
        held.close()
        await chat.hears("you said: one", "you said: two")
        assert len(world.boxes) == 1


async def test_a_box_that_holds_its_inbound_file_for_30_seconds_is_ended(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        chat, held = await world.chat(), await locked_inbound(world)
        await chat.says("two")
        await world.until(lambda: world.run.claimed == 1)
        world.clock.advance(31)
        world.run.alive_at = world.clock.monotonic()
        await world.until(lambda: len(world.live) == 0, world.log_lines.getvalue)
        held.close()
        await world.quiet()
        await world.after(5)
        await chat.hears("you said: one", "you said: two")


async def test_a_box_that_cannot_be_ended_stops_neither_the_host_nor_another_chat(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        chat, other = await world.chat(), await world.chat("work")
        await chat.says("one")
        await chat.hears("you said: one")
        await world.quiet()
        stuck = Unkillable(world.boxes[0])
        world.run.box = stuck
        world.clock.advance(601)
        world.run.alive_at = world.clock.monotonic()
        await world.sweep.look()
        await world.until(lambda: "box.stuck" in world.log_lines.getvalue())
        await other.says("still there?")
        await other.hears("you said: still there?")
        await chat.says("two")
        world.boxes[0].kill()
        await chat.hears("you said: one", "you said: two")


async def test_a_folder_that_cannot_be_removed_is_left_and_said(tmp_path: Path) -> None:
    home = Home(tmp_path)
    async with open_world(home) as world:
        chat = await world.chat()
        await chat.says("one")
        await chat.hears("you said: one")
        (run,) = tmp_path.glob("sessions/*/*/runs/1")
        await world.drain()
        (run.parent / "7").write_text("not a folder")
    async with open_world(home) as world:
        await world.recover()
        assert "run.leftover_kept" in world.log_lines.getvalue()
        await chat.says("two")
        await world.until(lambda: chat.heard == ["you said: one", "you said: two"])


async def test_a_channel_that_breaks_costs_its_own_deliveries_not_the_host(tmp_path: Path) -> None:
    home = Home(tmp_path, channel=BrokenChannel(CHANNEL))
    async with open_world(home) as world:
        chat = await world.chat()
        await chat.says("hi")
        await world.until(lambda: "delivery.postponed" in world.log_lines.getvalue())
        await world.after(1)
        await chat.hears("you said: hi")


async def test_an_answer_names_the_platforms_own_id_of_what_it_answers_in_its_own_chat_only(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        chat, work = await world.chat(), await world.chat("work")
        await chat.says("hi", platform_id="77")
        await chat.hears("you said: hi")
        world.script.replies("over there", to="work")
        await chat.says("tell them", platform_id="78")
        await work.hears("over there")
        assert [(sent.text, sent.reply_to) for sent in world.channel.sent] == [
            ("you said: hi", "77"),
            ("over there", None),
        ]


async def test_a_clock_set_back_does_not_lengthen_a_back_off(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        chat = await world.chat()
        world.script.dies()
        await chat.says("hi")
        await world.quiet()
        world.clock.set_back(3600)
        await world.after(5)
        await chat.hears("you said: hi")


async def test_a_delivery_that_backs_off_outlasts_no_clock_set_back_by_days(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        chat = await world.chat()
        world.channel.fail(chat.name, 1)
        await chat.says("hi")
        await world.quiet()
        world.clock.set_back(2 * 86_400)
        await world.after(1)
        await chat.hears("you said: hi")


@pytest.mark.parametrize("point", ["wake.claimed", "wake.projected", "wake.released"])
async def test_a_run_that_is_being_started_at_a_stop_is_stopped_too(tmp_path: Path, point: str) -> None:
    home = Home(tmp_path)
    async with open_world(home) as world:
        chat = await world.chat()
        stops: list[asyncio.Future[None]] = []

        def stop() -> None:
            if not stops:
                stops.append(asyncio.ensure_future(world.drain()))

        world.at[point] = stop
        world.script.hangs()
        await chat.says("hi")
        await world.until(lambda: bool(stops))
        await stops[0]
        assert len(world.live) == 0 and all(box.is_gone for box in world.boxes)
        assert await world.rows("SELECT run_state FROM sessions") == [("over",)]
        assert [state for _, state, *_ in await world.outcomes()] == ["queued"]


async def test_what_a_run_left_before_the_machine_was_started_again_is_not_believed(tmp_path: Path) -> None:
    home = Home(tmp_path)
    async with open_world(home) as world:
        chat = await world.chat()
        world.runtime.muted = True
        world.script.replies("half written")
        await chat.says("hi")
        await world.quiet()
        (boot,) = tmp_path.glob("sessions/*/*/runs/1/boot")
        boot.write_text("another boot")
    async with open_world(home) as world:
        await world.recover()
        await chat.hears("you said: hi")


async def test_a_box_that_drains_slowly_delays_no_other_chat(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        chat = await world.chat()
        world.script.hangs()
        await chat.says("hi")
        await world.quiet()
        BoxTurn(world.boxes[0], world.boxes[0].seen).send("news")
        async with world.run.collecting, asyncio.timeout(2):
            await world.sweep.look()
        await world.quiet()


async def test_a_message_that_comes_as_its_box_is_put_to_sleep_is_not_blamed_for_it(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        chat = await world.chat()
        for _ in range(4):
            world.script.hangs()
            if world.boxes:
                await world.after(1)
            else:
                await chat.says("hi")
            await world.until(lambda: len(world.live) == 1)
            await world.runs.stop(world.run, RunEnd.IDLE, 1.0)
        assert await world.rows("SELECT failures FROM inbox") == [(0,)]
        assert chat.heard == []


async def locked_inbound(world: World) -> sqlite3.Connection:
    """A box that has answered `one`, idles, and holds a lock on its inbound.db."""
    chat = await world.chat()
    await chat.says("one")
    await chat.hears("you said: one")
    await world.quiet()
    held = sqlite3.connect(world.boxes[0].in_directory / "inbound.db", isolation_level=None)
    held.execute("BEGIN")
    held.execute("SELECT count(*) FROM messages").fetchone()
    return held


class Unkillable(ScriptedBox):
    """A box whose processes the kernel does not let go of."""

    def __init__(self, box: ScriptedBox) -> None:
        self.__dict__ = box.__dict__

    async def stop(self, grace_seconds: float) -> BoxExit:
        raise SandboxError("A sandbox could not be ended.")


class BrokenChannel(ScriptedChannel):
    """A connector with a mistake in it, the first time."""

    async def send(self, outgoing: Outgoing) -> Receipt:
        if not self.asked:
            self.asked.append(outgoing)
            raise KeyError("chat")
        return await super().send(outgoing)
