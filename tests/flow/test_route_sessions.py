"""Which conversation a message belongs to; how far apart chats and agents are; how conversations end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from nanoclaw.config import Settings
from nanoclaw.domain.wiring import EngageMode, IgnoredMessagePolicy, SessionMode
from nanoclaw.flow.claim import MOST_CONTEXT
from nanoclaw.sandbox.spec import HOME, WORKSPACE
from nanoclaw.store.chats import ALWAYS, WiringRules
from nanoclaw.testing.scripted_box import BoxTurn, ScriptedBox
from tests.flow.cast import Cast
from tests.flow.world import Home, World, open_world

PER_THREAD = replace(ALWAYS, session_mode=SessionMode.PER_THREAD)
AGENT_SHARED = replace(ALWAYS, session_mode=SessionMode.AGENT_SHARED)
OVERHEARS = WiringRules(engage=EngageMode.MENTION, ignored=IgnoredMessagePolicy.ACCUMULATE)
DAY = 24 * 60 * 60


async def sessions_of(world: World, *texts: str) -> list[str]:
    rows = await world.rows("SELECT b.text, i.session_id FROM inbox i JOIN inbound b ON b.id = i.inbound_id")
    found = dict(rows)
    return [found[text] for text in texts]


async def open_sessions(world: World) -> list[tuple[Any, ...]]:
    return await world.rows("SELECT mode, thread_id FROM sessions WHERE closed_at IS NULL ORDER BY id")


async def test_level_one_several_chats_share_one_conversation_with_one_agent(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        cast = Cast(world)
        family = await cast.chat("family", ("Andy", AGENT_SHARED))
        work = await cast.chat("work", ("Andy", AGENT_SHARED))
        await family.says("from the family")
        await family.hears("you said: from the family")
        await work.says("from work")
        await work.hears("you said: from work")
        (box,) = world.boxes
        assert BoxTurn(box, box.seen).texts == ["from the family", "from work"]


async def test_level_two_one_agent_has_a_conversation_for_each_chat_over_one_workspace(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        cast = Cast(world)
        family, work = await cast.chat("family", ("Andy", ALWAYS)), await cast.chat("work", ("Andy", ALWAYS))
        await family.says("from the family")
        await family.hears("you said: from the family")
        await work.says("from work")
        await work.hears("you said: from work")
        first, second = world.boxes
        assert BoxTurn(first, first.seen).texts == ["from the family"]
        assert BoxTurn(second, second.seen).texts == ["from work"]
        assert workspace_of(first) == workspace_of(second) and home_of(first) != home_of(second)


async def test_level_three_two_agents_share_neither_conversation_nor_workspace(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        cast = Cast(world)
        chat = await cast.chat("family", ("Andy", ALWAYS), ("Bob", ALWAYS))
        await chat.says("hi")
        await chat.hears("you said: hi", "you said: hi")
        first, second = world.boxes
        assert first.label.session != second.label.session
        shared = {mount.source for mount in first.spec.mounts if mount.writable} & {
            mount.source for mount in second.spec.mounts if mount.writable
        }
        assert shared == set() and workspace_of(first) != workspace_of(second)


async def test_a_shared_session_spans_the_threads_of_a_chat_and_a_session_per_thread_does_not(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        cast = Cast(world)
        shared = await cast.chat("shared", ("Andy", ALWAYS))
        threaded = await cast.chat("threaded", ("Andy", PER_THREAD))
        for chat in (shared, threaded):
            await chat.says(f"{chat.name} 1", thread_id="t1")
            await chat.says(f"{chat.name} 2", thread_id="t2")
            await chat.says(f"{chat.name} again", thread_id="t1")
        assert len(set(await sessions_of(world, "shared 1", "shared 2", "shared again"))) == 1
        one, two, again = await sessions_of(world, "threaded 1", "threaded 2", "threaded again")
        assert one == again != two


async def test_threads_of_a_direct_chat_share_a_session_and_answers_go_to_their_thread(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        cast = Cast(world)
        chat = await cast.chat("dm", ("Andy", PER_THREAD), is_group=False)
        await chat.says("one", thread_id="t1")
        await chat.hears("you said: one")
        await chat.says("two", thread_id="t2")
        await chat.hears("you said: one", "you said: two")
        assert len(set(await sessions_of(world, "one", "two"))) == 1
        assert [sent.thread_id for sent in world.channel.sent] == ["t1", "t2"]


async def test_an_agent_shared_session_is_its_own_and_not_the_newest_of_any_kind(tmp_path: Path) -> None:
    """Defect 15."""
    async with open_world(tmp_path) as world:
        cast = Cast(world)
        private, open_to_all = (
            await cast.chat("private", ("Andy", ALWAYS)),
            await cast.chat("lab", ("Andy", AGENT_SHARED)),
        )
        await private.says("between us")
        await open_to_all.says("for all")
        await private.says("between us still")
        first, second, third = await sessions_of(world, "between us", "for all", "between us still")
        assert first == third != second


async def test_a_thread_in_which_nothing_was_said_for_a_month_is_closed_and_begins_anew(tmp_path: Path) -> None:
    """Defect 14: sessions were never closed."""
    async with open_world(tmp_path) as world:
        cast = Cast(world)
        chat = await cast.chat("threaded", ("Andy", PER_THREAD))
        await chat.says("old", thread_id="t1")
        await chat.hears("you said: old")
        await world.quiet()
        await world.after(700)
        assert len(world.live) == 0
        await world.after(29 * DAY)
        assert await open_sessions(world) == [("per-thread", "t1")]
        await world.after(2 * DAY)
        assert await open_sessions(world) == []
        await chat.says("new", thread_id="t1")
        old, new = await sessions_of(world, "old", "new")
        assert old != new


async def test_overheard_talk_of_a_thread_that_is_closed_ends_silent(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        cast = Cast(world)
        chat = await cast.chat("threaded", ("Andy", replace(OVERHEARS, session_mode=SessionMode.PER_THREAD)))
        await chat.says("chatter", thread_id="t1")
        await world.after(31 * DAY)
        assert await open_sessions(world) == []
        assert await world.outcomes() == [("chatter", "done", "silent", 0)]


async def test_threads_are_closed_in_batches_once_an_hour_and_never_when_that_is_set(tmp_path: Path) -> None:
    never = Home(tmp_path / "never", settings=Settings(session_close_days=0))
    never.path.mkdir()
    for home, left in ((Home(tmp_path), 0), (never, 250)):
        async with open_world(home) as world:
            group = await Cast(world).agent("Andy")

            def make(connection: Any, world: World = world, group: str = group) -> None:
                chat = world.tables.chats.add(connection, "scripted", "t", 0, is_group=True)
                for number in range(250):
                    address = (chat.id, f"t{number}")
                    world.tables.sessions.resolve(connection, group, SessionMode.PER_THREAD, address, 0)

            await world.after(0)
            await world.store.write(make)
            await world.after(60)
            assert len(await open_sessions(world)) == 250
            await world.after(3600)
            assert len(await open_sessions(world)) == left


async def test_of_much_overheard_talk_the_newest_rides_along_in_order_and_hides_no_question(tmp_path: Path) -> None:
    """Defect 26: context beyond a limit hid the message that woke the agent, and turned the order round."""
    async with open_world(tmp_path) as world:
        cast = Cast(world)
        chat = await cast.chat("garden", ("Andy", OVERHEARS))
        talk = [f"chatter {number}" for number in range(130)]
        await chat.says_at_once(*talk, "@andy what was said?", "later chatter")
        await chat.hears("you said: @andy what was said?")
        told = [chat_in.text for _, chat_in in BoxTurn(world.boxes[0], world.boxes[0].seen).chats]
        assert told == [*talk[-MOST_CONTEXT:], "@andy what was said?"]
        await world.quiet()
        ended = {text: (state, outcome) for text, state, outcome, _ in await world.outcomes()}
        assert all(ended[text] == ("done", "silent") for text in talk)
        assert ended["later chatter"] == ("queued", None)


async def test_each_question_of_a_backlog_keeps_the_talk_just_before_it(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        cast = Cast(world)
        chat = await cast.chat("garden", ("Andy", OVERHEARS))
        first, second = [f"a{number}" for number in range(60)], [f"b{number}" for number in range(60)]
        await chat.says_at_once(*first, "@andy one", *second, "@andy two")
        await world.until(lambda: sum(row.trigger for row in world.boxes[0].seen) == 2 if world.boxes else False)
        told = [chat_in.text for _, chat_in in BoxTurn(world.boxes[0], world.boxes[0].seen).chats]
        assert told == [*first[-MOST_CONTEXT:], "@andy one", *second[-MOST_CONTEXT:], "@andy two"]


def workspace_of(box: ScriptedBox) -> Path:
    return next(mount.source for mount in box.spec.mounts if mount.target == WORKSPACE)


def home_of(box: ScriptedBox) -> Path:
    return next(mount.source for mount in box.spec.mounts if mount.target == HOME)
