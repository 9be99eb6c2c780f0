"""`ncl groups config update --runtime --require`: what builds an assistant's sandboxes, and what it must give."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Awaitable, Callable, Collection
from dataclasses import replace

from nanoclaw.admin.call import Call
from nanoclaw.admin.resources.parts import Machine, Parts
from nanoclaw.domain.group import GroupConfig, Kernel
from nanoclaw.errors import Refused, SandboxError

NONE, SEPARATE = "none", "separate-kernel"
OCI_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

Read = Callable[[Callable[[sqlite3.Connection], GroupConfig]], Awaitable[GroupConfig]]


def check_runtime(name: str, kinds: Collection[str]) -> str:
    """Return a runtime's name when there is such a kind. Raises Refused: a typo is found before anything is tried."""
    kind, colon, detail = name.partition(":")
    if kind not in kinds or (colon and not OCI_NAME.fullmatch(detail)):
        known = ", ".join(kinds)
        raise Refused(f"There is no runtime {name!r}. There is: {known}; an engine's OCI runtime too: docker:runsc.")
    return name


def change_runtime(call: Call, config: GroupConfig, kinds: Collection[str]) -> GroupConfig:
    """Return a config with the runtime and the demand that a call asks for. Raises Refused."""
    runtime = check_runtime(call.text("runtime"), kinds) if call.has("runtime") else config.runtime
    require = config.require_kernel
    if call.has("require"):
        require = Kernel.SEPARATE if call.text("require") == SEPARATE else None
    return replace(config, runtime=runtime, require_kernel=require)


def show_require(config: GroupConfig) -> str:
    """Return a demand as it is asked for."""
    return SEPARATE if config.require_kernel is Kernel.SEPARATE else NONE


class RuntimeTrial:
    """Tries a runtime that an operator chose before it is written down; a person's yes to an agent's wish is not
    waited for so: there the start says what is missing."""

    def __init__(self, parts: Parts, machine: Machine) -> None:
        self._parts = parts
        self._machine = machine

    async def __call__(self, call: Call, read: Read) -> None:
        """Raise Refused when this machine has not got it, or it is weaker than what is required. Blocks up to 10 s."""
        if not (call.has("runtime") or call.has("require")):
            return
        runtimes = self._machine.runtimes
        wanted = change_runtime(call, await read(lambda connection: self._find(connection, call)), runtimes.names)
        try:
            await runtimes.try_out(wanted)
        except SandboxError as error:
            raise Refused(f"{error} {error.mend}".strip()) from error

    def _find(self, connection: sqlite3.Connection, call: Call) -> GroupConfig:
        group = self._parts.find.group(connection, call.asker, call.text("id"))
        return self._parts.tables.groups.config(connection, group.id)
