"""`ncl` inside a box, as a transcript: what an agent reads, what a person is asked, what is done after a yes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nanoclaw.admin.boxed import MOST_BYTES
from nanoclaw.admin.call import OPERATOR, check_request
from nanoclaw.admin.request import Request
from nanoclaw.contract.message import ToolAnswer
from nanoclaw.flow.aftermath import Aftermath
from nanoclaw.flow.requests import Caller
from tests.flow.world import CHANNEL, Chat, World, open_world


class Agent:
    """The agent of a chat's session, at its shell."""

    def __init__(self, world: World, session: str, group: str) -> None:
        self._world = world
        self.session, self.group = session, group
        self.last = Aftermath()

    async def ncl(self, *words: str) -> ToolAnswer:
        boxed = self._world.boxed
        caller = Caller(self.session, 1, self.group, 1, None, None)
        self.last = Aftermath()
        arguments = json.dumps({"arguments": list(words)})
        answer = await self._world.store.write(
            lambda connection: boxed(connection, caller, arguments, self.last, self._world.clock.now_ms())
        )
        self._world.carrier.carry(self.last)
        assert answer is not None
        return answer


async def enter(world: World, scope: str = "group") -> tuple[Agent, Chat]:
    """An agent that has just answered in the family's chat, where Alice decides."""
    chat = await world.chat("alice-dm")
    world.script.replies("hello")
    await chat.says("hi")
    await chat.hears("hello")
    ((session, group),) = await world.rows("SELECT id, agent_group_id FROM sessions")
    await world.change("UPDATE container_configs SET cli_scope = ?", scope)
    return Agent(world, session, group), chat


async def ncl(world: World, *words: str, **flags: str) -> None:
    """What an operator does meanwhile."""
    resource, verb, *target = words
    call = check_request(Request(resource, verb, target[0] if target else None, dict(flags)), OPERATOR, 1)
    await world.store.write(lambda connection: world.desk.run(connection, call, Aftermath()))


