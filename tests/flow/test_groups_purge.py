"""Erasing an agent: all of it and only its own, wherever the host dies meanwhile."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from nanoclaw.domain.approval import ApprovalKind
from nanoclaw.errors import Refused
from nanoclaw.flow.aftermath import Aftermath
from nanoclaw.store.approvals import NewApproval
from nanoclaw.store.groups import AgentGroup
from nanoclaw.store.outbox import NewDelivery
from nanoclaw.testing.crashpoints import PURGE_CRASH_POINTS
from tests.flow.swarm import open_swarm
from tests.flow.world import CHANNEL, Home, World, open_world

SECRET, OTHER = "zanzibar-7714", "timbuktu-2093"  # what people told the erased agent, and the one that stays


async def find(world: World, folder: str) -> AgentGroup | None:
    groups = await world.store.read(lambda c: world.tables.groups.search(c, folder, archived=True))
    return groups[0] if groups else None


async def archive(world: World, folder: str) -> AgentGroup:
    group, after = await find(world, folder), Aftermath()
    assert group is not None
    await world.store.write(lambda c: world.groups.archive(c, group, after, world.clock.now_ms()))
    world.carrier.carry(after)
    await world.quiet()
    return group


async def tell_both(world: World) -> None:
    """Bob, whose chat is `garden`, hears the secret; Andy, whose chat is `family`, hears the other one."""
    garden, family = await world.chat("garden"), await world.chat("family")
    bob = await find(world, "bob")
    assert bob is not None
    for table, column in (("messaging_group_agents", "agent_group_id"), ("agent_destinations", "agent_group_id")):
        where = "messaging_group_id" if table == "messaging_group_agents" else "target_id"
        await world.change(f"UPDATE {table} SET {column} = ? WHERE {where} ="
                           " (SELECT id FROM messaging_groups WHERE platform_id = 'garden')", bob.id)  # fmt: skip
    await family.says(OTHER)
    await family.hears(f"you said: {OTHER}")
    await garden.says(SECRET)
    await garden.hears(f"you said: {SECRET}")
    await world.quiet()
    (world.home.path / "groups" / "bob" / "notes.txt").write_text(SECRET)
    (world.home.path / "groups" / "main" / "notes.txt").write_text(OTHER)


def places_of(words: str, home: Path) -> set[str]:
    """Return every file of a home that has these words in it."""
    found = (path for path in home.rglob("*") if path.is_file() and words.encode() in path.read_bytes())
    return {str(path.relative_to(home)) for path in found}


async def test_erasing_leaves_no_byte_of_it_and_touches_nobody_elses(tmp_path: Path) -> None:
    async with open_swarm(tmp_path, "bob") as world:
        await tell_both(world)
        bob = await archive(world, "bob")
        assert places_of(SECRET, tmp_path) != set()
        await world.groups.acting_for("operator").purge(bob)
        await world.until(lambda: places_of(SECRET, tmp_path) == set(), lambda: str(places_of(SECRET, tmp_path)))
        assert await find(world, "bob") is None
        assert not (tmp_path / "groups" / "bob").exists() and not (tmp_path / "sessions" / bob.id).exists()
        assert "groups/main/notes.txt" in places_of(OTHER, tmp_path)
        assert await world.rows("SELECT text FROM inbound") == [(OTHER,)]
        family = await world.chat("family")
        await family.says("still there?")
        await family.hears(f"you said: {OTHER}", "you said: still there?")
        audit = await world.rows("SELECT actor, subject FROM audit WHERE event = 'group.purged'")
        assert audit == [("operator", bob.id)]
        assert await world.rows("SELECT count(*) FROM agent_destinations WHERE target_id = ?", bob.id) == [(0,)]
        assert await world.rows("PRAGMA foreign_key_check") == []


async def test_orders_of_deliveries_never_go_back_for_clients_count_by_them(tmp_path: Path) -> None:
    async with open_swarm(tmp_path, "bob") as world:
        await tell_both(world)
        before = await world.store.read(world.tables.outbox.last_order)
        await world.groups.purge(await archive(world, "bob"))
        assert await world.store.read(world.tables.outbox.last_order) == before
        family = await world.chat("family")
        await family.says("next")
        await world.until(lambda: len(family.heard) == 2)
        await world.quiet()
        assert await world.store.read(world.tables.outbox.last_order) == before + 1


async def test_the_gateways_rules_for_a_folder_go_before_another_agent_can_have_it(tmp_path: Path) -> None:
    async with open_swarm(tmp_path, "bob") as world:
        bob = await archive(world, "bob")
        told: list[tuple[str, bool]] = []

        async def refuse(folder: str) -> None:
            raise Refused(f"The rules of {folder} could not be dropped.")

        async def forget(folder: str) -> None:
            told.append((folder, await find(world, "bob") is not None))

        with pytest.raises(Refused, match="The rules of bob"):
            await replace(world.groups, forget_rules=refuse).purge(bob)
        left = await find(world, "bob")
        assert left is not None, "its folder is not free while rules name it"
        await replace(world.groups, forget_rules=forget).purge(left)
        assert told == [("bob", True)]
        assert await find(world, "bob") is None


@pytest.mark.parametrize("point", PURGE_CRASH_POINTS)
async def test_a_host_that_dies_while_it_erases_goes_on_when_it_is_asked_again(tmp_path: Path, point: str) -> None:
    home = Home(tmp_path)
    async with open_swarm(home, "bob") as world:
        await tell_both(world)
        await archive(world, "bob")
    async with open_world(home, crash_at=point) as world:
        bob = await find(world, "bob")
        assert bob is not None
        await world.groups.purge(bob)
        raise AssertionError("the host should have died")
    async with open_world(home) as world:
        bob = await find(world, "bob")
        assert bob is not None, "until it is gone whole its folder belongs to it"
        with pytest.raises(Refused, match="is being erased"):
            await world.store.write(lambda c: world.groups.restore(c, bob, Aftermath(), 0))
        await world.groups.purge(bob)
        assert await find(world, "bob") is None
        await world.until(lambda: places_of(SECRET, tmp_path) == set(), lambda: str(places_of(SECRET, tmp_path)))
        assert await world.rows("SELECT text FROM inbound") == [(OTHER,)]


async def test_what_another_agent_was_told_stays_its_own_when_the_teller_is_erased(tmp_path: Path) -> None:
    async with open_swarm(tmp_path, "bob") as world:
        family = await world.chat("family")
        world.script.replies("what is the word?", to="bob")
        world.script.replies(OTHER)  # bob answers
        world.script.replies(f"it is {OTHER}")
        await family.says("ask bob")
        await family.hears(f"it is {OTHER}")
        await world.quiet()
        await world.groups.purge(await archive(world, "bob"))
        rows = await world.rows("SELECT i.content, i.from_session_id FROM inbox i WHERE i.content IS NOT NULL")
        assert [(OTHER in content, sender) for content, sender in rows] == [(True, None)]
        assert await world.rows("PRAGMA foreign_key_check") == []


async def test_what_was_asked_about_an_erased_agent_goes_with_it_cards_and_all(tmp_path: Path) -> None:
    async with open_swarm(tmp_path, "bob") as world:
        await tell_both(world)
        bob = await find(world, "bob")
        assert bob is not None

        owner, held = bob.id, json.dumps({"action": "create_agent", "arguments": SECRET, "fence": 1, "seq": 3})

        def ask(connection: sqlite3.Connection) -> None:
            session = connection.execute("SELECT id FROM sessions WHERE agent_group_id = ?", (owner,)).fetchone()["id"]
            chat = world.tables.chats.find(connection, CHANNEL, "family")
            assert chat is not None
            new = NewApproval(ApprovalKind.AGENT_REQUEST, "s", SECRET, SECRET, (), held, 1, owner, session)
            approval = world.tables.approvals.add(connection, new, world.clock.now_ms())
            card = NewDelivery(None, 0, None, None, None, chat.id, None, SECRET, approval=approval.id)
            world.tables.outbox.add(connection, card, world.clock.now_ms())

        await world.store.write(ask)
        bob = await archive(world, "bob")
        assert await world.rows("SELECT state FROM approvals") == [("expired",)], "archiving ends what is open"
        await world.groups.purge(bob)
        assert await world.rows("SELECT id FROM approvals") == []
        await world.until(lambda: places_of(SECRET, tmp_path) == set(), lambda: str(places_of(SECRET, tmp_path)))
        assert await world.rows("PRAGMA foreign_key_check") == []


async def test_only_what_is_archived_and_at_rest_is_erased(tmp_path: Path) -> None:
    async with open_swarm(tmp_path, "bob") as world:
        main, bob = await find(world, "main"), await find(world, "bob")
        assert main is not None and bob is not None
        with pytest.raises(Refused, match="is not archived"):
            await world.groups.purge(bob)
        family = await world.chat("family")
        world.script.replies("a hard one", to="bob")
        world.script.hangs()
        await family.says("ask bob")
        await world.until(lambda: len(world.boxes) == 2 and bool(world.boxes[1].seen))
        await world.change("UPDATE agent_groups SET archived_at = 1 WHERE id = ?", main.id)
        with pytest.raises(Refused, match="still"):
            await world.groups.purge(main)
        await world.change("UPDATE sessions SET run_state = 'over' WHERE agent_group_id = ?", main.id)
        with pytest.raises(Refused, match="still works on something"):
            await world.groups.purge(main)
        assert await find(world, "main") is not None


async def test_a_sandbox_that_has_just_been_ended_is_waited_for(tmp_path: Path) -> None:
    """`ncl groups delete --purge` of an agent at work: put away and erased in one breath."""
    async with open_swarm(tmp_path, "bob") as world:
        await tell_both(world)
        bob, after = await find(world, "bob"), Aftermath()
        assert bob is not None and len(world.live) == 2
        await world.store.write(lambda c: world.groups.archive(c, bob, after, world.clock.now_ms()))
        world.carrier.carry(after)
        put_away = await find(world, "bob")
        assert put_away is not None
        await world.groups.purge(put_away)
        assert await find(world, "bob") is None


async def test_a_number_of_an_erased_agent_is_given_again_and_no_other(tmp_path: Path) -> None:
    async with open_swarm(tmp_path, "bob", "carol") as world:
        await world.groups.purge(await archive(world, "bob"))

        def make(name: str) -> object:
            return lambda connection: world.groups.create(connection, name, 0, Aftermath())

        numbers = [(await world.store.write(make(name))).number for name in ("Dora", "Emil")]  # type: ignore[arg-type]
        assert numbers == [1, 3]
