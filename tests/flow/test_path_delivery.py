"""Delivering: in order, once, with back-off, and one platform's trouble stays its own."""

from __future__ import annotations

from pathlib import Path

from nanoclaw.testing.scripted_box import BoxTurn
from tests.flow.world import Home, open_world


async def test_replies_of_one_turn_arrive_in_order(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        chat = await world.chat()
        texts = [f"part {number}" for number in range(30)]
        world.script.replies(*texts)
        await chat.says("tell me")
        await chat.hears(*texts)
        await world.quiet()
        orders = await world.rows("SELECT text FROM outbox ORDER BY sent_order")
        assert [text for (text,) in orders] == texts


async def test_a_send_that_fails_is_repeated_with_a_growing_back_off(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        chat = await world.chat()
        world.channel.fail(chat.name, 3)
        await chat.says("hi")
        await world.quiet()
        for seconds in (1, 5):
            await world.after(seconds - 0.001)
            assert chat.heard == []
            await world.after(0.001)
        assert chat.heard == []
        await world.after(19.999)
        assert chat.heard == []
        await world.after(0.001)
        assert chat.heard == ["you said: hi"]
        assert await world.rows("SELECT state, attempt, maybe_duplicate FROM outbox") == [("sent", 4, 0)]


async def test_a_platform_that_names_a_time_is_not_asked_before_it(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        chat = await world.chat()
        world.channel.fail(chat.name, 1, retry_after_seconds=90)
        await chat.says("hi")
        await world.quiet()
        await world.after(89)
        assert chat.heard == []
        await world.after(1)
        assert chat.heard == ["you said: hi"]


async def test_what_cannot_be_sent_for_good_lets_the_next_go(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        chat = await world.chat()
        world.channel.refuse(chat.name)
        world.script.replies("too long for this platform", "short")
        accepted = await chat.says("hi")
        await chat.hears("short")
        await world.quiet()
        assert await world.rows("SELECT text, state, error FROM outbox ORDER BY id") == [
            ("too long for this platform", "failed", "the chat is gone"),
            ("short", "sent", None),
        ]
        settled = await world.store.read(lambda c: world.tables.inbox.list_settled(c, [accepted.message]))
        assert [message for message, _ in settled] == [accepted.message]


async def test_what_fails_five_times_is_given_up_and_the_next_goes(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        chat = await world.chat()
        world.channel.fail(chat.name, 5)
        world.script.replies("first", "second")
        await chat.says("hi")
        await world.quiet()
        for seconds in (1, 5, 20, 60):
            await world.after(seconds)
        assert chat.heard == ["second"]
        assert [state for (state,) in await world.rows("SELECT state FROM outbox ORDER BY id")] == ["failed", "sent"]


async def test_the_next_waits_while_the_one_before_backs_off(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        chat = await world.chat()
        world.channel.fail(chat.name, 1)
        await chat.says("one")
        await world.quiet()
        await chat.says("two")
        await world.quiet()
        assert chat.heard == []
        await world.after(1)
        assert chat.heard == ["you said: one", "you said: two"]


async def test_a_stuck_platform_stalls_only_its_own_chat(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        stuck, free = await world.chat("stuck"), await world.chat("free")
        world.channel.block("stuck")
        await stuck.says("one")
        await world.until(lambda: len(world.channel.asked) == 1)
        for number in range(5):
            await stuck.says(f"more {number}")
            await free.says(f"m{number}")
        heard = " ".join(f"m{number}" for number in range(5))
        await world.until(lambda: said(free.heard) == heard, lambda: str(free.heard))
        assert stuck.heard == []
        world.channel.unblock("stuck")
        expected = "one " + " ".join(f"more {number}" for number in range(5))
        await world.until(lambda: said(stuck.heard) == expected, lambda: str(stuck.heard))


async def test_two_sessions_that_write_to_one_chat_do_not_wait_for_each_other(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        family, work = await world.chat("family"), await world.chat("work")
        world.channel.fail("work", 1)
        world.runtime.script_for("family").replies("from the family", to="work")
        await family.says("tell them")
        await world.quiet()
        await work.says("hi")
        await work.hears("you said: hi")
        await world.after(1)
        assert work.heard == ["you said: hi", "from the family"]


async def test_what_was_being_sent_when_the_host_died_is_sent_again_and_marked(tmp_path: Path) -> None:
    home = Home(tmp_path)
    async with open_world(home) as world:
        chat = await world.chat()
        home.channel.block(chat.name)
        await chat.says("hi")
        await world.until(lambda: len(home.channel.asked) == 1)
    async with open_world(home) as world:
        home.channel.unblock(chat.name)
        await world.recover()
        await world.quiet()
        assert await world.rows("SELECT state, maybe_duplicate, attempt FROM outbox") == [("sent", 1, 2)]
    assert len(chat.heard) == 1
    assert chat.heard[0].startswith("(This may be a repeat") and chat.heard[0].endswith("you said: hi")


async def test_a_delivery_whose_channel_is_not_switched_on_waits_for_it(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        chat = await world.chat()
        await world.change("UPDATE messaging_groups SET channel_type = 'elsewhere' WHERE platform_id = ?", "nowhere")
        await chat.says("hi")
        await chat.hears("you said: hi")
        await world.quiet()
        turn = BoxTurn(world.boxes[0], world.boxes[0].seen)
        await world.change("UPDATE messaging_groups SET channel_type = 'elsewhere' WHERE platform_id = ?", chat.name)
        turn.send("later")
        await world.quiet()
        assert [state for (state,) in await world.rows("SELECT state FROM outbox ORDER BY id")] == ["sent", "pending"]
        await world.change("UPDATE messaging_groups SET channel_type = 'scripted' WHERE platform_id = ?", chat.name)
        await world.after(1)
        assert chat.heard == ["you said: hi", "later"]


def said(heard: list[str]) -> str:
    return " ".join(text.removeprefix("you said: ") for text in heard).replace(" / ", " ")
