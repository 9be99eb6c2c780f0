"""Erases an archived agent group: its rows in small transactions, then its folders, last its own row.

In: an archived group, none of whose runs is live.
Out: nothing of it but its audit entries; what other agents have heard from it stays theirs.
Writes: every table that holds a session of it; removes groups/<folder> with its image, compose/<folder>,
sessions/<id>, pkgs/<id>.
Never: erases a group that is not archived; forgets the folder before it and the gateway's rules for it are gone, so
that no other group inherits them.
Fails: Refused while something of it is in use; SandboxError, OSError of the disk. Begun, it cannot be restored; run
again it goes on.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable

from nanoclaw.domain.session import RunState
from nanoclaw.errors import Refused
from nanoclaw.flow.means import Means
from nanoclaw.sandbox.disk import Disk, remove_disk
from nanoclaw.sandbox.mounts import remove_tree
from nanoclaw.store.audit import Entry
from nanoclaw.store.groups import AgentGroup
from nanoclaw.store.tables import Tables

BATCH_ROWS = 200  # of one transaction, so that nobody else waits long for the writer

LOOKS, LOOK_SECONDS = 50, 0.1  # for a run to be over

ForgetRules = Callable[[str], Awaitable[None]]
Step = Callable[[sqlite3.Connection, Tables, str], int]


async def purge_group(means: Means, group: AgentGroup, actor: str, forget_rules: ForgetRules) -> None:
    """Erase a group. Raises Refused, OSError."""
    now = means.clock.now_ms()
    await _wait_for_runs(means, group)
    await means.store.write(lambda connection: _begin(connection, means.tables, group, now))
    means.reached("purge.begun")
    for step in (_remove_deliveries, _remove_rows, _remove_sessions):
        while await means.store.write(lambda connection, step=step: step(connection, means.tables, group.id)):
            means.reached("purge.batch")
    await means.blocking(_remove_folders, means, group)
    means.reached("purge.folders_removed")
    await forget_rules(group.folder)
    await means.store.write(lambda connection: _finish(connection, means.tables, group, (actor, now)))
    means.store.request_scrub()
    means.log.info("group.purged", group=group.id)


async def _wait_for_runs(means: Means, group: AgentGroup) -> None:
    """Wait a moment for runs that archiving has just ended; `_begin` refuses when they have not."""
    for _ in range(LOOKS):
        sessions = await means.store.read(lambda connection: means.tables.sessions.list_of_group(connection, group.id))
        if group.archived_at is None or all(session.run_state is RunState.OVER for session in sessions):
            return
        await asyncio.sleep(LOOK_SECONDS)


def _begin(connection: sqlite3.Connection, tables: Tables, group: AgentGroup, now: int) -> None:
    for session in tables.sessions.list_of_group(connection, group.id):
        if session.run_state is not RunState.OVER:
            raise Refused(f"A sandbox of {group.name} is still ending. Try again in a moment.")
    if tables.inbox.awaits_answer(connection, group.id):
        raise Refused(f"Another agent still works on something that {group.name} asked for. Try again later.")
    if not tables.groups.begin_purge(connection, group.id, now):
        raise Refused(f"{group.name} is not archived. Archive it first: ncl groups delete {group.folder}")


def _remove_deliveries(connection: sqlite3.Connection, tables: Tables, group: str) -> int:
    return tables.outbox.remove_of_group(connection, group, BATCH_ROWS)


def _remove_rows(connection: sqlite3.Connection, tables: Tables, group: str) -> int:
    messages = tables.inbox.remove_of_group(connection, group, BATCH_ROWS)
    tables.inbound.remove_unread(connection, messages)
    return len(messages)


def _remove_sessions(connection: sqlite3.Connection, tables: Tables, group: str) -> int:
    tables.inbox.forget_sender(connection, group)
    return tables.sessions.remove_of_group(connection, group, BATCH_ROWS)


def _remove_folders(means: Means, group: AgentGroup) -> None:
    paths = means.config.paths
    remove_disk(Disk(paths.disk(group.id), paths.workspace(group.folder), 0, 0))
    for folder in (
        paths.workspace(group.folder),
        paths.compose(group.folder),
        paths.sessions_of(group.id),
        paths.packages(group.id),
    ):
        remove_tree(folder)


def _finish(connection: sqlite3.Connection, tables: Tables, group: AgentGroup, done: tuple[str, int]) -> None:
    actor, now = done
    tables.chats.forget_agent(connection, group.id)
    if tables.groups.remove(connection, group.id):
        tables.audit.append(connection, Entry(now, "group.purged", actor, group.id, "allow", ""))
