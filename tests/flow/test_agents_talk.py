"""One agent asks another: the answer comes back to the conversation that asked, and to no other."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

from nanoclaw.contract.message import answer_from_json
from nanoclaw.testing.scripted_box import BoxTurn
from tests.flow.swarm import agent, ends_with, introduce, notes, open_swarm, sessions_of, told
from tests.flow.world import World


async def settled(world: World, message: str) -> str | None:
    found = await world.store.read(lambda c: world.tables.inbox.list_settled(c, [message]))
    return dict(found).get(message)


async def test_an_agent_asks_another_and_answers_in_the_chat(tmp_path: Path) -> None:
    async with open_swarm(tmp_path, "researcher") as world:
        chat = await world.chat()
        world.runtime.script_for("family").replies("how far is the moon?", to="researcher")
        world.runtime.script_for("andy").replies("384,400 km")
        world.runtime.script_for("researcher").replies("It is 384,400 km away.")
        accepted = await chat.says("how far is the moon?")
        await chat.hears("It is 384,400 km away.")
        await world.quiet()
        ((question,), (_, answer)) = await told(world, "researcher"), await told(world, "main")
        assert (question.text, question.sender, question.origin) == ("how far is the moon?", "Andy", "andy")
        assert (answer.text, answer.sender, answer.origin) == ("384,400 km", "Researcher", "researcher")
        assert answer.reply_to == 2  # the number of the message it was working on
        assert question.sender_id.startswith("agent:") and answer.sender_id.startswith("agent:")
        assert await settled(world, accepted.message) == "replied"
        assert [row[1:] for row in await world.outcomes()].count(("done", "silent", 1)) == 1  # what was handed on


async def test_the_message_of_a_person_has_not_ended_before_all_that_it_led_to(tmp_path: Path) -> None:
    async with open_swarm(tmp_path, "researcher") as world:
        chat = await world.chat()
        world.runtime.script_for("family").replies("look it up", to="researcher")
        world.runtime.script_for("andy").hangs()
        accepted = await chat.says("well?")
        await world.quiet()
        assert len(world.boxes) == 2 and chat.heard == []
        assert await settled(world, accepted.message) is None


async def test_two_chats_that_ask_the_same_specialist_do_not_mix(tmp_path: Path) -> None:
    async with open_swarm(tmp_path, "researcher") as world:
        family, work = await world.chat("family"), await world.chat("work")
        for name in ("family", "work"):
            world.runtime.script_for(name).replies(f"question of {name}", to="researcher")
        await family.says("ask")
        await work.says("ask")
        await family.hears("you said: you said: question of family")
        await work.hears("you said: you said: question of work")
        await world.quiet()
        assert len(await sessions_of(world, "researcher")) == 2
        homes = {mount.source for box in world.boxes for mount in box.spec.mounts if mount.target == "/home/agent"}
        assert len(homes) == 4  # each conversation has its own history


async def test_a_second_question_of_one_conversation_comes_to_the_same_session(tmp_path: Path) -> None:
    async with open_swarm(tmp_path, "researcher") as world:
        chat = await world.chat()
        for text in ("one", "two"):
            world.runtime.script_for("family").replies(text, to="researcher")
            await chat.says(text)
            await world.quiet()
        await chat.hears("you said: you said: one", "you said: you said: two")
        assert len(await sessions_of(world, "researcher")) == 1
        assert [question.text for question in await told(world, "researcher")] == ["one", "two"]


async def test_delegation_goes_on_and_every_answer_finds_the_one_who_asked(tmp_path: Path) -> None:
    """Andy asks the editor, the editor asks the researcher: the researcher's answer is the editor's, not Andy's."""
    async with open_swarm(tmp_path, "editor") as world:
        await agent(world, "researcher")
        await introduce(world, "editor", "researcher")
        chat = await world.chat()
        world.runtime.script_for("family").replies("write it", to="editor")
        world.runtime.script_for("andy").replies("find out", to="researcher")
        world.runtime.script_for("editor").replies("found out")  # the researcher, asked by the editor
        world.runtime.script_for("researcher").replies("written: found out")  # the editor, told by the researcher
        world.runtime.script_for("editor").replies("here: written: found out")  # Andy, told by the editor
        accepted = await chat.says("a report")
        await chat.hears("here: written: found out")
        await world.quiet()
        assert [one.text for one in await told(world, "editor")] == ["write it", "found out"]
        assert [one.text for one in await told(world, "researcher")] == ["find out"]
        assert await settled(world, accepted.message) == "replied"
        hops = await world.rows("SELECT hops FROM inbox ORDER BY id")
        assert hops == [(0,), (1,), (2,), (3,), (4,)]


