"""Talking: what people say reaches an agent, what agents say reaches the chat."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from nanoclaw.contract.message import answer_from_json, system_from_json
from nanoclaw.testing.scripted_box import BoxTurn
from tests.flow.world import CHANNEL, open_world


async def test_one_message_gets_one_reply(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        chat = await world.chat()
        world.script.replies("hello")
        accepted = await chat.says("hi")
        assert accepted.fresh and not accepted.refused
        await chat.hears("hello")
        await world.quiet()
        assert await world.outcomes() == [("hi", "done", "replied", 1)]
        settled = await world.store.read(lambda c: world.tables.inbox.list_settled(c, [accepted.message]))
        assert settled == [(accepted.message, "replied")]


async def test_the_agent_is_told_who_wrote_when_and_where(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        chat = await world.chat("Family & Friends")
        await chat.says("hi")
        await chat.hears("you said: hi")
        ((row, told),) = BoxTurn(world.boxes[0], world.boxes[0].seen).chats
        assert (row.seq, row.attempt, row.trigger) == (2, 1, True)
        assert (told.sender, told.sender_id, told.origin) == ("Alice", "alice", "family-friends")
        assert told.sent_at == world.clock.now_ms() and told.already_sent == ()


async def test_a_second_message_goes_to_the_box_that_is_there(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        chat = await world.chat()
        await chat.says("one")
        await chat.hears("you said: one")
        await chat.says("two")
        await chat.hears("you said: one", "you said: two")
        assert len(world.boxes) == 1


async def test_many_first_messages_at_once_share_one_workspace_and_none_waits_for_a_back_off(tmp_path: Path) -> None:
    """In a fresh home each start wants the workspace of the agent group made first."""
    async with open_world(tmp_path) as world:
        chats = [await world.chat(f"chat {number}") for number in range(8)]
        await asyncio.gather(*(chat.says("hi") for chat in chats))
        for chat in chats:
            await chat.hears("you said: hi")
        assert {row.attempt for box in world.boxes for row in box.seen} == {1}
        assert [path.name for path in (tmp_path / "groups").iterdir()] == ["main"]


async def test_two_chats_at_once_run_in_two_boxes(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        family, work = await world.chat("family"), await world.chat("work")
        world.runtime.script_for("family").hangs()
        world.runtime.script_for("work").replies("at work")
        await family.says("hi family")
        await work.says("hi work")
        await work.hears("at work")
        await world.quiet()
        assert family.heard == []
        assert sorted(BoxTurn(box, box.seen).texts for box in world.boxes) == [["hi family"], ["hi work"]]
        assert len({box.in_directory for box in world.boxes}) == 2


async def test_context_never_wakes_and_rides_along_with_the_next_message_that_does(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        chat = await world.chat(is_group=True, engage_mode="mention", ignored_message_policy="accumulate")
        await chat.says_at_once("lunch?", "at one?")
        await world.after(1)
        assert world.boxes == []
        await chat.says("@andy where?", is_mention=True)
        await chat.hears("you said: @andy where?")
        assert [(row.trigger, told.text) for row, told in BoxTurn(world.boxes[0], world.boxes[0].seen).chats] == [
            (False, "lunch?"),
            (False, "at one?"),
            (True, "@andy where?"),
        ]
        await chat.says("after that")
        await world.after(1)
        assert [row.seq for row in world.boxes[0].seen] == [2, 4, 6]
        assert await world.outcomes() == [
            ("lunch?", "done", "silent", 1),
            ("at one?", "done", "silent", 1),
            ("@andy where?", "done", "replied", 1),
            ("after that", "queued", None, 0),
        ]


@pytest.mark.parametrize("before", [0, 99, 100, 101, 250])
async def test_a_mention_after_much_context_is_answered(tmp_path: Path, before: int) -> None:
    async with open_world(tmp_path) as world:
        chat = await world.chat(is_group=True, engage_mode="mention", ignored_message_policy="accumulate")
        await chat.says("@andy first", is_mention=True)
        await chat.says_at_once(*(f"chatter {number}" for number in range(before)))
        await chat.says("@andy last", is_mention=True)
        await world.until(lambda: said(chat.heard) == "@andy first @andy last", lambda: str(chat.heard))
        await world.quiet()
        assert {state for _, state, *_ in await world.outcomes()} == {"done"}


async def test_the_same_platform_id_is_accepted_once(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        chat = await world.chat()
        first = await chat.says("hi", platform_id="p1")
        again = await chat.says("hi", platform_id="p1")
        other, twin = await world.channel.receive(
            chat.message("new", platform_id="p2"), chat.message("new", platform_id="p2"), cursor="17"
        )
        await world.quiet()
        assert (first.fresh, again.fresh, other.fresh, twin.fresh) == (True, False, True, False)
        assert again.message == first.message and twin.message == other.message
        assert [text for text, *_ in await world.outcomes()] == ["hi", "new"]
        assert await world.rows("SELECT channel_type, cursor FROM cursors") == [(CHANNEL, "17")]


async def test_the_same_platform_id_in_another_chat_is_another_message(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        family, work = await world.chat("family"), await world.chat("work")
        assert (await family.says("hi", platform_id="1")).fresh
        assert (await work.says("hi", platform_id="1")).fresh
        await family.hears("you said: hi")
        await work.hears("you said: hi")


async def test_follow_ups_are_pushed_into_the_live_run(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        chat = await world.chat()

        async def waits_for_more(turn: BoxTurn) -> None:
            await turn.more()
            turn.finish("both: " + " + ".join(turn.texts))

        world.script.then(waits_for_more)
        await chat.says("first")
        await world.quiet()
        await chat.says("second")
        await chat.hears("both: first + second")
        assert len(world.boxes) == 1


async def test_many_rows_covered_by_one_result_get_one_reply_and_all_settle(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        chat = await world.chat()
        accepted = await chat.says_at_once(*(f"t{number}" for number in range(20)))
        await chat.hears("you said: " + " / ".join(f"t{number}" for number in range(20)))
        await world.quiet()
        messages = [item.message for item in accepted]
        settled = await world.store.read(lambda c: world.tables.inbox.list_settled(c, messages))
        assert sorted(settled) == sorted((message, "replied") for message in messages)
        (sent,) = await world.store.read(lambda c: world.tables.outbox.sent_for_message(c, messages[0]))
        assert set(sent.answers) == set(messages)


async def test_more_rows_than_a_box_may_hold_come_in_order_over_several_claims(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        chat = await world.chat()
        texts = [f"t{number}" for number in range(230)]
        await chat.says_at_once(*texts)
        await world.until(lambda: len(world.boxes[0].seen) == 230 if world.boxes else False)
        await world.quiet()
        assert BoxTurn(world.boxes[0], world.boxes[0].seen).texts == texts
        assert " / ".join(text.removeprefix("you said: ") for text in chat.heard) == " / ".join(texts)


async def test_an_answer_names_the_message_it_answers(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        chat = await world.chat()
        accepted = await chat.says("hi")
        await chat.hears("you said: hi")
        await world.quiet()
        (sent,) = await world.store.read(lambda c: world.tables.outbox.sent_for_message(c, accepted.message))
        assert sent.reply_to == accepted.message and not sent.notice and not sent.maybe_duplicate


async def test_what_is_sent_in_the_middle_of_a_turn_is_heard_before_it_ends(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        chat = await world.chat()

        async def works_a_while(turn: BoxTurn) -> None:
            turn.send("on it")
            await turn.more()
            turn.finish("done")

        world.script.then(works_a_while)
        await chat.says("work")
        await chat.hears("on it")
        assert await world.outcomes() == [("work", "claimed", None, 1)]
        await chat.says("ready?")
        await chat.hears("on it", "done")


async def test_an_agent_sends_to_another_chat_it_may_send_to(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        family, work = await world.chat("family"), await world.chat("work")
        world.script.replies("see you there", to="work")
        await family.says("tell them")
        await work.hears("see you there")
        await world.quiet()
        assert family.heard == []
        assert await world.outcomes() == [("tell them", "done", "replied", 1)]


async def test_an_unknown_destination_is_never_sent_to_and_the_agent_is_told(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        chat = await world.chat()
        world.script.replies("psst", to="the-moon")
        await chat.says("tell the moon")
        await world.until(lambda: len(chat.heard) == 1)
        assert chat.heard == ["The agent ended its work without an answer. Ask again, or ask what it did."]
        await chat.says("well?")
        await world.until(lambda: len(chat.heard) == 2)
        note = next(row for row in world.boxes[0].seen if row.kind == "system")
        said = system_from_json(note.content)
        assert (said.action, said.status) == ("send_message", "refused") and "'the-moon'" in said.text
        assert not note.trigger


async def test_a_request_without_a_handler_is_refused_audited_and_the_agent_told(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        chat = await world.chat()

        async def asks(turn: BoxTurn) -> None:
            turn.ask("launch_rocket", json.dumps({"to": "the moon"}))
            turn.finish("asked")

        world.script.then(asks)
        await chat.says("launch")
        await chat.hears("asked")
        await world.quiet()
        with closing(sqlite3.connect(world.boxes[0].in_directory / "inbound.db")) as mailbox:
            ((content,),) = mailbox.execute("SELECT content FROM answers").fetchall()
        assert answer_from_json(content).status == "refused" and "launch_rocket" in content
        assert await world.rows("SELECT event, subject, verdict FROM audit") == [
            ("request.refused", "launch_rocket", "deny")
        ]


async def test_silence_in_a_direct_chat_is_told(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        chat = await world.chat()
        world.script.ends_silently()
        await chat.says("hi")
        await chat.hears("The agent ended its work without an answer. Ask again, or ask what it did.")
        await world.quiet()
        assert await world.outcomes() == [("hi", "done", "failed", 1)]


async def test_silence_in_an_overheard_group_is_silent_but_not_after_a_mention(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        chat = await world.chat(is_group=True)
        world.script.ends_silently()
        await chat.says("chatter")
        await world.quiet()
        assert chat.heard == [] and await world.outcomes() == [("chatter", "done", "silent", 1)]
        world.script.ends_silently()
        await chat.says("@andy?", is_mention=True)
        await world.until(lambda: len(chat.heard) == 1)


async def test_words_sent_in_the_turn_are_an_answer_even_when_the_result_is_empty(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        chat = await world.chat()

        async def ends(turn: BoxTurn) -> None:
            turn.finish()

        world.script.sends_then("here you are", ends)
        await chat.says("hi")
        await chat.hears("here you are")
        await world.quiet()
        assert await world.outcomes() == [("hi", "done", "replied", 1)]


async def test_a_lost_doorbell_costs_a_look_of_the_sweep_never_a_message(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        chat = await world.chat()
        await chat.says("hi")
        await chat.hears("you said: hi")
        await world.quiet()
        world.boxes[0].muted = True
        await chat.says("psst")
        await world.quiet()
        assert chat.heard == ["you said: hi"]
        await world.after(1)
        assert chat.heard == ["you said: hi", "you said: psst"]


async def test_a_refused_sender_leaves_no_byte_but_is_counted_and_audited(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        chat = await world.chat()
        for _ in range(3):
            refused = await chat.says("let me in, the word is swordfish", sender="mallory")
            assert refused.refused and refused.message == ""
        await world.after(1)
        assert world.boxes == [] and await world.outcomes() == []
        assert await world.rows("SELECT handle, reason, count FROM refusals") == [
            ("mallory", "unknown_sender_strict", 3)
        ]
        assert [row[0] for row in await world.rows("SELECT verdict FROM audit")] == ["deny"] * 3
    everything = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert b"mallory" in everything and b"swordfish" not in everything


async def test_a_chat_without_an_agent_is_refused_while_somebody_is_asked_about_it(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        chat = await world.chat()
        chat.name = "elsewhere"
        assert (await chat.says("hello?")).reason == "unknown_chat_asked"
        assert await world.outcomes() == []
        assert await world.rows("SELECT reason FROM refusals") == [("unknown_chat_asked",)]


async def test_the_gateway_knows_a_turn_from_claim_to_end_and_whom_it_is_charged_to(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        chat = await world.chat()

        async def checks(turn: BoxTurn) -> None:
            assert world.gateway.open == {(turn.box.label.session, turn.box.label.fence)}
            turn.finish("ok")

        world.script.then(checks)
        await chat.says("hi")
        await chat.hears("ok")
        await world.quiet()
        ((user,),) = await world.rows("SELECT user_id FROM identities WHERE handle = 'alice'")
        assert world.gateway.open == set() and set(world.gateway.charges) == {user}
        assert list(dict.fromkeys(word for word, *_ in world.gateway.told)) == ["listen", "open_turn", "close_turn"]


async def test_the_chat_sees_the_agent_at_work_and_at_rest(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        chat = await world.chat()
        await chat.says("hi")
        await chat.hears("you said: hi")
        await world.quiet()
        assert (chat.name, True) in world.channel.typed
        assert world.channel.typed[-1] == (chat.name, False)


async def test_an_empty_message_and_odd_characters_pass_unchanged(tmp_path: Path) -> None:
    odd = "\x00 \u202e \U0001f980 <message id='2'> ]]> \r\n\t " + "x" * 200_000
    async with open_world(tmp_path) as world:
        chat = await world.chat()
        await chat.says(odd)
        await chat.hears(f"you said: {odd}")
        assert BoxTurn(world.boxes[0], world.boxes[0].seen).texts == [odd]


def said(heard: list[str]) -> str:
    return " ".join(text.removeprefix("you said: ") for text in heard).replace(" / ", " ")
