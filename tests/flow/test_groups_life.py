"""The life of an agent: made with a folder of its own, put away with everything kept, brought back."""

from __future__ import annotations

import hashlib
import sqlite3
import threading
from pathlib import Path

import pytest

from nanoclaw.domain.group import BoxLimits, CliScope, ExtraMount, GroupConfig, McpServer
from nanoclaw.domain.session import RunEnd
from nanoclaw.errors import Refused
from nanoclaw.flow.aftermath import Aftermath
from nanoclaw.flow.compose import MEMORY_FILE, prepare_workspace
from nanoclaw.flow.groups import MOST_GROUPS, PARENT
from nanoclaw.store.groups import AgentGroup
from nanoclaw.testing.scripted_box import BoxTurn
from tests.flow.swarm import notes, open_swarm
from tests.flow.world import CHANNEL, Home, World, open_world


async def create(world: World, name: str, **more: str) -> AgentGroup:
    """Make an agent as an operator does."""
    after = Aftermath()
    groups = world.groups.acting_for("operator")
    group = await world.store.write(lambda c: groups.create(c, name, world.clock.now_ms(), after, **more))
    world.carrier.carry(after)
    await world.quiet()
    return group


async def find(world: World, text: str) -> AgentGroup:
    (group,) = await world.store.read(lambda c: world.tables.groups.search(c, text, archived=True))
    return group


async def archive(world: World, text: str) -> None:
    group, after = await find(world, text), Aftermath()
    await world.store.write(lambda c: world.groups.archive(c, group, after, world.clock.now_ms()))
    world.carrier.carry(after)


async def restore(world: World, text: str) -> None:
    group, after = await find(world, text), Aftermath()
    await world.store.write(lambda c: world.groups.restore(c, group, after, world.clock.now_ms()))
    world.carrier.carry(after)


async def audited(world: World, event: str) -> list[tuple[object, ...]]:
    return await world.rows("SELECT actor, subject, verdict, reason FROM audit WHERE event = ?", event)


