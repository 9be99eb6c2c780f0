"""Strangers: somebody is asked, and what they answer happens; nothing of a refused stranger stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from nanoclaw.domain.people import Role
from tests.flow.people import audited, direct, find_text, home_with_terminal, local, person, states
from tests.flow.world import CHANNEL, Home, World, open_world

SECRET = "the-cake-is-in-the-oven"


async def alice_reads(world: World) -> None:
    """Alice, global admin, has written in a direct chat: she can be reached there."""
    chat = await world.chat("alice-dm")
    world.script.replies("hello alice")
    await chat.says("hi")
    await chat.hears("hello alice")


async def test_an_unknown_direct_message_is_asked_about_connected_replayed_and_answered(tmp_path: Path) -> None:
    async with open_world(home_with_terminal(tmp_path)) as world:
        bob = direct(world, "bob-dm")
        accepted = await bob.says(SECRET, "bob")
        assert accepted.reason == "unknown_chat_asked" and accepted.message == ""
        await world.quiet()
        (card,) = local(world).heard
        assert SECRET not in card and "Bob (bob) wrote in a direct chat on scripted. Who answers there?" in card
        assert world.home.others["terminal"].buttons("local") == [
            "Connect to Andy", "New assistant", "Reject for good"]  # fmt: skip
        world.script.replies("nice to meet you")
        answer = await local(world).presses("Connect to Andy", "uid:0")
        assert answer.taken and answer.words == "Andy answers in that chat now. The message was passed on."
        await bob.hears("nice to meet you")
        await world.quiet()
        assert await world.outcomes() == [(SECRET, "done", "replied", 1)]
        assert local(world).heard == ["A new chat: Approved by Operator: Connect to Andy."]  # in the card's place
        world.script.replies("again")
        assert (await bob.says("more", "bob")).message


async def test_an_unknown_chat_gets_an_assistant_of_its_own_by_a_typed_name(tmp_path: Path) -> None:
    async with open_world(home_with_terminal(tmp_path)) as world:
        garden = direct(world, "garden")
        await garden.says("who waters?", "bob", is_group=True, is_mention=True, chat_name="The *garden*")
        await world.quiet()
        assert "called an assistant in the group The garden on scripted" in local(world).heard[0]
        terminal = local(world)
        assert (await terminal.says("2", "uid:0")).words == "Write the name here, in a message of its own, or `cancel`."
        assert (await terminal.says("x" * 100, "uid:0")).words.endswith("The question stays open.")
        world.script.replies("I do")
        assert (await terminal.says("Flora", "uid:0")).words.startswith("Flora answers in that chat now.")
        await garden.hears("I do")
        await world.quiet()
        rows = await world.rows(
            "SELECT w.engage_mode, w.sender_scope, w.ignored_message_policy, m.name, m.unknown_sender_policy, g.name"
            " FROM messaging_group_agents w JOIN messaging_groups m ON m.id = w.messaging_group_id"
            " JOIN agent_groups g ON g.id = w.agent_group_id WHERE m.platform_id = 'garden'"
        )
        assert rows == [("mention-sticky", "known", "accumulate", "The garden", "request_approval", "Flora")]
        assert await world.rows("SELECT text FROM inbound") == [("who waters?",)]  # no typed answer is kept


async def test_words_for_a_name_can_be_cancelled_and_are_forgotten_in_time(tmp_path: Path) -> None:
    async with open_world(home_with_terminal(tmp_path)) as world:
        await direct(world, "bob-dm").says("hi", "bob")
        await world.quiet()
        await local(world).presses("New assistant", "uid:0")
        assert (await local(world).says("cancel", "uid:0")).words == "Cancelled. The question is still open."
        await local(world).presses("New assistant", "uid:0")
        await world.after(601)
        accepted = await local(world).says("Flora", "uid:0")
        assert accepted.message, "after ten minutes it is a message for the agent again"
        assert await states(world) == [("unknown_chat", "open")]


async def test_a_group_is_a_group_by_the_channels_word_also_when_it_has_no_threads(tmp_path: Path) -> None:
    """Reference 13.2, defect 27."""
    async with open_world(home_with_terminal(tmp_path)) as world:
        await direct(world, "dm").says("hi", "bob", thread_id="t1")
        await world.quiet()
        await local(world).presses("Connect to Andy", "uid:0")
        await direct(world, "team").says("hi", "bob", is_group=True, is_mention=True)
        await world.quiet()
        await local(world).presses("Connect to Andy", "uid:0")
        rows = await world.rows(
            "SELECT m.platform_id, w.engage_mode FROM messaging_group_agents w"
            " JOIN messaging_groups m ON m.id = w.messaging_group_id WHERE m.channel_type = ? ORDER BY 1", CHANNEL
        )  # fmt: skip
        assert rows == [("dm", "pattern"), ("team", "mention-sticky")]


async def test_a_rejected_chat_is_silent_for_good_and_keeps_no_name_and_no_text(tmp_path: Path) -> None:
    async with open_world(home_with_terminal(tmp_path)) as world:
        bob = direct(world, "bob-dm")
        await bob.says(SECRET, "bob", chat_name="the bakery")
        await world.quiet()
        assert find_text(tmp_path, SECRET), "it is held while the question is open"
        answer = await local(world).presses("Reject for good", "uid:0")
        assert answer.words == "Nobody answers in that chat, and nobody is asked again."
        await world.quiet()
        await world.store.write(lambda _: None)  # the scrub came before this
        assert find_text(tmp_path, SECRET) == []
        assert await world.rows("SELECT name FROM messaging_groups WHERE platform_id = 'bob-dm'") == [(None,)]
        assert (await bob.says("hello?", "bob")).reason == "chat_denied"
        assert await states(world) == [("unknown_chat", "denied")]


async def test_an_unknown_sender_is_allowed_and_the_held_message_is_answered(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await alice_reads(world)
        family = await world.chat(is_group=True)
        await world.change("UPDATE messaging_groups SET unknown_sender_policy = 'request_approval' WHERE is_group")
        first = await family.says(SECRET, "bob")
        assert first.reason == "unknown_sender_asked" and first.message == ""
        assert (await family.says("and more", "bob")).reason == "unknown_sender_asked"
        await world.quiet()
        card = world.channel.heard("alice-dm")[-1]
        assert "Bob (bob) wrote to Andy in the group family on scripted. May they?" in card and SECRET not in card
        assert len(await states(world)) == 1, "one question for one sender of a chat"
        world.script.replies("hello bob")
        answer = await world.channel.press("alice-dm", "alice", "Allow")
        assert answer.words == "Bob may write there now. The message was passed on."
        await family.hears("hello bob")
        await world.quiet()
        assert [text for text, *_ in await world.outcomes()] == ["hi", SECRET]  # the second one was dropped
        assert await audited(world, "approval.opened", "approval.approved") == ["approval.opened", "approval.approved"]


@pytest.mark.parametrize(("label", "again"), [("Deny", "unknown_sender_asked"), ("Deny for good", "sender_blocked")])
async def test_a_denied_sender_leaves_no_byte_and_for_good_means_never_asked_again(
    tmp_path: Path, label: str, again: str
) -> None:
    async with open_world(tmp_path) as world:
        await alice_reads(world)
        family = await world.chat()
        await world.change("UPDATE messaging_groups SET unknown_sender_policy = 'request_approval'")
        await family.says(SECRET, "bob")
        await world.quiet()
        assert (await world.channel.press("alice-dm", "alice", label)).taken
        await world.quiet()
        await world.store.write(lambda _: None)
        assert find_text(tmp_path, SECRET) == []
        assert (await family.says("once more", "bob")).reason == again
        assert await world.rows("SELECT 1 FROM identities WHERE handle = 'bob'") == []


async def test_an_unanswered_question_about_a_stranger_ends_visibly_and_its_message_is_gone(tmp_path: Path) -> None:
    async with open_world(home_with_terminal(tmp_path)) as world:
        await direct(world, "bob-dm").says(SECRET, "bob")
        await world.quiet()
        await world.after(7 * 24 * 3600 - 1)
        assert await states(world) == [("unknown_chat", "open")]
        await world.after(2)
        assert await states(world) == [("unknown_chat", "expired")]
        assert local(world).heard == ["A new chat: Expired: nobody answered in time."]
        assert world.home.others["terminal"].buttons("local") == []
        await world.store.write(lambda _: None)
        assert find_text(tmp_path, SECRET) == []
        answer = await local(world).presses("Connect to Andy", "uid:0")
        assert not answer.taken and answer.words == "This was decided before. It has expired."


async def test_a_question_asked_before_the_host_dies_is_answered_in_the_next_life(tmp_path: Path) -> None:
    home = home_with_terminal(tmp_path)
    async with open_world(home) as world:
        await direct(world, "bob-dm").says(SECRET, "bob")
    async with open_world(home) as world:
        await world.recover()
        await world.quiet()
        assert len(local(world).heard) == 1
        world.script.replies("there you are")
        await local(world).says("1", "uid:0")
        await direct(world, "bob-dm").hears("there you are")


@pytest.mark.parametrize("point", ["receive.before_commit", "receive.committed"])
async def test_a_typed_answer_is_taken_once_wherever_the_host_dies(tmp_path: Path, point: str) -> None:
    home = home_with_terminal(tmp_path)
    async with open_world(home) as world:
        await direct(world, "bob-dm").says(SECRET, "bob")
        await world.quiet()
    typed = {"platform_id": "typed-1"}
    async with open_world(home, crash_at=point) as world:
        await local(world).says("1", "uid:0", **typed)
    async with open_world(home) as world:
        await world.recover()
        again = await local(world).says("1", "uid:0", **typed)  # the platform hands it in again
        assert again.words and not again.message
        await world.quiet()
        assert [text for text, *_ in await world.outcomes()] == [SECRET]


async def test_ten_strangers_of_a_chat_are_asked_about_and_fifty_in_all(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await alice_reads(world)
        chat = await world.chat()
        await world.change("UPDATE messaging_groups SET unknown_sender_policy = 'request_approval'")
        reasons = [(await chat.says("hi", f"stranger{number}")).reason for number in range(12)]
        assert reasons == ["unknown_sender_asked"] * 10 + ["too_many_open"] * 2
        reasons = [(await direct(world, f"dm{number}").says("hi", "x")).reason for number in range(42)]
        assert reasons.count("unknown_chat_asked") == 40 and reasons.count("too_many_open") == 2


async def test_with_nobody_to_reach_the_question_stays_open_and_finds_them_when_they_come(tmp_path: Path) -> None:
    async with open_world(Home(tmp_path)) as world:
        await world.change("DELETE FROM identities WHERE channel_type = 'terminal'")
        await direct(world, "bob-dm").says("hi", "bob")
        await world.quiet()
        assert world.channel.sent == [] and await states(world) == [("unknown_chat", "open")]
        dm = await world.chat("alice-dm")
        world.script.replies("hello")
        await dm.says("hi")  # now she can be reached
        await dm.hears("hello")
        await world.after(61)
        assert "A new chat" in dm.heard[-1]
        await world.after(61)
        assert len([text for text in dm.heard if "A new chat" in text]) == 1, "one card for one person"


async def test_a_scoped_admin_is_not_asked_about_an_unknown_chat(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await person(world, "sam", Role.ADMIN, scoped=True)
        await person(world, "olga", Role.OWNER)
        await direct(world, "bob-dm").says("hi", "bob")
        await world.quiet()
        assert world.channel.heard("sam-dm") == [] and len(world.channel.heard("olga-dm")) == 1
