"""2 route: which agents a message is for, and whether it engages them.

In: a chat, its wirings and one incoming message.
Out: a Route for each wiring that engages or accumulates, highest priority first, with the rule that said so.
Writes: nothing; on the operator's own terminal a new chat is made and wired to the default agent group.
Never: infers a mention or a group from a thread id or a session; engages on a pattern that does not compile.
Fails: an unknown chat of any other channel has no route.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from nanoclaw.channels.base import Incoming
from nanoclaw.domain.people import UserId
from nanoclaw.domain.wiring import (
    AgentGroupId,
    EngageMode,
    IgnoredMessagePolicy,
    Patterns,
    Rule,
    WiringId,
    decide_called,
)
from nanoclaw.store.chats import Chat, Wiring
from nanoclaw.store.tables import Tables

TERMINAL = "terminal"
DEFAULT_FOLDER = "main"


@dataclass(frozen=True, slots=True)
class Route:
    """One agent group that gets the message; `trigger` False: as context only."""

    wiring: Wiring
    rule: Rule

    @property
    def trigger(self) -> bool:
        """Whether the message wakes the agent; else it is context only."""
        return self.rule is not Rule.CONTEXT


@dataclass(frozen=True, slots=True)
class Heard:
    """What decides whom a message engages; `is_group` and `is_mention` are the channel's word."""

    text: str
    is_group: bool
    is_mention: bool
    called: frozenset[str] = frozenset()  # the names of wired agents that the text calls
    subscribed: frozenset[WiringId] = frozenset()  # wirings that listen to its thread


def decide_engagement(wiring: Wiring, heard: Heard, patterns: Patterns) -> Rule | None:
    """Decide whether and why a message engages a wiring's agent.

    When the text calls some of the wired agents by name, a mention or a direct chat means those alone.
    """
    if wiring.engage is EngageMode.PATTERN:
        return Rule.PATTERN if patterns.finds(wiring.pattern, heard.text) else None
    if wiring.agent_name in heard.called:
        return Rule.NAME
    if not heard.called and heard.is_mention:
        return Rule.MENTION
    if not heard.called and not heard.is_group:
        return Rule.DIRECT
    if wiring.engage is EngageMode.MENTION_STICKY and wiring.id in heard.subscribed:
        return Rule.STICKY
    return None


def decide_routes(wirings: list[Wiring], heard: Heard, patterns: Patterns) -> list[Route]:
    """Decide who gets the message, in order of priority."""
    routes: list[Route] = []
    for wiring in wirings:
        rule = decide_engagement(wiring, heard, patterns)
        if rule is None and wiring.ignored is IgnoredMessagePolicy.ACCUMULATE:
            rule = Rule.CONTEXT
        if rule is not None:
            routes.append(Route(wiring, rule))
    return routes


def find_routes(
    connection: sqlite3.Connection, tables: Tables, patterns: Patterns, wirings: list[Wiring], incoming: Incoming
) -> list[Route]:
    """Load what the routes of a message need and decide them."""
    listening = [
        wiring.id
        for wiring in wirings
        if wiring.engage is EngageMode.MENTION_STICKY
        and tables.chats.is_subscribed(connection, wiring.id, incoming.thread_id)
    ]
    heard = Heard(
        incoming.text,
        incoming.is_group,
        incoming.is_mention,
        decide_called(incoming.text, [wiring.agent_name for wiring in wirings]),
        frozenset(listening),
    )
    return decide_routes(wirings, heard, patterns)


def find_chat(
    connection: sqlite3.Connection, tables: Tables, channel: str, incoming: Incoming, now: int
) -> Chat | None:
    """Return the chat a message belongs to; None: nobody has connected it to an agent."""
    chat = tables.chats.find(connection, channel, incoming.chat_id)
    if chat is not None or channel != TERMINAL:
        return chat
    group = find_terminal_group(connection, tables, incoming.chat_id)
    if group is None:
        return None
    sender = find_sender(connection, tables, channel, incoming.sender)
    if not tables.people.standing(connection, sender, group).is_known:
        return None
    chat = tables.chats.add(connection, channel, incoming.chat_id, now, is_group=False)
    tables.chats.wire(connection, chat, group, now)
    return chat


def find_terminal_group(connection: sqlite3.Connection, tables: Tables, chat: str) -> AgentGroupId | None:
    """Return whom a new chat of the terminal is for: `FOLDER:anything` (or an id) names the agent, else the default."""
    named, colon, _ = chat.partition(":")
    if colon:
        found = next((g for g in tables.groups.list_all(connection) if named in (g.folder, g.id)), None)
        if found is not None:
            return found.id
    return tables.groups.find_by_folder(connection, DEFAULT_FOLDER)


def find_sender(connection: sqlite3.Connection, tables: Tables, channel: str, handle: str) -> UserId | None:
    """Return the user who wrote, by the handle the platform vouches for."""
    return tables.people.find_by_identity(connection, channel, handle)
