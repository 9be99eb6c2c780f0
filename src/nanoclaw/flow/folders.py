"""5b folders: which folders of the machine a box that is being started gets, and what is said of those it does not get.

In: an agent group's config, the session whose box starts.
Out: folders held open for the start (sandbox/folders.py); a note in the chat for each that is newly left out.
Writes: `left_out_mounts`, `outbox`, `audit`; nothing while all is as at the start before.
Never: lets a folder that is not allowed any more stop a run, or go in; says the same twice.
Fails: StoreFull; the caller's run has no start then.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass

from nanoclaw.channels.plain_text import one_line
from nanoclaw.domain.group import ExtraMount, GroupConfig
from nanoclaw.flow.aftermath import Aftermath
from nanoclaw.flow.means import Means
from nanoclaw.flow.tell import tell_chat
from nanoclaw.sandbox.folders import Folders, LeftOut, OpenFolders, decide_name
from nanoclaw.store.audit import Entry
from nanoclaw.store.groups import AgentGroup
from nanoclaw.store.left_out import LeftOutMount

MOST_NAME = 64
WHY = {  # for a chat, which is not told paths of the machine
    "missing": "it is not there",
    "allowlist": "the list of allowed folders has a mistake in it, so none is given",
    "root": "it is not allowed any more",
}


@dataclass(frozen=True, slots=True)
class Changes:
    """What is otherwise than at the start before."""

    new: tuple[LeftOut, ...]
    back: tuple[str, ...]  # by their path: mounted again


def decide_changes(left_out: tuple[LeftOut, ...], known: list[LeftOutMount]) -> Changes:
    """Compare what is left out now with what was; another reason is news."""
    before = {mount.source: mount.reason for mount in known}
    now = {left.mount.source for left in left_out}
    new = tuple(left for left in left_out if before.get(left.mount.source) != left.why.reason)
    return Changes(new, tuple(source for source in before if source not in now))


def decide_words(left: LeftOut, folder: str) -> str:
    """Return what the chat is told."""
    name = decide_name(left.mount) or "without a name"
    why = WHY.get(left.why.reason, "it may not be given to a sandbox")
    return f"I work without the folder {one_line(name, MOST_NAME)}: {why}. More: ncl groups config get {folder}"


class GroupFolders:
    """Opens the folders of groups for their starts."""

    def __init__(self, means: Means, folders: Folders) -> None:
        self._means = means
        self.folders = folders
        self.carry: Callable[[Aftermath], None] = lambda after: None  # set by host.py

    def of(self, config: GroupConfig) -> OpenFolders:
        """Return a group's folders, none of them opened; whoever gets them closes them."""
        return OpenFolders(self.folders, config.additional_mounts)

    async def open(self, group: AgentGroup, session: str, opened: OpenFolders) -> None:
        """Open and judge them, and say what is left out. Raises StoreFull."""
        if not opened.wanted:
            return
        await self._means.blocking(opened.open)
        tables = self._means.tables
        known = await self._means.store.read(lambda connection: tables.left_out.list_of(connection, group.id))
        changes = decide_changes(opened.left_out, known)
        if not changes.new and not changes.back:
            return
        after = Aftermath()
        await self._means.store.write(lambda connection: self._note(connection, group, session, changes, after))
        for left in changes.new:
            self._means.log.warning("mount.left_out", group=group.id, path=left.mount.source, reason=left.why.reason)
        self.carry(after)

    def _note(
        self, connection: sqlite3.Connection, group: AgentGroup, session: str, changes: Changes, after: Aftermath
    ) -> None:
        tables, now = self._means.tables, self._means.clock.now_ms()
        for left in changes.new:
            why, source = left.why, left.mount.source
            tables.left_out.put(connection, group.id, LeftOutMount(source, why.reason, why.words), now)
            words = decide_words(left, group.folder)
            tables.audit.append(connection, Entry(now, "mount.left_out", "host", group.id, "deny", why.reason))
            tell_chat(connection, tables, (session, words), now, after)
        for source in changes.back:
            tables.left_out.remove(connection, group.id, source)
            tables.audit.append(connection, Entry(now, "mount.back", "host", group.id, "allow", ""))


def mount_state(mount: ExtraMount, left_out: list[LeftOutMount]) -> str:
    """Return what the last start found of a folder, '' when it was mounted or there was none yet."""
    return next((f"left out: {known.words}" for known in left_out if known.source == mount.source), "")