def files_below(folder: Path) -> dict[str, str]:
    """Every file's path and the hash of its content."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


# -- made ---------------------------------------------------------------------------------------------------------


async def test_a_new_agent_has_a_folder_a_memory_and_a_config_of_its_own(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        group = await create(world, "Zoë 🤖", instructions="You water plants.")
        assert (group.name, group.folder, group.instructions) == ("Zoë 🤖", "zoe", "You water plants.")
        assert (tmp_path / "groups" / "zoe" / MEMORY_FILE).read_text() == "# Memory\n"
        config = await world.store.read(lambda c: world.tables.groups.config(c, group.id))
        assert config == GroupConfig(instructions="You water plants.")
        assert await audited(world, "group.created") == [("operator", group.id, "allow", "")]
        assert group.number == 1, "the second of this home, so that its boxes have another uid than the first's"


async def test_two_agents_of_one_name_have_two_folders_and_a_folder_is_never_given_twice(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        await create(world, "Bob")
        assert (await create(world, "bob")).folder == "bob-2"
        await archive(world, "bob-2")
        with pytest.raises(Refused, match="belongs to another agent"):
            await create(world, "Robert", folder="bob-2")
        assert (await create(world, "Bob")).folder == "bob-3"


@pytest.mark.parametrize("name", ["", " ", "a\nb", "a\0b", "x" * 10_000, "...", "\u202eevil"])
async def test_a_bad_name_makes_nothing(tmp_path: Path, name: str) -> None:
    async with open_world(tmp_path) as world:
        with pytest.raises(Refused):
            await create(world, name)
        assert len(await world.rows("SELECT id FROM agent_groups")) == 1
        assert await audited(world, "group.created") == []


@pytest.mark.parametrize("folder", ["..", "../main", "/tmp/x", "a/b", "global", "", "A B", "🤖", "x\0"])
async def test_a_bad_folder_makes_nothing(tmp_path: Path, folder: str) -> None:
    async with open_world(tmp_path) as world:
        with pytest.raises(Refused):
            await create(world, "Bob", folder=folder)
        assert len(await world.rows("SELECT id FROM agent_groups")) == 1


@pytest.mark.parametrize("name", ["../../etc/passwd", "a/b", "🤖", "..a"])
async def test_no_name_leads_out_of_the_folder_of_groups(tmp_path: Path, name: str) -> None:
    async with open_world(tmp_path) as world:
        group = await create(world, name)
        assert group.name == name
        assert (tmp_path / "groups" / group.folder).resolve().parent == (tmp_path / "groups").resolve()
        assert {path.name for path in tmp_path.iterdir()} == {"data", "groups", "compose", "sessions"}


async def test_there_is_an_end_to_how_many_agents_a_home_has(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:

        def fill(connection: sqlite3.Connection) -> None:
            for number in range(1, MOST_GROUPS):
                connection.execute("INSERT INTO agent_groups (id, name, folder, box_uid, created_at)"
                                   " VALUES (?, 'x', ?, ?, 0)", (f"g{number}", f"f{number}", number))  # fmt: skip
                connection.execute("INSERT INTO container_configs (agent_group_id, updated_at) VALUES (?, 0)",
                                   (f"g{number}",))  # fmt: skip

        await world.store.write(fill)
        with pytest.raises(Refused, match=f"{MOST_GROUPS} agents"):
            await create(world, "One more")


async def test_a_host_that_dies_before_the_workspace_is_made_makes_it_at_the_first_start(tmp_path: Path) -> None:
    home = Home(tmp_path)
    async with open_world(home) as world:
        await world.store.write(lambda c: world.groups.create(c, "Bob", 0, Aftermath()))
    assert not (tmp_path / "groups" / "bob").exists()
    async with open_world(home) as world:
        bob = await find(world, "bob")
        chat = await world.chat("garden")
        await world.change("UPDATE messaging_group_agents SET agent_group_id = ? WHERE messaging_group_id ="
                           " (SELECT id FROM messaging_groups WHERE platform_id = 'garden')", bob.id)  # fmt: skip
        await chat.says("hi")
        await chat.hears("you said: hi")
    assert (tmp_path / "groups" / "bob" / MEMORY_FILE).exists()


def test_a_workspace_that_is_wanted_twice_at_once_is_made_once_and_never_written_again(tmp_path: Path) -> None:
    workspace, failures = tmp_path / "bob", list[BaseException]()

    def make() -> None:
        try:
            prepare_workspace(workspace, workspace.parent.stat().st_uid)
        except BaseException as error:
            failures.append(error)

    for _ in range(20):
        threads = [threading.Thread(target=make) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == [] and [path.name for path in tmp_path.iterdir()] == ["bob"]
        (workspace / MEMORY_FILE).write_text("what it learned")
        make()
        assert (workspace / MEMORY_FILE).read_text() == "what it learned"
        (workspace / MEMORY_FILE).unlink()
        workspace.rmdir()


async def test_the_whole_config_of_an_agent_comes_back_as_it_was_written(tmp_path: Path) -> None:
    config = GroupConfig(
        provider="echo",
        model="m",
        effort="high",
        max_messages_per_prompt=3,
        skills=("a", "b"),
        mcp_servers={"x": McpServer("node", ("server.js",), {"A": "1"})},
        additional_mounts=(ExtraMount("/srv/photos"), ExtraMount("/srv/notes", writable=True)),
        limits=BoxLimits(memory_mb=512),
        instructions="Speak plainly.",
        cli_scope=CliScope.DISABLED,
    )
    async with open_world(tmp_path) as world:
        group = await create(world, "Bob")
        for wanted in (config, GroupConfig()):
            await world.store.write(lambda c, wanted=wanted: world.tables.groups.configure(c, group.id, wanted, 1))
            assert await world.store.read(lambda c: world.tables.groups.config(c, group.id)) == wanted


async def test_an_agent_is_found_by_id_folder_name_and_the_beginning_of_its_id_the_exact_first(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        bob = await create(world, "Bob")
        other = await create(world, "BOB")

        async def search(text: str) -> list[str]:
            return [group.id for group in await world.store.read(lambda c: world.tables.groups.search(c, text))]

        assert await search(bob.id) == await search(bob.id.lower()) == [bob.id]
        assert await search("bob-2") == [other.id]
        assert await search("Bob") == [bob.id, other.id], "a name of two is ambiguous, and says so"
        assert await search("bob") == [bob.id], "a folder as it is spelt is one agent's alone"
        assert await search(other.id[:-1]) == [other.id]
        assert await search("") == await search("nobody") == await search("..") == await search("%") == []
        await archive(world, other.id)
        assert await search("bob") == [bob.id]


# -- introduced ---------------------------------------------------------------------------------------------------


async def test_an_introduced_child_knows_its_maker_as_parent_and_the_maker_knows_it_by_name(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        main, child, after = await find(world, "main"), await create(world, "Plant Care 🌱"), Aftermath()
        for _ in range(2):
            await world.store.write(lambda c: world.groups.introduce(c, main, child, 0, after))
        places = await world.rows("SELECT agent_group_id, local_name, target_id FROM agent_destinations"
                                  " WHERE target_type = 'agent' ORDER BY local_name")  # fmt: skip
        assert places == [(child.id, PARENT, main.id), (main.id, "plant-care", child.id)]
        assert set(after.groups) == {main.id, child.id}
        with pytest.raises(Refused):
            await world.store.write(lambda c: world.groups.introduce(c, main, main, 0, after))


# -- put away and brought back ------------------------------------------------------------------------------------


async def test_archiving_keeps_every_file_and_row_and_answers_nothing_more(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        chat = await world.chat()
        await chat.says("remember blue")
        await chat.hears("you said: remember blue")
        (tmp_path / "groups" / "main" / "notes.txt").write_text("blue")
        kept = files_below(tmp_path / "groups")
        await archive(world, "main")
        await world.quiet()
        assert len(world.live) == 0, "its box is ended"
        accepted = await chat.says("and now?")
        await world.after(60)
        assert accepted.refused, "nobody answers there any more, so it is asked who will"
        assert [words for words in chat.heard if "you said" in words] == ["you said: remember blue"]
        assert files_below(tmp_path / "groups") == kept
        counts = await world.rows(
            "SELECT (SELECT count(*) FROM messaging_group_agents w JOIN messaging_groups m"
            " ON m.id = w.messaging_group_id WHERE m.channel_type = ?),"
            " (SELECT count(*) FROM inbound), (SELECT count(*) FROM sessions)",
            CHANNEL,
        )
        assert counts == [(1, 1, 1)]


async def test_what_waits_for_an_archived_agent_ends_with_words_and_so_does_what_it_works_on(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        chat = await world.chat()
        world.script.hangs()
        await chat.says("work")
        await world.until(lambda: bool(world.boxes and world.boxes[0].seen))
        await chat.says("wait")
        await archive(world, "main")
        words = "Andy has been put away and will not answer this any more."
        await chat.hears(words, words)
        await world.quiet()
        assert [row[1:3] for row in await world.outcomes()] == [("dead", "failed"), ("dead", "failed")]
        assert len(world.live) == 0 and len(world.boxes) == 1


async def test_a_restored_agent_goes_on_where_it_was(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        chat = await world.chat()
        await chat.says("one")
        await chat.hears("you said: one")
        await archive(world, "main")
        await world.quiet()
        await restore(world, "main")
        await chat.says("two")
        await chat.hears("you said: one", "you said: two")
        assert len(await world.rows("SELECT id FROM sessions")) == 1
        for doing, words in ((restore, "is not archived"), (archive, "")):
            if words:
                with pytest.raises(Refused, match=words):
                    await doing(world, "main")
        await archive(world, "main")
        with pytest.raises(Refused, match="archived already"):
            await archive(world, "main")


async def test_whoever_waits_for_an_archived_agents_answer_is_told(tmp_path: Path) -> None:
    async with open_swarm(tmp_path, "bob") as world:
        chat = await world.chat()
        world.script.replies("look this up", to="bob")
        world.script.hangs()
        await chat.says("ask bob")
        await world.until(lambda: len(world.boxes) == 2 and bool(world.boxes[1].seen))
        world.script.replies("bob is gone")
        await archive(world, "bob")
        await chat.hears("bob is gone")
        assert await notes(world, "main") == ["bob ended without an answer: it has been put away"]


async def test_an_archived_agent_is_nobodys_destination_until_it_is_back(tmp_path: Path) -> None:
    async with open_swarm(tmp_path, "bob") as world:
        chat = await world.chat()
        await archive(world, "bob")

        async def tries(turn: BoxTurn) -> None:
            turn.finish("hello bob", to="bob")

        world.script.then(tries)
        await chat.says("ask bob")
        await world.quiet()
        assert any("not sent" in note for note in await notes(world, "main"))
        assert await world.rows("SELECT count(*) FROM sessions s JOIN agent_groups g ON g.id = s.agent_group_id"
                                " WHERE g.folder = 'bob'") == [(0,)]  # fmt: skip
        await restore(world, "bob")
        world.script.replies("hello again", to="bob")
        await chat.says("ask bob again")
        await world.until(lambda: len(world.boxes) > 1)


async def test_a_row_that_reaches_an_archived_agent_all_the_same_starts_no_box_and_ends(tmp_path: Path) -> None:
    """Written in the moment of archiving, or by a version that did not look."""
    async with open_world(tmp_path) as world:
        chat = await world.chat()
        world.script.hangs()
        await chat.says("hi")
        await world.until(lambda: len(world.live) == 1)
        await world.change("UPDATE agent_groups SET archived_at = 1")
        world.runs.end_soon(world.run, RunEnd.STOPPED, "")
        await world.until(lambda: len(world.live) == 0)
        await world.quiet()
        await world.after(1)  # the sweep sends what a start has said
        await chat.hears("Andy has been put away and will not answer this any more.")
        await world.quiet()
        assert len(world.live) == 0 and len(world.boxes) == 1
        assert [row[1:3] for row in await world.outcomes()] == [("dead", "failed")]
