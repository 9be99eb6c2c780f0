"""`ncl messaging-groups`: chats made known, renamed, opened and closed to strangers, forgotten."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from nanoclaw.admin.call import Call
from nanoclaw.admin.resources.lists import Action, replace_note
from nanoclaw.admin.resources.parts import Parts, one_row
from nanoclaw.admin.table import Table
from nanoclaw.domain.wiring import UnknownSenderPolicy
from nanoclaw.errors import Refused
from nanoclaw.flow.aftermath import Aftermath

YES = "yes"
TERMINAL = "terminal"


class MessagingGroupsResource:
    """Changes of chats."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def actions(self) -> Mapping[str, Action]:
        """Return what carries out each verb."""
        return {
            "messaging-groups create": self.create,
            "messaging-groups update": self.update,
            "messaging-groups delete": self.delete,
        }

    def create(self, connection: sqlite3.Connection, call: Call, after: Aftermath) -> Table:
        """Make one known before anybody has written there."""
        chats, channel, platform_id = self._parts.tables.chats, call.text("channel"), call.text("platform-id")
        if chats.find(connection, channel, platform_id) is not None:
            raise Refused(f"The chat {channel}:{platform_id} is known already.")
        policy = UnknownSenderPolicy(call.find("unknown-sender-policy") or UnknownSenderPolicy.STRICT)
        is_group = call.text("is-group") == YES
        chat = chats.add(connection, channel, platform_id, call.now, is_group=is_group, unknown_senders=policy)
        if call.has("name"):
            chats.rename(connection, chat.id, call.text("name"))
        self._parts.note(connection, call, "chat.created", chat.id)
        shown = self._parts.lists.show(connection, "messaging-groups", chat.id)
        return replace_note(shown, f"No assistant listens there yet: ncl wirings create --chat {chat.id}")

    def update(self, connection: sqlite3.Connection, call: Call, after: Aftermath) -> Table:
        """Change what was named."""
        chats, chat = self._parts.tables.chats, self._parts.id_of(connection, call, "messaging-groups", "id")
        changed = [name for name in ("name", "unknown-sender-policy", "denied") if call.has(name)]
        if not changed:
            raise Refused("What is to change? --name, --unknown-sender-policy, --denied")
        if call.has("name"):
            chats.rename(connection, chat, call.text("name"))
        if call.has("unknown-sender-policy"):
            chats.set_policy(connection, chat, UnknownSenderPolicy(call.text("unknown-sender-policy")))
        if call.has("denied"):
            chats.set_denied(connection, chat, call.now if call.text("denied") == YES else None)
        self._parts.note(connection, call, "chat.changed", chat, ", ".join(changed))
        return self._parts.lists.show(connection, "messaging-groups", chat)

    def delete(self, connection: sqlite3.Connection, call: Call, after: Aftermath) -> Table:
        """Unwire it, take back who may send there, and remove its row unless messages of it are kept."""
        chat = self._parts.id_of(connection, call, "messaging-groups", "id")
        if self._parts.tables.chats.get(connection, chat).channel_type == TERMINAL:
            raise Refused("The terminal's chats come back by themselves. To unwire one: ncl wirings delete WIRING")
        gone, senders = self._parts.tables.chats.remove(connection, chat)
        for group in senders:
            after.groups[group] = None
        self._parts.note(connection, call, "chat.removed", chat, "" if gone else "its messages are kept")
        note = "" if gone else "Nothing listens there any more. Its bare row is kept with the messages of it."
        return replace_note(one_row(id=chat, removed=gone), note)
