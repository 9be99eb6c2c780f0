"""`ncl destinations`: where assistants may send."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from nanoclaw.admin.call import Call
from nanoclaw.admin.resources.lists import Action
from nanoclaw.admin.resources.parts import Parts, one_row
from nanoclaw.admin.table import Table
from nanoclaw.errors import Refused
from nanoclaw.flow.aftermath import Aftermath
from nanoclaw.store.chats import decide_local_name

MOST_DESTINATIONS = 500  # of one assistant


class DestinationsResource:
    """Changes of destinations."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def actions(self) -> Mapping[str, Action]:
        """Return what carries out each verb."""
        return {"destinations add": self.add, "destinations remove": self.remove}

    def add(self, connection: sqlite3.Connection, call: Call, after: Aftermath) -> Table:
        """Let an agent group send to a chat or to another agent group."""
        chats = self._parts.tables.chats
        group = self._parts.id_of(connection, call, "groups", "group")
        kind, target, label = self._target(connection, call)
        if target == group:
            raise Refused("An assistant cannot be its own destination.")
        if call.has("name") and decide_local_name(call.text("name")) != call.text("name"):
            raise Refused("--name is 1 to 64 of a-z, 0-9 and dashes between them.")
        if call.has("name") and chats.find_destination(connection, group, call.text("name")) is not None:
            raise Refused(f"It has a destination called {call.text('name')} already.")
        known = (
            chats.destination_name(connection, group, target)
            if kind == "channel"
            else chats.find_agent_destination(connection, group, target)
        )
        if known:
            raise Refused(f"It may send there already, as {known}.")
        if len(chats.destinations(connection, group)) >= MOST_DESTINATIONS:
            raise Refused(f"It has {MOST_DESTINATIONS} destinations already.")
        name = chats.add_destination(connection, group, call.find("name") or label, (kind, target), call.now)
        after.groups[group] = None
        self._parts.note(connection, call, "destination.added", group, f"{name}: {kind} {target}")
        return one_row(group=group, name=name, kind=kind, target_id=target)

    def remove(self, connection: sqlite3.Connection, call: Call, after: Aftermath) -> Table:
        """Take it back."""
        group = self._parts.id_of(connection, call, "groups", "group")
        name = call.text("name")
        if not self._parts.tables.chats.remove_destination(connection, group, name):
            raise Refused(f"It has no destination {name!r}. `ncl destinations list` shows those it has.")
        after.groups[group] = None
        self._parts.note(connection, call, "destination.removed", group, name)
        return one_row(group=group, name=name, removed=True)

    def _target(self, connection: sqlite3.Connection, call: Call) -> tuple[str, str, str]:
        if call.has("to-chat") == call.has("to-group"):
            raise Refused("Where to? --to-chat or --to-group, one of them.")
        if call.has("to-group"):
            group = self._parts.find.group(connection, call.asker, call.text("to-group"))
            return "agent", group.id, group.name
        chat = self._parts.tables.chats.get(
            connection, self._parts.id_of(connection, call, "messaging-groups", "to-chat")
        )
        return "channel", chat.id, chat.name or chat.platform_id