async def test_a_swarm_of_three_is_asked_at_once_and_one_answer_is_given(tmp_path: Path) -> None:
    async with open_swarm(tmp_path, "ann", "ben", "cyd") as world:
        chat = await world.chat()

        async def asks_all(turn: BoxTurn) -> None:
            ends_with(turn, *((f"part of {name}", name) for name in ("ann", "ben", "cyd")))

        world.runtime.script_for("family").then(asks_all)
        heard: list[str] = []

        async def collects(turn: BoxTurn) -> None:
            heard.extend(turn.texts)
            turn.finish(*(["all three: " + ", ".join(sorted(heard))] if len(heard) == 3 else []))

        for name in ("ann", "ben", "cyd"):
            for _ in range(3):
                world.runtime.script_for(name).then(collects)
        accepted = await chat.says("plan the feast")
        await chat.hears("all three: you said: part of ann, you said: part of ben, you said: part of cyd")
        await world.quiet()
        assert await settled(world, accepted.message) == "replied"
        assert len({box.label.session for box in world.boxes}) == 4


async def test_the_turn_of_every_agent_is_charged_to_the_person_who_began_it(tmp_path: Path) -> None:
    async with open_swarm(tmp_path, "researcher") as world:
        chat = await world.chat()
        world.runtime.script_for("family").replies("go", to="researcher")
        await chat.says("go")
        await world.until(lambda: len(chat.heard) == 1)
        await world.quiet()
        ((user,),) = await world.rows("SELECT user_id FROM identities WHERE handle = 'alice'")
        assert len(world.gateway.charges) == 3 and set(world.gateway.charges) == {user}


async def test_an_answer_may_name_the_asker_and_still_goes_to_the_session_that_asked(tmp_path: Path) -> None:
    async with open_swarm(tmp_path, "researcher") as world:
        chat = await world.chat()
        world.runtime.script_for("family").replies("go", to="researcher")
        world.runtime.script_for("andy").replies("gone", to="andy")
        world.runtime.script_for("researcher").replies("it is gone")
        await chat.says("go")
        await chat.hears("it is gone")
        assert len(await sessions_of(world, "main")) == 1


async def test_whoever_asked_may_be_answered_by_one_who_may_not_write_to_it(tmp_path: Path) -> None:
    async with open_swarm(tmp_path) as world:
        await introduce(world, "main", await agent(world, "researcher"), back=False)
        chat = await world.chat()
        world.runtime.script_for("family").replies("go", to="researcher")
        world.runtime.script_for("researcher").replies("it is gone")
        await chat.says("go")
        await chat.hears("it is gone")


async def test_an_agent_without_the_destination_reaches_nobody_and_is_audited(tmp_path: Path) -> None:
    async with open_swarm(tmp_path) as world:
        await agent(world, "researcher")
        chat = await world.chat()
        world.script.replies("psst", to="researcher")
        await chat.says("go")
        await world.until(lambda: len(chat.heard) == 1)
        await world.quiet()
        assert await sessions_of(world, "researcher") == []
        assert "may not send there" in (await notes(world, "main"))[0]
        assert await world.rows("SELECT event, reason FROM audit") == [("message.refused", "no_destination")]


async def test_nobody_writes_to_themselves_or_to_one_that_was_archived(tmp_path: Path) -> None:
    async with open_swarm(tmp_path, "researcher") as world:
        await introduce(world, "main", "main")
        await world.change("UPDATE agent_groups SET archived_at = 1 WHERE folder = 'researcher'")
        chat = await world.chat()
        world.script.replies("psst", to="andy")
        world.script.replies("psst", to="researcher")
        await chat.says("one")
        await world.until(lambda: len(chat.heard) == 1)
        await chat.says("two")
        await world.until(lambda: len(chat.heard) == 2)
        await world.quiet()
        first, second = await notes(world, "main")
        assert "addressed to yourself" in first and "is gone" in second
        assert [row[0] for row in await world.rows("SELECT reason FROM audit ORDER BY n")] == [
            "self_send",
            "agent_gone",
        ]


async def test_a_question_of_a_specialist_is_refused_with_words_rather_than_lost(tmp_path: Path) -> None:
    """The original's agents that only other agents talk to had nowhere to ask (defect 12): here they are told."""
    async with open_swarm(tmp_path, "researcher") as world:
        chat = await world.chat()

        async def asks(turn: BoxTurn) -> None:
            question = {"title": "Moon", "question": "Which one?", "options": ["ours", "Io"], "timeout_seconds": 300}
            turn.ask("ask_user_question", json.dumps(question))
            turn.finish("which moon?")

        world.runtime.script_for("family").replies("the moon", to="researcher")
        world.runtime.script_for("andy").then(asks)
        await chat.says("tell me of the moon")
        await chat.hears("you said: which moon?")
        await world.quiet()
        with closing(sqlite3.connect(world.boxes[1].in_directory / "inbound.db")) as mailbox:
            ((content,),) = mailbox.execute("SELECT content FROM answers").fetchall()
        assert answer_from_json(content).status == "refused"
