"""The life of agent groups: made, introduced to each other, put away, brought back, erased.

In: what an operator, an approval or an agent asks for; names are checked here.
Out: the group; runs to end, chats to tell, a workspace to make, in the caller's aftermath.
Writes: `agent_groups`, `container_configs`, `agent_destinations`, `inbox` (what waits ends), `outbox`, `audit`.
Never: gives a folder twice, an archived one included; writes below a workspace that is there; erases what is in use.
Fails: Refused with a plain sentence; then nothing of it happened.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, replace

from nanoclaw.domain.names import check_agent_name, check_folder, decide_folder
from nanoclaw.domain.session import RunEnd, RunState
from nanoclaw.errors import Refused
from nanoclaw.flow.aftermath import Aftermath
from nanoclaw.flow.agents import Agents, Letter
from nanoclaw.flow.compose import prepare_workspace
from nanoclaw.flow.means import Means
from nanoclaw.flow.purge import ForgetRules, purge_group
from nanoclaw.store.audit import Entry
from nanoclaw.store.groups import AgentGroup
from nanoclaw.store.outbox import Lane, NewDelivery
from nanoclaw.store.tables import Tables

MOST_GROUPS = 4_000  # each has a uid of its own, and an install has 4,096 (config.py)
PARENT = "parent"  # how an agent that another one made knows its maker
PUT_AWAY = "{name} has been put away and will not answer this any more."


def nothing_open(connection: sqlite3.Connection, group: str, after: Aftermath, now: int) -> None:
    """Expire the approvals of a group: there are none."""


async def no_rules(_: str) -> None:
    """Drop the gateway's rules of a folder: there is no gateway."""


@dataclass(frozen=True, slots=True)
class AgentGroups:
    """Makes, archives and erases agent groups. `actor` is who asked, as the audit names them.

    `forget_rules` drops what the gateway's rules say of a folder; raises Refused.
    """

    means: Means
    expire_approvals: Callable[[sqlite3.Connection, str, Aftermath, int], None] = nothing_open
    actor: str = "host"
    forget_rules: ForgetRules = no_rules

    def acting_for(self, actor: str) -> AgentGroups:
        """Return the same in somebody's name: `operator`, `user:<id>`, `session:<id>`."""
        return replace(self, actor=actor)

    def create(
        self,
        connection: sqlite3.Connection,
        name: str,
        now: int,
        after: Aftermath,
        *,
        folder: str | None = None,
        instructions: str = "",
    ) -> AgentGroup:
        """Make an agent group with its config; its workspace follows after the commit. Raises Refused."""
        tables = self.means.tables
        name = check_agent_name(name)
        taken = {group.folder for group in tables.groups.list_with_archived(connection)}
        if len(taken) >= MOST_GROUPS:
            raise Refused(f"There are {MOST_GROUPS} agents already. Erase one that is archived first.")
        folder = decide_folder(name, taken) if folder is None else check_folder(folder)
        if folder in taken:
            raise Refused(f"The folder {folder} belongs to another agent, perhaps an archived one. Take another name.")
        group = tables.groups.add(connection, name, folder, now, instructions=instructions)
        after.made[group] = None
        self._note(connection, "group.created", group, now)
        return tables.groups.get(connection, group)

    def scaffold(self, group: AgentGroup) -> None:
        """Make a group's workspace if there is none; blocks. A start of its box does the same. Raises OSError."""
        config = self.means.config
        if config.is_root and config.settings.workspace_images:
            return  # its first start makes it, as large as it may be by then
        prepare_workspace(config.paths.workspace(group.folder), config.box_uid(group.number))

    async def scaffold_soon(self, group_id: str) -> None:
        """Make a new group's workspace off the loop; a failure waits for the first start, which tells it."""
        group = await self.means.store.read(lambda connection: self.means.tables.groups.find(connection, group_id))
        if group is None:
            return
        try:
            await self.means.blocking(self.scaffold, group)
        except OSError as error:
            self.means.log.warning("group.scaffold_postponed", group=group_id, error=str(error))

    def introduce(
        self, connection: sqlite3.Connection, first: AgentGroup, second: AgentGroup, now: int, after: Aftermath
    ) -> None:
        """Let two agents write to each other; the second knows the first, who made it, as `parent`."""
        if first.id == second.id:
            raise Refused("An agent needs no introduction to itself.")
        chats = self.means.tables.chats
        if not chats.find_agent_destination(connection, first.id, second.id):
            chats.add_destination(connection, first.id, decide_folder(second.name, ()), ("agent", second.id), now)
        if not chats.find_agent_destination(connection, second.id, first.id):
            chats.add_destination(connection, second.id, PARENT, ("agent", first.id), now)
        after.groups |= {first.id: None, second.id: None}
        self._note(connection, "group.introduced", first.id, now, reason=second.id)

    def archive(self, connection: sqlite3.Connection, group: AgentGroup, after: Aftermath, now: int) -> None:
        """Put a group away: its runs end, what waits for it ends with words, nothing of it is removed."""
        if not self.means.tables.groups.archive(connection, group.id, now):
            raise Refused(f"{group.name} is archived already.")
        self.expire_approvals(connection, group.id, after, now)  # first: it leaves notes, which end below
        for session in self.means.tables.sessions.list_of_group(connection, group.id):
            end_waiting(connection, self.means.tables, (group, session.id), after, now)
            if session.run_state is not RunState.OVER:
                after.end[session.id] = RunEnd.STOPPED
        for other in self.means.tables.chats.list_knowing(connection, group.id):
            after.groups[other] = None
        self._note(connection, "group.archived", group.id, now)

    def restore(self, connection: sqlite3.Connection, group: AgentGroup, after: Aftermath, now: int) -> None:
        """Bring an archived group back, with its wirings, destinations, conversations and files."""
        if not self.means.tables.groups.restore(connection, group.id):
            why = "is being erased" if group.purging_at else "is not archived"
            raise Refused(f"{group.name} {why}.")
        after.groups[group.id] = None
        for other in self.means.tables.chats.list_knowing(connection, group.id):
            after.groups[other] = None
        after.made[group.id] = None
        self._note(connection, "group.restored", group.id, now)

    async def purge(self, group: AgentGroup) -> None:
        """Erase an archived group: rows, then folders, then its name. Run again it goes on. Raises Refused, OSError."""
        await purge_group(self.means, group, self.actor, self.forget_rules)

    def _note(self, connection: sqlite3.Connection, event: str, group: str, now: int, *, reason: str = "") -> None:
        entry = Entry(at=now, event=event, actor=self.actor, subject=group, verdict="allow", reason=reason)
        self.means.tables.audit.append(connection, entry)


def end_waiting(
    connection: sqlite3.Connection, tables: Tables, whose: tuple[AgentGroup, str], after: Aftermath, now: int
) -> None:
    """queued, claimed -> dead for everything that (an archived group's session) had not finished, each with words."""
    group, session = whose
    for place in tables.inbox.bury_all(connection, session, now):
        if place.return_session is not None:
            letter = Letter(session, group.id, "", place, "it has been put away")
            Agents(tables).end_without_answer(connection, letter, after, now)
            continue
        if place.chat is None:
            continue
        words = NewDelivery(
            session=session,
            run=0,
            seq=None,
            turn=None,
            reply_to=place.id,
            chat=place.chat,
            thread=place.thread,
            text=PUT_AWAY.format(name=group.name),
            notice=True,
        )
        tables.outbox.add(connection, words, now)
        after.chats[place.chat] = None
        after.lanes[Lane(session, place.chat, place.thread or "")] = None
