"""Folders of the machine on the path: mounted while they are allowed, left out and said once when they are not."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from nanoclaw.admin.call import OPERATOR, check_request
from nanoclaw.admin.request import Request
from nanoclaw.boxes import make_folders
from nanoclaw.domain.group import ExtraMount
from nanoclaw.flow.aftermath import Aftermath
from nanoclaw.sandbox.folders import Forbidden
from nanoclaw.store.defaults import FOLDER
from tests.flow.world import Chat, Home, World, open_world


@asynccontextmanager
async def open_house(disk_path: Path, *mounts: ExtraMount) -> AsyncIterator[tuple[World, Chat]]:
    """A world beside a folder `srv/docs`, whose only assistant was given `mounts`."""
    home = disk_path / "home"
    for folder in (home / "config", disk_path / "srv" / "docs"):
        folder.mkdir(parents=True, exist_ok=True)
    async with open_world(Home(home)) as world:

        def give(connection: sqlite3.Connection) -> None:
            groups = world.tables.groups
            group = groups.find_by_folder(connection, FOLDER)
            assert group is not None
            config = groups.config(connection, group)
            groups.configure(connection, group, replace(config, additional_mounts=mounts), 0)

        await world.store.write(give)
        yield world, await world.chat("family")


def allow(disk_path: Path, *, writable: bool = False) -> None:
    text = f"[[root]]\npath = '{disk_path / 'srv'}'\nread_write = {'true' if writable else 'false'}\n"
    (disk_path / "home" / "config" / "mounts.toml").write_text(text)


async def ask(world: World, chat: Chat, answer: str) -> list[tuple[str, bool]]:
    """Ask in a new box; return the folders of the machine it got."""
    for run in world.live:
        after = Aftermath()
        after.renew[run.group.id] = None
        world.carrier.carry(after)
    await world.quiet()
    world.script.replies(answer)
    await chat.says(f"say {answer}")
    await world.until(lambda: answer in chat.heard, lambda: f"heard {chat.heard}")
    await world.quiet()
    spec = world.boxes[-1].spec
    return [(mount.target, mount.writable) for mount in spec.mounts if mount.target.startswith("/extra/")]


async def test_a_folder_is_mounted_while_it_is_allowed_and_the_agent_is_told_of_it(disk_path: Path) -> None:
    async with open_house(disk_path, ExtraMount(str(disk_path / "srv" / "docs"), writable=True)) as (world, chat):
        allow(disk_path)
        assert await ask(world, chat, "one") == [("/extra/docs", False)]
        composed = disk_path / "home" / "compose" / FOLDER / "CLAUDE.md"
        assert "`/extra/docs` is a folder of your operator's machine, to read only." in composed.read_text()
        allow(disk_path, writable=True)
        assert await ask(world, chat, "two") == [("/extra/docs", True)]
        assert "you may write there" in composed.read_text()
        assert chat.heard == ["one", "two"]


async def test_a_folder_that_is_not_allowed_any_more_is_left_out_and_said_once(disk_path: Path) -> None:
    async with open_house(disk_path, ExtraMount(str(disk_path / "srv" / "docs"))) as (world, chat):
        allow(disk_path)
        await ask(world, chat, "one")
        (disk_path / "home" / "config" / "mounts.toml").unlink()
        assert await ask(world, chat, "two") == []
        assert await ask(world, chat, "three") == []
        await world.after(1.0)
        said = [text for text in chat.heard if "folder" in text]
        assert said == [
            f"I work without the folder docs: it is not allowed any more. More: ncl groups config get {FOLDER}"
        ]
        (disk_path / "home" / "config" / "mounts.toml").write_text("[[root]\n")
        await ask(world, chat, "four")
        assert any("has a mistake in it" in text for text in chat.heard)
        allow(disk_path)
        assert await ask(world, chat, "five") == [("/extra/docs", False)]
        events = await world.rows("SELECT event, reason FROM audit WHERE event LIKE 'mount.%' ORDER BY rowid")
        assert events == [("mount.left_out", "root"), ("mount.left_out", "allowlist"), ("mount.back", "")]
        assert await world.rows("SELECT * FROM left_out_mounts") == []


async def test_no_start_leaves_a_descriptor_open_whether_its_folders_went_in_or_not(disk_path: Path) -> None:
    docs, gone = ExtraMount(str(disk_path / "srv" / "docs")), ExtraMount("/nowhere/at/all")
    async with open_house(disk_path, docs, gone) as (world, chat):
        allow(disk_path)
        await ask(world, chat, "one")
        held = [
            os.readlink(f"/proc/self/fd/{name}")
            for name in os.listdir("/proc/self/fd")
            if name.isdigit() and int(name) > 2 and os.path.exists(f"/proc/self/fd/{name}")
        ]
        assert not [path for path in held if path.startswith(str(disk_path / "srv"))]
        assert "I work without the folder all: it is not there." in " ".join(chat.heard)


async def test_what_the_next_box_would_get_is_shown_and_is_what_it_gets(disk_path: Path) -> None:
    docs = disk_path / "srv" / "docs"
    async with open_house(disk_path, ExtraMount(str(docs)), ExtraMount("/nowhere")) as (world, chat):
        allow(disk_path)
        call = check_request(Request("groups", "sandbox", FOLDER), OPERATOR, 0)
        shown = await world.store.read(lambda connection: world.desk.run(connection, call, Aftermath()))
        rows = [row[:2] for row in shown.rows]
        assert ("mount", "/extra/docs", str(docs), "read-only") in shown.rows
        assert any(row[:2] == ("left out", "/nowhere") for row in shown.rows)
        assert await ask(world, chat, "one") == [("/extra/docs", False)]
        spec = world.boxes[-1].spec
        assert [name for what, name in rows if what == "mount"] == [mount.target for mount in spec.mounts]
        assert {name for what, name in rows if what == "environment"} == set(spec.env)
        assert ("limit", "memory_bytes", str(spec.limits.memory_bytes), "") in shown.rows


async def test_a_folder_that_holds_the_container_engines_socket_is_never_given(disk_path: Path) -> None:
    async with open_house(disk_path) as (world, _):
        allow(disk_path, writable=True)
        real, link = disk_path / "srv" / "docs" / "engine.sock", disk_path / "srv" / "link.sock"
        link.symlink_to(real)
        for told in (real, link):
            config = replace(world.means.config, settings=replace(world.means.config.settings, engine_socket=str(told)))
            verdict = make_folders(config).judge(str(disk_path / "srv" / "docs"), write=False)
            assert isinstance(verdict, Forbidden)
            assert verdict.reason == "never"