async def test_a_write_from_a_box_waits_for_a_yes_is_done_and_told(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        agent, chat = await enter(world)
        answer = await agent.ncl("groups", "update", "--name", "Bea")
        assert answer.status == "pending" and "A person is asked" in answer.text
        assert await world.rows("SELECT name FROM agent_groups") == [("Andy",)]
        await world.until(lambda: len(chat.heard) == 2)
        assert "ncl groups update" in chat.heard[1] and "--name Bea" in chat.heard[1]
        world.script.replies("I am Bea now")
        await chat.presses("Approve")
        await world.until(lambda: chat.heard[-1] == "I am Bea now")
        assert await world.rows("SELECT name FROM agent_groups") == [("Bea",)]
        (note,) = await world.rows("SELECT content FROM inbox WHERE kind = 'system'")
        assert "Done: ncl groups update" in note[0]
        audit = await world.rows("SELECT event, actor FROM audit WHERE event = 'group.renamed'")
        assert audit == [("group.renamed", f"session:{agent.session}")]


async def test_a_denied_write_changes_nothing_and_is_told(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        agent, chat = await enter(world)
        await agent.ncl("groups", "update", "--name", "Bea")
        await world.until(lambda: len(chat.heard) == 2)
        world.script.replies("as you like")
        await chat.presses("Deny")
        await world.until(lambda: chat.heard[-1] == "as you like")
        assert await world.rows("SELECT name FROM agent_groups") == [("Andy",)]


async def test_a_scope_that_was_taken_away_meanwhile_counts_at_the_yes(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        agent, chat = await enter(world)
        await agent.ncl("groups", "update", "--name", "Bea")
        await world.until(lambda: len(chat.heard) == 2)
        await world.change("UPDATE container_configs SET cli_scope = 'disabled'")
        world.script.replies("a pity")
        await chat.presses("Approve")
        await world.until(lambda: chat.heard[-1] == "a pity")
        assert await world.rows("SELECT name FROM agent_groups") == [("Andy",)]


async def test_what_only_a_wider_scope_may_is_not_done_when_it_was_narrowed_before_the_yes(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        agent, chat = await enter(world, "global")
        assert (await agent.ncl("groups", "create", "Tom")).status == "pending"
        await world.until(lambda: len(chat.heard) == 2)
        await world.change("UPDATE container_configs SET cli_scope = 'group'")
        world.script.replies("a pity")
        await chat.presses("Approve")
        await world.until(lambda: chat.heard[-1] == "a pity")
        assert await world.rows("SELECT name FROM agent_groups") == [("Andy",)]


async def test_a_group_scope_sees_its_own_and_cannot_tell_others_from_none(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        agent, _ = await enter(world)
        await ncl(world, "groups", "create", "Secret")
        ((other,),) = await world.rows("SELECT id FROM agent_groups WHERE name = 'Secret'")
        shown = json.loads((await agent.ncl("groups", "list", "--json")).text)
        assert [row["name"] for row in shown] == ["Andy"]
        assert json.loads((await agent.ncl("groups", "get", "--json")).text)[0]["name"] == "Andy"
        assert json.loads((await agent.ncl("sessions", "list", "--json")).text)[0]["id"] == agent.session
        for command in (("groups", "get"), ("groups", "config", "get"), ("groups", "update", "--name", "X", "--id")):
            there, missing = await agent.ncl(*command, other), await agent.ncl(*command, "01NOWHERE")
            assert there.status == "refused"
            assert there.text.replace(other, "?") == missing.text.replace("01NOWHERE", "?")
        filtered = await agent.ncl("sessions", "list", "--group", "secret")
        assert filtered.text == (await agent.ncl("sessions", "list", "--group", "nobody")).text.replace(
            "nobody", "secret"
        )
        added = await agent.ncl("members", "add", "Alice", "--group", "secret")
        assert added.status == "refused"


async def test_a_session_of_another_group_is_not_there(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        agent, _ = await enter(world)
        await ncl(world, "groups", "create", "Secret")
        ((other,),) = await world.rows("SELECT id FROM agent_groups WHERE name = 'Secret'")
        await world.change(
            "INSERT INTO sessions (id, agent_group_id, mode, last_active_at, created_at)"
            " VALUES ('01OTHER0000000000000000000', ?, 'agent-shared', 1, 1)",
            other,
        )
        answer = await agent.ncl("sessions", "get", "01OTHER0000000000000000000")
        missing = await agent.ncl("sessions", "get", "01OTHER0000000000000000001")
        assert answer.text.replace("00'", "?'") == missing.text.replace("01'", "?'")
        assert "01OTHER" not in (await agent.ncl("sessions", "list")).text


@pytest.mark.parametrize("scope", ["group", "global"])
async def test_an_agent_never_widens_its_scope_decides_or_takes_rights(tmp_path: Path, scope: str) -> None:
    async with open_world(tmp_path) as world:
        agent, _ = await enter(world, scope)
        for words in (
            ("groups", "config", "update", "main", "--cli-scope", "global"),
            ("groups", "config", "update", "main", "--model", "m", "--cli-scope=global"),
            ("roles", "grant", "Alice", "--role", "owner"),
            ("approvals", "approve", "x"),
            ("users", "link", "Alice", "--channel", CHANNEL, "--handle", "mallory"),
            ("groups", "delete", "main", "--purge"),
            ("host", "stop"),
        ):
            assert (await agent.ncl(*words)).status == "refused", words
        assert await world.rows("SELECT count(*) FROM approvals") == [(0,)]
        refused = await world.rows("SELECT DISTINCT actor FROM audit WHERE event = 'ncl.refused'")
        assert refused == [(f"session:{agent.session}",)]
        assert await world.rows("SELECT count(*) FROM audit WHERE event = 'ncl.refused'") == [(7,)]


async def test_a_disabled_scope_answers_nothing_not_even_help(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        agent, _ = await enter(world, "disabled")
        for words in (("help",), (), ("groups", "list"), ("moon",)):
            answer = await agent.ncl(*words)
            assert (answer.status, answer.text) == ("refused", "ncl is switched off for this assistant.")


async def test_a_global_scope_reads_everything_and_help_says_what_there_is(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        agent, _ = await enter(world, "global")
        await ncl(world, "groups", "create", "Secret")
        assert "Secret" in (await agent.ncl("groups", "list")).text
        assert "Alice" in (await agent.ncl("users", "list")).text
        assert "ncl groups config update" in (await agent.ncl("groups", "help")).text
        assert "--model" in (await agent.ncl("groups", "config", "update", "--help")).text


async def test_what_reaches_beyond_the_group_is_asked_of_who_decides_for_all(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        agent, _ = await enter(world)
        await agent.ncl("groups", "update", "--name", "Bea")
        await agent.ncl("groups", "config", "update", "--model", "m")
        await agent.ncl("destinations", "add", "--to-chat", "elsewhere")
        asked = await world.rows("SELECT agent_group_id FROM approvals ORDER BY id")
        assert asked == [(agent.group,), (None,), (None,)]


async def test_a_card_says_by_name_what_the_command_names_by_id(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        agent, chat = await enter(world)
        ((alice,),) = await world.rows("SELECT id FROM users WHERE name = 'Alice'")
        there = await agent.ncl("members", "add", alice)
        missing = await agent.ncl("members", "add", "01NOWHERE")
        assert there.status == missing.status == "pending"
        await world.until(lambda: len(chat.heard) == 3)
        assert f"{alice} is Alice, scripted:alice" in chat.heard[1]
        assert "01NOWHERE is nothing of this name" in chat.heard[2]


async def test_an_approved_restart_ends_the_own_session_alone(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        agent, chat = await enter(world)
        other = await world.chat("other", is_group=True)
        world.script.replies("there")
        await other.says("hi")
        await other.hears("there")
        assert len(list(world.live)) == 2
        answer = await agent.ncl("groups", "restart", "main")
        assert answer.status == "pending"
        await world.until(lambda: len(chat.heard) == 2)
        world.script.replies("new again")
        await chat.presses("Approve")
        await world.until(lambda: chat.heard[-1] == "new again")
        runs = await world.rows("SELECT id, fence, run_state FROM sessions")
        assert sorted((one == agent.session, fence, state) for one, fence, state in runs) == [
            (False, 1, "running"),
            (True, 2, "running"),
        ]


@pytest.mark.parametrize(
    "arguments", ["", "[]", "{}", '{"arguments": "ls"}', '{"arguments": [1]}', "\ud800", "[" * 9_000]
)
async def test_garbage_from_a_box_is_refused_in_words(tmp_path: Path, arguments: str) -> None:
    async with open_world(tmp_path) as world:
        agent, _ = await enter(world)
        caller = Caller(agent.session, 1, agent.group, 1, None, None)
        answer = await world.store.write(lambda connection: world.boxed(connection, caller, arguments, Aftermath(), 1))
        assert answer == ToolAnswer("refused", "The host did not understand this request.")


async def test_a_long_answer_is_cut_with_words(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        agent, _ = await enter(world, "global")

        def fill(connection: object) -> None:
            for number in range(2_000):
                world.tables.people.add_user(connection, f"{'x' * 60} {number}", 1)  # type: ignore[arg-type]

        await world.store.write(fill)
        answer = await agent.ncl("users", "list", "--limit", "5000")
        assert answer.status == "done" and len(answer.text.encode()) <= MOST_BYTES
        assert "cut off" in answer.text
        refused = await agent.ncl("users", "list", "--limit", "5000", "--json")
        assert refused.status == "refused" and "--limit" in refused.text
