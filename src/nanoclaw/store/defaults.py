"""What a new home begins with: the operator as owner, the agent group `main`, the terminal's chat wired to it."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from nanoclaw.domain.people import Role
from nanoclaw.store.tables import Tables

FOLDER = "main"
NAME = "Andy"
CHANNEL = "terminal"
CHAT = "local"


@dataclass(frozen=True, slots=True)
class Operator:
    """Who runs the host: the handle the operating system vouches for, and a name to call them."""

    handle: str
    name: str


def make_defaults(connection: sqlite3.Connection, tables: Tables, operator: Operator, now: int) -> None:
    """Make what is missing; safe to run at every start. A changed name of the operator is taken over."""
    user = tables.people.find_by_identity(connection, CHANNEL, operator.handle)
    if user is None:
        user = tables.people.add(connection, operator.name, CHANNEL, operator.handle, now)
        if tables.people.find_owner(connection) is None:
            tables.people.grant(connection, user, Role.OWNER, now)
    else:
        tables.people.rename(connection, user, operator.name)
    group = tables.groups.find_by_folder(connection, FOLDER)
    if group is None:
        group = tables.groups.add(connection, NAME, FOLDER, now)
    if tables.chats.find(connection, CHANNEL, CHAT) is None:
        chat = tables.chats.add(connection, CHANNEL, CHAT, now, is_group=False)
        tables.chats.wire(connection, chat, group, now)
