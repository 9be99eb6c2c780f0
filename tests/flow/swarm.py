"""A world with several agents, each a destination of the others' that are named with it."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from nanoclaw.contract.message import ChatIn, chat_from_json, system_from_json
from nanoclaw.flow.live import LiveRun
from nanoclaw.runner.mailbox import FINISHED
from nanoclaw.store.defaults import FOLDER
from nanoclaw.testing.scripted_box import BoxTurn
from tests.flow.world import Home, World, open_world


@asynccontextmanager
async def open_swarm(home: Home | Path, *specialists: str, crash_at: str = "") -> AsyncIterator[World]:
    """Andy, and specialists he may write to; they know him as `andy` and not each other."""
    async with open_world(home, crash_at=crash_at) as world:
        for name in specialists:
            await introduce(world, FOLDER, await agent(world, name))
        yield world


async def agent(world: World, name: str) -> str:
    """Make an agent group, unless it is there; return its folder."""

    def make(connection: sqlite3.Connection) -> None:
        if world.tables.groups.find_by_folder(connection, name) is None:
            world.tables.groups.add(connection, name.title(), name, world.clock.now_ms())

    await world.store.write(make)
    return name


async def introduce(world: World, first: str, second: str, *, back: bool = True) -> None:
    """Let two agent groups write to each other, by folder; without `back` only the first to the second."""

    def make(connection: sqlite3.Connection) -> None:
        pairs = [(first, second), (second, first)] if back else [(first, second)]
        for one, other in pairs:
            here = world.tables.groups.find_by_folder(connection, one)
            there = world.tables.groups.find_by_folder(connection, other)
            assert here is not None and there is not None
            if not world.tables.chats.find_agent_destination(connection, here, there):
                name = world.tables.groups.get(connection, there).name
                world.tables.chats.add_destination(connection, here, name, ("agent", there), world.clock.now_ms())

    await world.store.write(make)


def ends_with(turn: BoxTurn, *words: tuple[str, str | None]) -> None:
    """Finish a turn with (text, destination) pairs, as the runner does with a final text that has several blocks."""
    turn.write([turn.draft(text, to) for text, to in words], FINISHED)
    turn.box.number += 1


def live_of(world: World, folder: str) -> LiveRun:
    """The only live run of an agent."""
    (run,) = (run for run in world.live if run.group.folder == folder)
    return run


async def told(world: World, folder: str) -> list[ChatIn]:
    """What an agent's boxes were given as chat messages, in order of the boxes."""
    sessions = {row[0] for row in await sessions_of(world, folder)}
    return [
        chat_from_json(row.content)
        for box in world.boxes
        if box.label.session in sessions
        for row in box.seen
        if row.kind == "chat"
    ]


async def notes(world: World, folder: str) -> list[str]:
    """The host's notes queued for an agent, oldest first."""
    rows = await world.rows(
        "SELECT i.content FROM inbox i JOIN sessions s ON s.id = i.session_id JOIN agent_groups g"
        " ON g.id = s.agent_group_id WHERE g.folder = ? AND i.kind = 'system' ORDER BY i.id",
        folder,
    )
    return [system_from_json(content).text for (content,) in rows]


async def sessions_of(world: World, folder: str) -> list[tuple[Any, ...]]:
    """(id, thread) of an agent's sessions."""
    return await world.rows(
        "SELECT s.id, s.thread_id FROM sessions s JOIN agent_groups g ON g.id = s.agent_group_id WHERE g.folder = ?"
        " ORDER BY s.id",
        folder,
    )
