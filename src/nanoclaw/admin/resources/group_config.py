"""`ncl groups config`: how an assistant is set up."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath

from nanoclaw.admin.call import Call
from nanoclaw.admin.resources.group_limits import change_limits, names_limits, show_limits
from nanoclaw.admin.resources.lists import Action, replace_note
from nanoclaw.admin.resources.parts import Parts, one_row
from nanoclaw.admin.table import Table
from nanoclaw.domain.group import CliScope, ExtraMount, GroupConfig
from nanoclaw.domain.packages import describe
from nanoclaw.errors import Refused
from nanoclaw.flow.aftermath import Aftermath

ConfigChange = Callable[[GroupConfig], GroupConfig]

RUNTIMES = ("bubblewrap",)
MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@\[\]-]{0,99}")
DEFAULT = "default"  # in place of a model or an effort: the provider's own
MOST_MOUNTS = 32
NEXT_START = "Its sandboxes have it from their next start: ncl groups restart {folder}"
NO_FOLDERS = (
    "sandboxes see no folder of this machine yet. That comes with the allowlist of folders that may be mounted."
)
MOUNT_NOTED = f"Noted, but NOT mounted: {NO_FOLDERS}"
MOUNT_FORGOTTEN = f"Forgotten. It was not mounted: {NO_FOLDERS}"


class GroupConfigResource:
    """The config of agent groups."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def reads(self) -> Mapping[str, Action]:
        """Return what shows a config."""
        return {"groups config get": self.get}

    def writes(self) -> Mapping[str, Action]:
        """Return what changes it."""
        return {
            "groups config update": self.update,
            "groups config add-mount": self.add_mount,
            "groups config remove-mount": self.remove_mount,
        }

    def get(self, connection: sqlite3.Connection, call: Call, after: Aftermath) -> Table:
        """Show one, whole."""
        group = self._parts.find.group(connection, call.asker, call.text("id"), archived=True)
        config = self._parts.tables.groups.config(connection, group.id)
        return one_row(
            group=group.name,
            provider=config.provider,
            model=config.model,
            effort=config.effort,
            runtime=config.runtime,
            cli_scope=config.cli_scope.value,
            skills="all" if config.skills is None else ", ".join(config.skills),
            mcp_servers=", ".join(config.mcp_servers),
            mounts=", ".join(_mount(mount) for mount in config.additional_mounts),
            packages=describe(config.packages),
            **show_limits(config.limits),
            instructions=config.instructions,
        )

    def update(self, connection: sqlite3.Connection, call: Call, after: Aftermath) -> Table:
        """Change what was named."""
        names = tuple(option.name for option in call.verb.options)
        if not any(call.has(name) for name in names):
            raise Refused(f"What is to change? {', '.join(f'--{name}' for name in names)}")
        if call.has("runtime") and call.text("runtime") not in RUNTIMES:
            raise Refused(f"There is no runtime {call.text('runtime')!r} here. There is: {', '.join(RUNTIMES)}.")
        model = call.text("model")
        if model and not MODEL.fullmatch(model):
            raise Refused("--model is the name of a model, e.g. claude-sonnet-4-5.")

        def change(config: GroupConfig) -> GroupConfig:
            return replace(
                config,
                provider=call.text("provider") or config.provider,
                model=_chosen(model, config.model),
                effort=_chosen(call.text("effort"), config.effort),
                runtime=call.text("runtime") or config.runtime,
                cli_scope=CliScope(call.text("cli-scope") or config.cli_scope),
                limits=change_limits(call, config.limits),
                instructions=call.text("instructions") if call.has("instructions") else config.instructions,
            )

        changed = [name for name in names if call.has(name)]
        return self._change(connection, call, after, change, ", ".join(changed))

    def add_mount(self, connection: sqlite3.Connection, call: Call, after: Aftermath) -> Table:
        """Note a folder of this machine; nothing is mounted."""
        path = _parse_path(call.text("path"))
        if not Path(path).is_dir():
            raise Refused(f"There is no folder {path} on this machine.")
        mount = ExtraMount(path, call.flag("read-write"))

        def change(config: GroupConfig) -> GroupConfig:
            others = tuple(known for known in config.additional_mounts if known.source != path)
            if len(others) >= MOST_MOUNTS:
                raise Refused(f"It has {MOST_MOUNTS} folders already.")
            return replace(config, additional_mounts=(*others, mount))

        return replace_note(self._change(connection, call, after, change, "mount"), MOUNT_NOTED)

    def remove_mount(self, connection: sqlite3.Connection, call: Call, after: Aftermath) -> Table:
        """Forget one; it was never mounted."""
        path = _parse_path(call.text("path"))

        def change(config: GroupConfig) -> GroupConfig:
            left = tuple(known for known in config.additional_mounts if known.source != path)
            if len(left) == len(config.additional_mounts):
                raise Refused(f"It has no folder {path}. `ncl groups config get` shows those it has.")
            return replace(config, additional_mounts=left)

        return replace_note(self._change(connection, call, after, change, "mount"), MOUNT_FORGOTTEN)

    def _change(
        self, connection: sqlite3.Connection, call: Call, after: Aftermath, change: ConfigChange, what: str
    ) -> Table:
        group = self._parts.find.group(connection, call.asker, call.text("id"))
        groups = self._parts.tables.groups
        groups.configure(connection, group.id, change(groups.config(connection, group.id)), call.now)
        after.groups[group.id] = None
        if names_limits(call):
            after.renew[group.id] = None
        self._parts.note(connection, call, "group.configured", group.id, what)
        return replace_note(self.get(connection, call, after), NEXT_START.format(folder=group.folder))


def _chosen(wanted: str, present: str | None) -> str | None:
    if not wanted:
        return present
    return None if wanted == DEFAULT else wanted


def _parse_path(text: str) -> str:
    path = PurePosixPath(text)
    if not path.is_absolute() or ".." in path.parts:
        raise Refused("--path is absolute and has no `..` in it, e.g. /srv/documents.")
    return str(path)


def _mount(mount: ExtraMount) -> str:
    return f"{mount.source} ({'read-write' if mount.writable else 'read-only'}, not mounted yet)"
