"""Who may talk to which agent: policies, scopes, denials for good, chats without an agent; and what is kept of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from nanoclaw.domain.people import Role
from nanoclaw.domain.wiring import EngageMode, IgnoredMessagePolicy, SenderScope, UnknownSenderPolicy
from nanoclaw.flow.receive import NobodyAsked
from nanoclaw.store.chats import ALWAYS, WiringRules
from tests.flow.cast import MENTION, Asks, Cast, bytes_below, connect
from tests.flow.world import CHANNEL, Chat, World, open_world

OVERHEARS = WiringRules(engage=EngageMode.MENTION, ignored=IgnoredMessagePolicy.ACCUMULATE)
FOR_KNOWN = replace(ALWAYS, sender_scope=SenderScope.KNOWN)
STRICT, ASKS, PUBLIC = (
    UnknownSenderPolicy.STRICT,
    UnknownSenderPolicy.REQUEST_APPROVAL,
    UnknownSenderPolicy.PUBLIC,
)
SECRET = "swordfish"


async def count(world: World, table: str) -> int:
    ((number,),) = await world.rows(f"SELECT count(*) FROM {table}")
    return number


@pytest.mark.parametrize("policy", list(UnknownSenderPolicy))
async def test_everybody_known_to_the_agent_gets_through_and_the_rule_is_kept(
    tmp_path: Path, policy: UnknownSenderPolicy
) -> None:
    async with open_world(tmp_path) as world:
        cast = Cast(world)
        chat = await cast.chat("family", ("Andy", FOR_KNOWN), policy=policy)
        await cast.person("mum", member="Andy")
        await cast.person("dad", admin="Andy")
        await cast.person("carol", role=Role.OWNER)
        for sender in ("mum", "dad", "carol", "alice"):
            assert (await chat.says(f"from {sender}", sender=sender)).message
        assert [(text, rule) for text, _, _, rule in await cast.given()] == [
            ("from mum", "member"),
            ("from dad", "group-admin"),
            ("from carol", "owner"),
            ("from alice", "admin"),
        ]


async def test_a_member_of_one_agent_is_a_stranger_to_another_of_the_same_chat(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        cast = Cast(world)
        chat = await cast.chat("family", ("Andy", ALWAYS), ("Bob", ALWAYS))
        await cast.person("mum", member="Bob")
        accepted = await chat.says("hi", sender="mum")
        assert accepted.message and not accepted.refused
        assert await cast.who("hi") == ["Bob"]
        assert await world.rows("SELECT subject, reason FROM audit") == [(accepted.message, "unknown_sender_strict")]
        assert await cast.refusals() == [("mum", "unknown_sender_strict", 1)]


async def test_a_public_chat_lets_strangers_in_but_not_to_an_agent_for_known_people(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        cast = Cast(world)
        chat = await cast.chat("square", ("Guide", ALWAYS), ("Clerk", FOR_KNOWN), policy=PUBLIC)
        await chat.says("hello", sender="mallory")
        assert await cast.given() == [("hello", "Guide", "pattern", "public")]
        assert await cast.refusals() == [("mallory", "sender_scope_known", 1)]


async def test_a_refusal_by_every_agent_is_counted_and_audited_once_with_the_first_reason(tmp_path: Path) -> None:
    """Defect 17: a count for each agent, and `no_agent_engaged` over the gate's own reason."""
    async with open_world(tmp_path) as world:
        cast = Cast(world)
        first, last = replace(FOR_KNOWN, priority=9), replace(MENTION, priority=-9)
        chat = await cast.chat("square", ("Clerk", first), ("Scribe", FOR_KNOWN), ("Deaf", last), policy=PUBLIC)
        for _ in range(2):
            refused = await chat.says("hello", sender="mallory")
            assert (refused.message, refused.reason) == ("", "sender_scope_known") and refused.refused
        assert await cast.refusals() == [("mallory", "sender_scope_known", 2)]
        assert await cast.audited() == [("message.refused", "scripted:mallory", "sender_scope_known")] * 2


