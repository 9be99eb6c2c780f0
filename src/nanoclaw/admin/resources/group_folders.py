"""`ncl groups config add-mount|remove-mount`: folders of this machine for an assistant's sandboxes."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import replace

from nanoclaw.admin.call import Call
from nanoclaw.admin.resources.group_config import GroupConfigResource
from nanoclaw.admin.resources.lists import Action, replace_note
from nanoclaw.admin.resources.parts import Machine, Parts
from nanoclaw.admin.table import Table
from nanoclaw.domain.group import ExtraMount, GroupConfig
from nanoclaw.errors import Refused
from nanoclaw.flow.aftermath import Aftermath
from nanoclaw.sandbox.folders import PLACE, Allowed, Forbidden, decide_name
from nanoclaw.sandbox.rights import explain_rights

MOST_MOUNTS = 32


class GroupFoldersResource:
    """The folders of agent groups; a folder is judged when it is added, and again at each start."""

    def __init__(self, parts: Parts, config: GroupConfigResource, machine: Machine) -> None:
        self._parts = parts
        self._config = config
        self._machine = machine

    def actions(self) -> Mapping[str, Action]:
        """Return what changes them."""
        return {"groups config add-mount": self.add_mount, "groups config remove-mount": self.remove_mount}

    def add_mount(self, connection: sqlite3.Connection, call: Call, after: Aftermath) -> Table:
        """Give a folder; refused with the reason, and with the command that allows it. Blocks as its disk does."""
        asked = ExtraMount(call.text("path"), call.flag("read-write"), call.text("name"))
        name = decide_name(asked)
        mount = ExtraMount(asked.source, asked.writable, name)
        group = self._parts.find.group(connection, call.asker, call.text("id"))
        verdict = self._machine.folders.judge(mount.source, write=mount.writable)
        if isinstance(verdict, Forbidden):
            raise Refused(" ".join(filter(None, (verdict.words, verdict.mend and f"To allow it: {verdict.mend}"))))
        try:
            if not name:
                raise Refused("--name is needed here: a-z, 0-9, dot, - and _, beginning with a letter or digit.")
            words = self._describe(verdict, mount, self._machine.box_uid(group.number))
        finally:
            verdict.pin.close()

        def change(config: GroupConfig) -> GroupConfig:
            others = tuple(known for known in config.additional_mounts if known.source != mount.source)
            if any(decide_name(known) == name for known in others):
                raise Refused(f"It has a folder of the name {name} already. Choose another: --name")
            if len(others) >= MOST_MOUNTS:
                raise Refused(f"It has {MOST_MOUNTS} folders already.")
            return replace(config, additional_mounts=(*others, mount))

        after.renew[group.id] = None
        self._parts.tables.left_out.remove(connection, group.id, mount.source)
        return replace_note(self._config.change(connection, call, after, change, f"mount {mount.source}"), words)

    def remove_mount(self, connection: sqlite3.Connection, call: Call, after: Aftermath) -> Table:
        """Take a folder away: by its path, or by its name in the box."""
        wanted = call.text("path")
        group = self._parts.find.group(connection, call.asker, call.text("id"))
        gone: list[ExtraMount] = []

        def change(config: GroupConfig) -> GroupConfig:
            gone.extend(find_mounts(config.additional_mounts, wanted))
            if not gone:
                raise Refused(f"It has no folder {wanted}. `ncl groups config get` shows those it has.")
            return replace(config, additional_mounts=tuple(m for m in config.additional_mounts if m not in gone))

        after.renew[group.id] = None
        table = self._config.change(connection, call, after, change, f"mount {wanted}")
        for mount in gone:
            self._parts.tables.left_out.remove(connection, group.id, mount.source)
        return replace_note(table, "Its next sandbox does not have it; one that is at work ends when it has answered.")

    def _describe(self, allowed: Allowed, mount: ExtraMount, uid: int) -> str:
        mode = "read-write" if allowed.writable else "read-only"
        lines = [f"Its next sandbox has it at {PLACE}/{mount.name}, {mode}."]
        if mount.writable and not allowed.writable:
            lines.append(f"Read-write was asked for, but {allowed.rule.path} is allowed read-only.")
        own = uid if os.geteuid() == 0 else os.geteuid()
        return "\n".join(filter(None, (*lines, explain_rights(allowed.pin, own, write=allowed.writable))))


def find_mounts(mounts: Sequence[ExtraMount], wanted: str) -> list[ExtraMount]:
    """Return those of a path, or of a name."""
    return [mount for mount in mounts if wanted in (mount.source, decide_name(mount))]
