"""People of a world: their rights, their direct chats, the operator's terminal."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from nanoclaw.domain.people import Role, UserId
from nanoclaw.store.defaults import FOLDER
from nanoclaw.testing.fakes import OpeningChannel, ScriptedChannel
from tests.flow.world import CHANNEL, Chat, Home, World

TERMINAL = "terminal"
OPENING = "opening"


def home_with_terminal(path: Path) -> Home:
    """A home whose operator reads the terminal's chat `local`, with a platform where the host may write first."""
    return Home(path, others={TERMINAL: ScriptedChannel(TERMINAL), OPENING: OpeningChannel(OPENING)})


def local(world: World) -> Chat:
    """The operator's own chat."""
    return Chat(world, "local", is_group=False, channel=TERMINAL)


def direct(world: World, name: str) -> Chat:
    """A person's direct chat with the bot, on the scripted platform, not connected to anything."""
    return Chat(world, name, is_group=False)


def main_group(connection: sqlite3.Connection, world: World) -> str:
    group = world.tables.groups.find_by_folder(connection, FOLDER)
    assert group is not None
    return group


async def person(
    world: World, handle: str, role: Role | None = None, *, scoped: bool = False, reachable: bool = True
) -> UserId:
    """A user of the scripted platform; `reachable`: their direct chat `<handle>-dm` is known."""

    def make(connection: sqlite3.Connection) -> UserId:
        now = world.clock.now_ms()
        people = world.tables.people
        user = people.add(connection, handle.title(), CHANNEL, handle, now)
        if role is not None:
            people.grant(connection, user, role, now, agent_group=main_group(connection, world) if scoped else None)
        if reachable:
            chat = world.tables.chats.add(connection, CHANNEL, f"{handle}-dm", now, is_group=False)
            people.note_dm(connection, user, CHANNEL, chat.id, now)
        return user

    return await world.store.write(make)


async def states(world: World) -> list[tuple[str, str]]:
    """(kind, state) of every question, in order."""
    return [(kind, state) for kind, state in await world.rows("SELECT kind, state FROM approvals ORDER BY id")]


async def audited(world: World, *events: str) -> list[str]:
    """The audit's events of these names, in order."""
    rows = await world.rows("SELECT event FROM audit ORDER BY n")
    return [event for (event,) in rows if not events or event in events]


def find_text(home: Path, text: str) -> list[str]:
    """Return the files below a home that hold a text."""
    needle = text.encode()
    return [str(path) for path in home.rglob("*") if path.is_file() and needle in path.read_bytes()]
