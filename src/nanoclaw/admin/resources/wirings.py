"""`ncl wirings`: which chat wakes which assistant, and when."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from nanoclaw.admin.call import Call
from nanoclaw.admin.resources.lists import Action, replace_note
from nanoclaw.admin.resources.parts import Parts, one_row
from nanoclaw.admin.table import Table
from nanoclaw.domain.wiring import EngageMode, IgnoredMessagePolicy, SenderScope, SessionMode, check_pattern
from nanoclaw.errors import Refused
from nanoclaw.flow.aftermath import Aftermath
from nanoclaw.flow.groups import AgentGroups
from nanoclaw.store.chats import ALWAYS, WiringRules

FIELDS = (
    "engage-mode", "engage-pattern", "session-mode", "sender-scope", "ignored-message-policy", "priority",
)  # fmt: skip


class WiringsResource:
    """Changes of wirings."""

    def __init__(self, parts: Parts, groups: AgentGroups) -> None:
        self._parts = parts
        self._groups = groups

    def actions(self) -> Mapping[str, Action]:
        """Return what carries out each verb."""
        return {"wirings create": self.create, "wirings update": self.update, "wirings delete": self.delete}

    def create(self, connection: sqlite3.Connection, call: Call, after: Aftermath) -> Table:
        """Wire a chat to an agent group, an old one or a new one; the chat becomes a destination of it."""
        chats = self._parts.tables.chats
        chat = chats.get(connection, self._parts.id_of(connection, call, "messaging-groups", "chat"))
        rules = decide_rules(call, WiringRules() if chat.is_group else ALWAYS)
        group = self._group(connection, call, after)
        if any(wiring.agent_group == group for wiring in chats.wirings(connection, chat.id)):
            raise Refused("This chat wakes that assistant already. To change when: ncl wirings update WIRING")
        if chat.denied_at is not None:
            chats.set_denied(connection, chat.id, None)
        wiring = chats.wire(connection, chat, group, call.now, rules)
        after.groups[group] = None
        self._parts.note(connection, call, "wiring.created", wiring, f"{chat.id} -> {group}")
        name = chats.destination_name(connection, group, chat.id)
        return replace_note(self._parts.lists.show(connection, "wirings", wiring), f"It may send there too, as {name}.")

    def update(self, connection: sqlite3.Connection, call: Call, after: Aftermath) -> Table:
        """Change what was named."""
        wiring = self._parts.id_of(connection, call, "wirings", "id")
        changed = [name for name in FIELDS if call.has(name)]
        if not changed:
            raise Refused(f"What is to change? {', '.join(f'--{name}' for name in FIELDS)}")
        shown = self._parts.lists.show(connection, "wirings", wiring)
        row = dict(zip(shown.columns, shown.rows[0], strict=True))
        present = WiringRules(
            engage=EngageMode(str(row["engage_mode"])),
            pattern=None if row["engage_pattern"] is None else str(row["engage_pattern"]),
            session_mode=SessionMode(str(row["session_mode"])),
            sender_scope=SenderScope(str(row["sender_scope"])),
            ignored=IgnoredMessagePolicy(str(row["ignored_message_policy"])),
            priority=int(row["priority"] or 0),
        )
        self._parts.tables.chats.set_rules(connection, wiring, decide_rules(call, present))
        self._parts.note(connection, call, "wiring.changed", wiring, ", ".join(changed))
        return self._parts.lists.show(connection, "wirings", wiring)

    def delete(self, connection: sqlite3.Connection, call: Call, after: Aftermath) -> Table:
        """Remove one, and the destination that came with it."""
        chats = self._parts.tables.chats
        wiring = self._parts.id_of(connection, call, "wirings", "id")
        shown = self._parts.lists.show(connection, "wirings", wiring)
        row = dict(zip(shown.columns, shown.rows[0], strict=True))
        group, chat = str(row["agent_group_id"]), str(row["messaging_group_id"])
        chats.unwire(connection, wiring)
        name = chats.destination_name(connection, group, chat)
        if name and not call.flag("keep-destination"):
            chats.remove_destination(connection, group, name)
        after.groups[group] = None
        self._parts.note(connection, call, "wiring.removed", wiring, f"{chat} -> {group}")
        kept = bool(name) and call.flag("keep-destination")
        note = f"It may still send there, as {name}." if kept else "It may not send there any more."
        return replace_note(one_row(id=wiring, removed=True), note)

    def _group(self, connection: sqlite3.Connection, call: Call, after: Aftermath) -> str:
        if call.has("new-group"):
            if call.has("group"):
                raise Refused("--group and --new-group: one of them.")
            groups = self._groups.acting_for(call.asker.actor)
            return groups.create(connection, call.text("new-group"), call.now, after).id
        if call.has("group"):
            return self._parts.id_of(connection, call, "groups", "group")
        known = self._parts.tables.groups.list_all(connection)
        if len(known) != 1:
            names = ", ".join(group.folder for group in known[:10])
            raise Refused(f"Which assistant? --group, one of: {names}; or --new-group NAME.")
        return known[0].id


def decide_rules(call: Call, present: WiringRules) -> WiringRules:
    """Return a wiring's rules: what was named, else what they are. Raises Refused for a bad pattern."""
    pattern = call.find("engage-pattern")
    engage = EngageMode(call.find("engage-mode") or (EngageMode.PATTERN if pattern else present.engage))
    if pattern is not None and engage is not EngageMode.PATTERN:
        raise Refused("--engage-pattern goes with --engage-mode pattern.")
    if engage is EngageMode.PATTERN:
        pattern = check_pattern(pattern or present.pattern or "")
    return WiringRules(
        engage=engage,
        pattern=pattern,
        session_mode=SessionMode(call.find("session-mode") or present.session_mode),
        sender_scope=SenderScope(call.find("sender-scope") or present.sender_scope),
        ignored=IgnoredMessagePolicy(call.find("ignored-message-policy") or present.ignored),
        priority=call.number("priority", present.priority),
    )