async def test_refusals_are_counted_for_each_sender(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        cast = Cast(world)
        chat = await cast.chat("family", ("Andy", ALWAYS))
        for sender in ("mallory", "trudy", "mallory"):
            await chat.says("hi", sender=sender)
        assert await cast.refusals() == [
            ("mallory", "unknown_sender_strict", 2),
            ("trudy", "unknown_sender_strict", 1),
        ]


@pytest.mark.parametrize("policy", [STRICT, ASKS])
async def test_what_a_stranger_says_is_nobodys_context(tmp_path: Path, policy: UnknownSenderPolicy) -> None:
    """Defect 3: overheard words went past the gate. They open no card either: nobody was spoken to."""
    async with open_world(tmp_path) as world:
        cast, asks = Cast(world), connect(world, Asks())
        chat = await cast.chat("family", ("Andy", OVERHEARS), policy=policy)
        refused = await chat.says(f"psst, {SECRET}", sender="mallory")
        assert (refused.message, refused.refused) == ("", "") and refused.reason.startswith("unknown_sender")
        await chat.says("what did I miss, @andy?")
        await world.until(lambda: len(chat.heard) == 1)
        assert [text for text, *_ in await cast.given()] == ["what did I miss, @andy?"] and asks.senders == []
    assert SECRET.encode() not in bytes_below(tmp_path)


async def test_nothing_a_refused_stranger_said_is_anywhere_below_the_home(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        connect(world, NobodyAsked())
        cast = Cast(world)
        agents = (("Andy", OVERHEARS), ("Bob", ALWAYS), ("Cy", replace(FOR_KNOWN, ignored=OVERHEARS.ignored)))
        for policy in (STRICT, ASKS):
            chat = await cast.chat(f"chat {policy}", *agents, policy=policy)
            for text in (SECRET, f"/status {SECRET}", f"@andy {SECRET}", f"/{SECRET}"):
                facts = {"sender_name": SECRET, "chat_name": SECRET, "thread_id": SECRET, "reply_to": SECRET}
                message = replace(chat.message(text, "mallory"), **facts)
                assert (await world.channel.receive(message))[0].message == ""
        await world.after(1)
        assert await count(world, "inbound") == 0 and world.boxes == []
        assert SECRET not in world.log_lines.getvalue()
    everything = bytes_below(tmp_path)
    assert b"mallory" in everything and SECRET.encode() not in everything


async def test_nothing_said_in_a_chat_without_an_agent_is_anywhere_below_the_home(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        connect(world, NobodyAsked())
        await Cast(world).chat("known but not wired")
        for name in ("nowhere", "known but not wired"):
            group, direct = Chat(world, name, is_group=True), Chat(world, name, is_group=False)
            for text in (SECRET, f"/help {SECRET}"):
                assert (await group.says(text)).refused == ""
                assert (await group.says(text, is_mention=True)).refused == "No agent is connected to this chat."
                assert (await direct.says(text)).refused == "No agent is connected to this chat."
        await world.after(1)
        assert await count(world, "inbound") == 0
        assert SECRET not in world.log_lines.getvalue()
    assert SECRET.encode() not in bytes_below(tmp_path)


async def test_talk_in_a_chat_without_an_agent_is_not_even_counted(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        cast, asks = Cast(world), connect(world, Asks())
        group = Chat(world, "nowhere", is_group=True)
        accepted = await group.says("chatter")
        assert (accepted.message, accepted.refused, accepted.reason) == ("", "", "")
        assert await cast.refusals() == [] and await cast.audited() == [] and asks.chats == []


async def test_a_direct_message_or_a_mention_in_a_chat_without_an_agent_is_asked_about(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        cast, asks = Cast(world), connect(world, Asks())
        refused = await Chat(world, "dm", is_group=False).says("hello?", sender="mallory")
        await Chat(world, "group", is_group=True).says("@you hello?", sender="trudy", is_mention=True)
        assert refused.refused == "I have asked which agent is for this chat." and asks.chats == ["dm", "group"]
        assert await cast.refusals() == [("mallory", "unknown_chat_asked", 1), ("trudy", "unknown_chat_asked", 1)]


async def test_a_chat_that_was_denied_for_good_stays_silent_and_asks_nobody(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        cast, asks = Cast(world), connect(world, Asks())
        chat = await cast.chat("dm", is_group=False)
        await world.change("UPDATE messaging_groups SET denied_at = 1 WHERE platform_id = 'dm'")
        refused = await chat.says("hello?", sender="mallory")
        assert (refused.message, refused.refused, refused.reason) == ("", "", "chat_denied")
        assert asks.chats == [] and await cast.refusals() == [("mallory", "chat_denied", 1)]


async def test_a_chat_whose_only_agent_was_archived_is_one_without_an_agent(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        cast, asks = Cast(world), connect(world, Asks())
        chat = await cast.chat("dm", ("Andy", ALWAYS), is_group=False)
        await world.change("UPDATE agent_groups SET archived_at = 1 WHERE name = 'Andy'")
        await chat.says("hello?")
        assert asks.chats == ["dm"] and await cast.given() == []


async def test_an_unknown_sender_is_asked_about_once_for_a_message_and_only_when_an_agent_was_called(
    tmp_path: Path,
) -> None:
    async with open_world(tmp_path) as world:
        cast, asks = Cast(world), connect(world, Asks())
        chat = await cast.chat("family", ("Andy", OVERHEARS), ("Bob", MENTION), policy=ASKS)
        await chat.says("chatter", sender="mallory")
        assert asks.senders == []
        refused = await chat.says("hello both", sender="mallory", is_mention=True)
        assert asks.senders == [("mallory", cast.agents["Andy"])]
        assert refused.refused == "I have asked whether I may talk to you."
        assert await cast.refusals() == [
            ("mallory", "unknown_sender_asked", 1),
            ("mallory", "unknown_sender_not_asked", 1),
        ]


async def test_whoever_was_denied_for_good_is_refused_silently_and_asked_about_no_more(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        cast, asks = Cast(world), connect(world, Asks())
        for policy in UnknownSenderPolicy:
            chat = await cast.chat(policy.value, ("Andy", ALWAYS), policy=policy, is_group=False)
            found = await world.store.read(lambda c, name=chat.name: world.tables.chats.find(c, CHANNEL, name))
            assert found is not None
            await world.store.write(lambda c, of=found.id: world.tables.chats.block(c, of, "mallory", None, 0))
            refused = await chat.says("let me in", sender="mallory")
            assert (refused.message, refused.refused, refused.reason) == ("", "", "sender_blocked")
            assert (await chat.says("me too", sender="alice")).message
        assert asks.senders == []


async def test_an_answer_to_a_question_is_no_message_for_an_agent(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        cast, asks = Cast(world), connect(world, Asks())
        asks.answers["1"] = "Thank you, Mallory may come in."
        chat = await cast.chat("dm", ("Andy", ALWAYS), is_group=False)
        accepted = await chat.says("1")
        assert (accepted.message, accepted.words) == ("", "Thank you, Mallory may come in.")
        assert await cast.given() == [] and await cast.refusals() == []


async def test_a_right_that_is_taken_away_counts_from_the_next_message_on(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        cast = Cast(world)
        chat = await cast.chat("family", ("Andy", ALWAYS))
        await cast.person("mum", member="Andy")
        assert (await chat.says("one", sender="mum")).message
        await world.change("DELETE FROM agent_group_members")
        assert (await chat.says("two", sender="mum")).reason == "unknown_sender_strict"
        assert [text for text, *_ in await cast.given()] == ["one"]


@pytest.mark.parametrize("handle", ["", "\0", "../../etc/passwd", "\U0001f47b" * 40, "x" * 10_000, "a\nb", "\ud800"])
async def test_odd_handles_are_refused_like_any_stranger_and_kept_short(tmp_path: Path, handle: str) -> None:
    async with open_world(tmp_path) as world:
        connect(world, NobodyAsked())
        cast = Cast(world)
        chat = await cast.chat("family", ("Andy", ALWAYS))
        for chat_id in (chat.name, handle):
            refused = (
                await world.channel.receive(replace(chat.message("hi", handle, is_mention=True), chat_id=chat_id))
            )[0]
            assert refused.message == "" and refused.reason in ("unknown_sender_strict", "no_agent_wired")
        assert max(len(handle) for handle, *_ in await cast.refusals()) <= 200
        assert await world.rows("SELECT count(*) FROM refusals") == [(2,)]


async def test_a_message_with_half_a_character_is_accepted_and_stops_nothing(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        chat = await Cast(world).chat("dm", ("Andy", ALWAYS), is_group=False)
        await chat.says_at_once("before", "half \ud83e of it", "after")
        await chat.hears("you said: before / half ? of it / after")
