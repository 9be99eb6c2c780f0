"""`ncl groups config`: how an assistant is set up."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from nanoclaw.admin.call import Call
from nanoclaw.admin.resources.group_limits import change_limits, names_limits, show_limits
from nanoclaw.admin.resources.group_runtime import change_runtime, show_require
from nanoclaw.admin.resources.lists import Action, replace_note
from nanoclaw.admin.resources.parts import Parts, one_row
from nanoclaw.admin.table import Table
from nanoclaw.domain.group import CliScope, ExtraMount, GroupConfig
from nanoclaw.domain.packages import describe
from nanoclaw.errors import Refused
from nanoclaw.flow.aftermath import Aftermath
from nanoclaw.flow.folders import mount_state
from nanoclaw.sandbox.folders import PLACE, decide_name
from nanoclaw.store.left_out import LeftOutMount

ConfigChange = Callable[[GroupConfig], GroupConfig]

MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@\[\]-]{0,99}")
DEFAULT = "default"  # in place of a model or an effort: the provider's own
NEXT_START = "Its sandboxes have it from their next start: ncl groups restart {folder}"
RENEWED = "Each of its sandboxes is begun anew with it, as soon as it has answered what it is at."


class GroupConfigResource:
    """The config of agent groups. `runtimes`: the kinds there are, for what changes one."""

    def __init__(self, parts: Parts, runtimes: Collection[str] = ()) -> None:
        self._parts = parts
        self._runtimes = runtimes

    def reads(self) -> Mapping[str, Action]:
        """Return what shows a config."""
        return {"groups config get": self.get}

    def writes(self) -> Mapping[str, Action]:
        """Return what changes it."""
        return {
            "groups config update": self.update,
        }

    def get(self, connection: sqlite3.Connection, call: Call, after: Aftermath) -> Table:
        """Show one, whole."""
        group = self._parts.find.group(connection, call.asker, call.text("id"), archived=True)
        config = self._parts.tables.groups.config(connection, group.id)
        left_out = self._parts.tables.left_out.list_of(connection, group.id)
        return one_row(
            group=group.name,
            provider=config.provider,
            model=config.model,
            effort=config.effort,
            runtime=config.runtime,
            require=show_require(config),
            cli_scope=config.cli_scope.value,
            skills="all" if config.skills is None else ", ".join(config.skills),
            mcp_servers=", ".join(config.mcp_servers),
            mounts="; ".join(_mount(mount, left_out) for mount in config.additional_mounts),
            packages=describe(config.packages),
            **show_limits(config.limits),
            instructions=config.instructions,
        )

    def update(self, connection: sqlite3.Connection, call: Call, after: Aftermath) -> Table:
        """Change what was named."""
        names = tuple(option.name for option in call.verb.options)
        if not any(call.has(name) for name in names):
            raise Refused(f"What is to change? {', '.join(f'--{name}' for name in names)}")
        model = call.text("model")
        if model and not MODEL.fullmatch(model):
            raise Refused("--model is the name of a model, e.g. claude-sonnet-4-5.")

        def change(config: GroupConfig) -> GroupConfig:
            return replace(
                change_runtime(call, config, self._runtimes),
                provider=call.text("provider") or config.provider,
                model=_chosen(model, config.model),
                effort=_chosen(call.text("effort"), config.effort),
                cli_scope=CliScope(call.text("cli-scope") or config.cli_scope),
                limits=change_limits(call, config.limits),
                instructions=call.text("instructions") if call.has("instructions") else config.instructions,
            )

        changed = [name for name in names if call.has(name)]
        return self.change(connection, call, after, change, ", ".join(changed))

    def change(
        self, connection: sqlite3.Connection, call: Call, after: Aftermath, change: ConfigChange, what: str
    ) -> Table:
        """Change the config of the group a call names, note `what`, and show it."""
        group = self._parts.find.group(connection, call.asker, call.text("id"))
        groups = self._parts.tables.groups
        groups.configure(connection, group.id, change(groups.config(connection, group.id)), call.now)
        after.groups[group.id] = None
        if names_limits(call) or call.has("runtime") or call.has("require"):
            after.renew[group.id] = None
        self._parts.note(connection, call, "group.configured", group.id, what)
        note = RENEWED if group.id in after.renew else NEXT_START.format(folder=group.folder)
        return replace_note(self.get(connection, call, after), note)


def _chosen(wanted: str, present: str | None) -> str | None:
    if not wanted:
        return present
    return None if wanted == DEFAULT else wanted


def _mount(mount: ExtraMount, left_out: list[LeftOutMount]) -> str:
    mode, state = "read-write if its root lets" if mount.writable else "read-only", mount_state(mount, left_out)
    return f"{mount.source} at {PLACE}/{decide_name(mount)} ({mode}{state and f', {state}'})"
