"""People who want more than they have: group admins beyond their group, agents that fill or fool a person's chat."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from nanoclaw.domain.people import Role
from nanoclaw.flow.aftermath import Aftermath
from nanoclaw.flow.agent_requests import MOST_OF_GROUP
from nanoclaw.flow.approvals import Answer
from nanoclaw.flow.requests import Caller
from tests.flow.cast import Cast
from tests.flow.people import find_text, person, states
from tests.flow.test_ncl_box import enter
from tests.flow.world import CHANNEL, open_world

SECRET = "the-cake-is-in-the-oven"


async def test_an_admin_of_one_assistant_cannot_keep_out_whom_another_of_the_chat_knows(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        family, cast = await world.chat(is_group=True), Cast(world)
        other = await cast.agent("Yoda")
        await cast.person("bob", member="Yoda")
        await person(world, "gina", Role.ADMIN, scoped=True)
        await world.store.write(
            lambda c: world.tables.chats.wire(c, world.tables.chats.find(c, CHANNEL, "family"), other, 1)  # type: ignore[arg-type]
        )
        await world.change("UPDATE messaging_groups SET unknown_sender_policy = 'request_approval'")
        await family.says("hello", "bob")
        await world.quiet()
        answer = await world.channel.press("gina-dm", "gina", "Deny for good")
        assert answer.words == "Yoda knows them, so they cannot be kept out of this chat. The question stays open."
        assert (await family.says("hello again", "bob")).message
        assert (await world.channel.press("gina-dm", "gina", "Deny")).taken


async def test_a_held_message_is_gone_also_when_the_host_is_killed_between_the_no_and_the_scrub(tmp_path: Path) -> None:
    home, killed = tmp_path / "home", tmp_path / "killed"
    home.mkdir()
    async with open_world(home) as world:
        chat = await world.chat()
        await world.change("UPDATE messaging_groups SET unknown_sender_policy = 'request_approval'")
        await chat.says(SECRET, "bob")
        await world.quiet()
        ((question,),) = await world.rows("SELECT id FROM approvals")
        no = Answer(question, "deny", None, operator=True)
        await world.store.write(lambda c: world.asked.approvals.decide(c, no, Aftermath(), 1))
        shutil.copytree(home, killed)  # as the files are when it dies before `carry`
    assert find_text(killed, SECRET)
    async with open_world(killed):
        assert find_text(killed, SECRET) == []


async def test_an_agent_asks_no_more_by_asking_whoever_decides_for_all(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        agent, _ = await enter(world)
        for number in range(MOST_OF_GROUP + 5):
            await world.change(
                "INSERT INTO sessions (id, agent_group_id, mode, thread_id, last_active_at, created_at)"
                " VALUES (?, ?, 'per-thread', ?, 1, 1)", f"S{number}", agent.group, f"t{number}"
            )  # fmt: skip
            agent.session = f"S{number}"
            await agent.ncl("destinations", "add", "--to-chat", "alice-dm", "--name", f"x{number}")
        assert len(await states(world)) == MOST_OF_GROUP


async def test_instructions_on_a_card_cannot_move_or_hide_what_is_read(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        agent, chat = await enter(world)
        caller = Caller(agent.session, 1, agent.group, 1, None, None)
        wanted = json.dumps({"name": "Tom", "instructions": "be nice\x1b[2J\u202eevil\x00"})
        after = Aftermath()
        await world.store.write(lambda c: world.asked.requests.create_agent(c, caller, wanted, after, 1))
        world.carrier.carry(after)
        await world.until(lambda: len(chat.heard) == 2)
        assert "> be nice\u241b[2Jevil\u2400\n" in chat.heard[1]


@pytest.mark.parametrize("scope", ["group", "global"])
async def test_a_yes_is_to_whom_the_card_named_whoever_has_the_name_by_then(tmp_path: Path, scope: str) -> None:
    async with open_world(tmp_path) as world:
        agent, _ = await enter(world, scope)
        bob = await person(world, "bob", reachable=False)
        mallory = await person(world, "mallory", reachable=False)
        await person(world, "olga", Role.OWNER)
        await agent.ncl("members", "add", "Bob", "--group", "main")
        await world.quiet()
        await world.change("UPDATE users SET name = 'Robert' WHERE id = ?", bob)
        await world.change("UPDATE users SET name = 'Bob' WHERE id = ?", mallory)
        assert (await world.channel.press("olga-dm", "olga", "Approve")).words.startswith("Approved. Done: ncl members")
        assert await world.rows("SELECT user_id FROM agent_group_members") == [(bob,)]


async def test_a_yes_to_a_name_that_was_nobodys_does_nothing_once_it_is_somebodys(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        agent, chat = await enter(world, "global")
        await agent.ncl("members", "add", "Bob", "--group", "main")
        await world.until(lambda: len(chat.heard) == 2)
        assert "Bob is nothing of this name" in chat.heard[1]
        await person(world, "bob", reachable=False)
        assert "was not there" in (await chat.presses("Approve")).words
        assert await world.rows("SELECT 1 FROM agent_group_members") == []


async def test_an_agent_bound_to_its_group_gets_the_destination_that_a_person_said_yes_to(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        agent, _ = await enter(world)
        await person(world, "olga", Role.OWNER)
        await agent.ncl("destinations", "add", "--to-chat", "olga-dm", "--group", "main")
        await world.quiet()
        assert (await world.channel.press("olga-dm", "olga", "Approve")).words.startswith("Approved. Done:")
        assert ("olga-dm",) in await world.rows("SELECT local_name FROM agent_destinations")
