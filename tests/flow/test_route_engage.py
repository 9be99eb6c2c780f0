"""Which agents a message is for: names, mentions, patterns, threads, several agents in one chat."""

from __future__ import annotations

from pathlib import Path

from nanoclaw.domain.wiring import EngageMode, IgnoredMessagePolicy
from nanoclaw.store.chats import ALWAYS, WiringRules
from nanoclaw.testing.scripted_box import BoxTurn
from tests.flow.cast import MENTION, STICKY, Cast
from tests.flow.world import open_world

OVERHEARS = WiringRules(engage=EngageMode.MENTION, ignored=IgnoredMessagePolicy.ACCUMULATE)
STICKY_OVERHEARS = WiringRules(engage=EngageMode.MENTION_STICKY, ignored=IgnoredMessagePolicy.ACCUMULATE)


def pattern(text: str, priority: int = 0) -> WiringRules:
    return WiringRules(engage=EngageMode.PATTERN, pattern=text, priority=priority)


async def test_each_agent_is_called_by_its_own_name_without_a_flag_of_the_platform(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        cast = Cast(world)
        chat = await cast.chat("garden", ("Andy", MENTION), ("Rose \U0001f339", MENTION))
        await chat.says("@andy water the roses")
        await chat.says("hello @ROSE \U0001f339, how are you?")
        await chat.says("andy and rose are not called")
        assert await cast.given() == [
            ("@andy water the roses", "Andy", "name", "admin"),
            ("hello @ROSE \U0001f339, how are you?", "Rose \U0001f339", "name", "admin"),
        ]
        assert await cast.refusals() == [("alice", "no_agent_engaged", 1)]


async def test_a_mention_by_the_platform_means_every_agent_unless_one_is_called_by_name(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        cast = Cast(world)
        chat = await cast.chat("garden", ("Andy", MENTION), ("Bob", MENTION))
        await chat.says("both of you", is_mention=True)
        await chat.says("@bob alone", is_mention=True)
        assert await cast.who("both of you") == ["Andy", "Bob"]
        assert await cast.who("@bob alone") == ["Bob"]


async def test_a_direct_chat_needs_no_mention_and_a_group_does_whatever_its_thread_is_called(tmp_path: Path) -> None:
    """Defect 27: a thread id says nothing about whether a chat is a group, and a group is one without any thread."""
    async with open_world(tmp_path) as world:
        cast = Cast(world)
        direct = await cast.chat("dm", ("Andy", MENTION), is_group=False)
        group = await cast.chat("group", ("Andy", MENTION))
        await direct.says("in a thread of a direct chat", thread_id="t1")
        await group.says("in a group without threads")
        await group.says("in a thread of a group", thread_id="t1")
        assert await cast.given() == [("in a thread of a direct chat", "Andy", "direct", "admin")]


async def test_a_pattern_is_searched_anywhere_and_one_that_does_not_compile_never_matches(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        cast = Cast(world)
        agents = (("Deploy", pattern(r"(?i)\bdeploy\b")), ("Broken", pattern("(")), ("All", ALWAYS))
        chat = await cast.chat("ops", *agents)
        await chat.says("please DEPLOY now")
        await chat.says("(redeployed)")
        assert await cast.who("please DEPLOY now") == ["Deploy", "All"]
        assert await cast.who("(redeployed)") == ["All"]


async def test_a_pattern_that_blows_up_delays_nobody(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        cast = Cast(world)
        chat = await cast.chat("ops", ("Evil", pattern("(a+)+$")), ("Andy", ALWAYS))
        text = "a" * 100_000 + "!"
        await chat.says(text)
        assert await cast.who(text) == ["Andy"]


async def test_all_agents_that_engage_get_the_message_highest_priority_first(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        cast = Cast(world)
        chat = await cast.chat("ops", ("Low", pattern(".", -5)), ("High", pattern(".", 5)), ("Mid", pattern(".")))
        await chat.says("hi")
        assert await cast.who("hi") == ["High", "Mid", "Low"]
        await world.until(lambda: chat.heard == ["you said: hi"] * 3)


async def test_a_sticky_agent_listens_to_the_rest_of_a_thread_in_which_it_was_called(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        cast = Cast(world)
        chat = await cast.chat("garden", ("Andy", STICKY))
        await chat.says("not yet", thread_id="t1")
        await chat.says("@andy come in", thread_id="t1")
        await chat.says("and now without a name", thread_id="t1")
        await chat.says("elsewhere", thread_id="t2")
        await chat.says("outside of any thread")
        assert [(text, rule) for text, _, rule, _ in await cast.given()] == [
            ("@andy come in", "name"),
            ("and now without a name", "sticky"),
        ]


async def test_a_mention_outside_of_a_thread_makes_no_agent_listen_on(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        cast = Cast(world)
        chat = await cast.chat("garden", ("Andy", STICKY))
        await chat.says("@andy hi")
        await chat.says("more")
        assert await cast.who("@andy hi") == ["Andy"] and await cast.who("more") == []


async def test_an_overhearing_sticky_agent_does_not_engage_itself_from_the_second_message(tmp_path: Path) -> None:
    """Defect 4: the session that the first overheard message makes is no subscription."""
    async with open_world(tmp_path) as world:
        cast = Cast(world)
        chat = await cast.chat("garden", ("Andy", STICKY_OVERHEARS))
        for text in ("one", "two", "three"):
            await chat.says(text, thread_id="t1")
        await world.quiet()
        assert [await cast.who(text) for text in ("one", "two", "three")] == [["(Andy)"]] * 3
        assert world.boxes == [] and chat.heard == []


async def test_a_strangers_mention_subscribes_nobody(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        cast = Cast(world)
        chat = await cast.chat("garden", ("Andy", STICKY))
        assert (await chat.says("@andy hi", sender="mallory", thread_id="t1")).refused
        await chat.says("between us", thread_id="t1")
        assert await cast.given() == []


async def test_overheard_talk_rides_along_with_the_next_message_that_engages(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        cast = Cast(world)
        chat = await cast.chat("garden", ("Andy", OVERHEARS))
        await chat.says("the roses are dry")
        await chat.says("so is the lawn")
        await world.quiet()
        assert world.boxes == []
        await chat.says("@andy what is dry?")
        await chat.hears("you said: @andy what is dry?")
        told = [(row.trigger, chat_in.text) for row, chat_in in BoxTurn(world.boxes[0], world.boxes[0].seen).chats]
        assert told == [(False, "the roses are dry"), (False, "so is the lawn"), (True, "@andy what is dry?")]
        await world.quiet()
        assert [(text, state, outcome) for text, state, outcome, _ in await world.outcomes()] == [
            ("the roses are dry", "done", "silent"),
            ("so is the lawn", "done", "silent"),
            ("@andy what is dry?", "done", "replied"),
        ]


async def test_overheard_talk_never_makes_a_warm_box_answer(tmp_path: Path) -> None:
    """Defect 5; the runner's side of it: tests/flow/test_runner_process.py."""
    async with open_world(tmp_path) as world:
        cast = Cast(world)
        chat = await cast.chat("garden", ("Andy", OVERHEARS))
        await chat.says("@andy hi")
        await chat.hears("you said: @andy hi")
        await world.quiet()
        for number in range(5):
            await chat.says(f"chatter {number}")
        await world.after(1)
        assert chat.heard == ["you said: @andy hi"] and len(world.boxes[0].seen) == 1
        assert {state for text, state, *_ in await world.outcomes() if text.startswith("chatter")} == {"queued"}


async def test_nobody_engaged_is_counted_once_and_keeps_no_text(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        cast = Cast(world)
        chat = await cast.chat("garden", ("Andy", MENTION), ("Bob", MENTION))
        accepted = await chat.says("just talking")
        assert (accepted.message, accepted.refused, accepted.reason) == ("", "", "no_agent_engaged")
        assert await cast.refusals() == [("alice", "no_agent_engaged", 1)]
        assert await cast.audited() == [("message.refused", "scripted:alice", "no_agent_engaged")]
        assert await world.rows("SELECT count(*) FROM inbound") == [(0,)]


async def test_a_direct_message_that_no_pattern_finds_is_answered_why(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        chat = await Cast(world).chat("dm", ("Andy", pattern("^!")), is_group=False)
        assert (await chat.says("hello?")).refused == "No agent listens to this message."
        assert (await chat.says("!hello")).message
