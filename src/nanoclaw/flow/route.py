"""2 route: which agents a message is for, and whether it engages them.

In: a chat, its wirings and one incoming message.
Out: a Route for each wiring that engages or accumulates.
Writes: nothing; on the operator's own terminal a new chat is made and wired to the default agent group.
Never: infers a mention or a group from a text or a thread id; engages on a pattern that does not compile.
Fails: an unknown chat of any other channel has no route.
"""

from __future__ import annotations

import re
import sqlite3
from dataclasses import dataclass

from nanoclaw.channels.base import Incoming
from nanoclaw.domain.people import UserId
from nanoclaw.domain.wiring import EngageMode, IgnoredMessagePolicy
from nanoclaw.store.chats import Chat, Wiring
from nanoclaw.store.tables import Tables

TERMINAL = "terminal"
DEFAULT_FOLDER = "main"


@dataclass(frozen=True, slots=True)
class Route:
    """One agent group that gets the message; `trigger` False: as context only."""

    wiring: Wiring
    trigger: bool


def decide_engagement(wiring: Wiring, incoming: Incoming) -> bool:
    """Decide whether a message engages a wiring's agent. A direct chat counts as a mention."""
    match wiring.engage:
        case EngageMode.PATTERN:
            return _matches(wiring.pattern or "", incoming.text)
        case EngageMode.MENTION | EngageMode.MENTION_STICKY:
            return incoming.is_mention or not incoming.is_group


def decide_routes(wirings: list[Wiring], incoming: Incoming) -> list[Route]:
    """Decide who gets the message, in order of priority."""
    routes: list[Route] = []
    for wiring in wirings:
        if decide_engagement(wiring, incoming):
            routes.append(Route(wiring, trigger=True))
        elif wiring.ignored is IgnoredMessagePolicy.ACCUMULATE:
            routes.append(Route(wiring, trigger=False))
    return routes


def find_chat(
    connection: sqlite3.Connection, tables: Tables, channel: str, incoming: Incoming, now: int
) -> Chat | None:
    """Return the chat a message belongs to; None: nobody has connected it to an agent."""
    chat = tables.chats.find(connection, channel, incoming.chat_id)
    if chat is not None or channel != TERMINAL:
        return chat
    group = tables.groups.find_by_folder(connection, DEFAULT_FOLDER)
    if group is None:
        return None
    sender = find_sender(connection, tables, channel, incoming)
    if not tables.people.standing(connection, sender, group).is_known:
        return None
    chat = tables.chats.add(connection, channel, incoming.chat_id, now, is_group=False)
    tables.chats.wire(connection, chat, group, now)
    return chat


def find_sender(connection: sqlite3.Connection, tables: Tables, channel: str, incoming: Incoming) -> UserId | None:
    """Return the user who wrote a message, by the handle the platform vouches for."""
    return tables.people.find_by_identity(connection, channel, incoming.sender)


def _matches(pattern: str, text: str) -> bool:
    if pattern == ".":
        return True
    try:
        return re.search(pattern, text) is not None
    except re.error:
        return False
