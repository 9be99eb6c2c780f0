"""`ncl groups`: assistants made, renamed, put away, brought back, erased, started anew."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from nanoclaw.admin.call import Call
from nanoclaw.admin.resources.lists import Action, replace_note
from nanoclaw.admin.resources.parts import Parts
from nanoclaw.admin.table import Table
from nanoclaw.admin.verb import CallerKind
from nanoclaw.contract.message import SystemIn
from nanoclaw.domain.names import check_agent_name
from nanoclaw.domain.session import RunEnd, RunState
from nanoclaw.errors import Refused
from nanoclaw.flow.aftermath import Aftermath
from nanoclaw.flow.groups import AgentGroups
from nanoclaw.flow.requests import tell_agent


class GroupsResource:
    """Changes of agent groups; their config is in config.py."""

    def __init__(self, parts: Parts, groups: AgentGroups) -> None:
        self._parts = parts
        self._groups = groups

    def actions(self) -> Mapping[str, Action]:
        """Return what carries out each verb."""
        return {
            "groups create": self.create,
            "groups update": self.update,
            "groups delete": self.delete,
            "groups restore": self.restore,
            "groups restart": self.restart,
        }

    def create(self, connection: sqlite3.Connection, call: Call, after: Aftermath) -> Table:
        """Make one; its workspace follows after the commit."""
        group = self._groups.acting_for(call.asker.actor).create(
            connection,
            call.text("name"),
            call.now,
            after,
            folder=call.find("folder"),
            instructions=call.text("instructions"),
        )
        note = f"No chat wakes it yet: ncl wirings create --group {group.folder} --chat CHAT"
        return replace_note(self._parts.lists.show(connection, "groups", group.id), note)

    def update(self, connection: sqlite3.Connection, call: Call, after: Aftermath) -> Table:
        """Rename one; its folder stays."""
        group = self._parts.find.group(connection, call.asker, call.text("id"))
        self._parts.tables.groups.rename(connection, group.id, check_agent_name(call.text("name")))
        self._parts.note(connection, call, "group.renamed", group.id)
        return self._parts.lists.show(connection, "groups", group.id)

    def delete(self, connection: sqlite3.Connection, call: Call, after: Aftermath) -> Table:
        """Put one away; erasing it follows after the commit (`erase`)."""
        group = self._parts.find.group(connection, call.asker, call.text("id"), archived=call.flag("purge"))
        if group.archived_at is None:
            self._groups.acting_for(call.asker.actor).archive(connection, group, after, call.now)
        shown = self._parts.lists.show(connection, "groups", group.id)
        if call.flag("purge"):
            return replace_note(shown, "It is erased.")
        return replace_note(shown, f"Nothing of it was removed. To bring it back: ncl groups restore {group.folder}")

    async def erase(self, call: Call, table: Table) -> None:
        """Erase what `delete --purge` has put away. Raises Refused, OSError."""
        if not call.flag("purge"):
            return
        tables = self._parts.tables
        erased = str(table.rows[0][0])
        group = await self._groups.means.store.read(lambda connection: tables.groups.find(connection, erased))
        if group is not None:
            await self._groups.acting_for(call.asker.actor).purge(group)

    def restore(self, connection: sqlite3.Connection, call: Call, after: Aftermath) -> Table:
        """Bring one back."""
        group = self._parts.find.group(connection, call.asker, call.text("id"), archived=True)
        self._groups.acting_for(call.asker.actor).restore(connection, group, after, call.now)
        return self._parts.lists.show(connection, "groups", group.id)

    def restart(self, connection: sqlite3.Connection, call: Call, after: Aftermath) -> Table:
        """End live runs; what they held goes on in new ones. An agent without a wider scope ends its own alone."""
        tables = self._parts.tables
        text = call.find("id")
        if text is None and call.asker.kind is CallerKind.OPERATOR:
            raise Refused("Which assistant? ncl groups restart GROUP")
        group = call.asker.agent_group if text is None else self._parts.id_of(connection, call, "groups", "id")
        own_alone = text is None or call.asker.scope == "group"
        ended: list[tuple[str, int]] = []
        for session in tables.sessions.list_live(connection):
            mine = session.agent_group == group and (not own_alone or session.id == call.asker.session)
            if not mine or session.run_state not in (RunState.STARTING, RunState.RUNNING):
                continue
            after.end[session.id] = RunEnd.STOPPED
            after.wake[session.id] = None
            ended.append((session.id, session.fence))
            if call.has("message"):
                note = SystemIn("restart", "done", call.text("message"), call.now)
                tell_agent(connection, tables, session.id, note, trigger=True)
        self._parts.note(connection, call, "group.restarted", group, f"{len(ended)} runs")
        return replace_note(
            Table(("session", "run"), tuple(ended)), "" if ended else "No sandbox of it runs. The next one starts anew."
        )
