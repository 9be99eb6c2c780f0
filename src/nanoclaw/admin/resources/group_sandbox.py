"""`ncl groups sandbox GROUP`: everything that the next box of an assistant would get, from the spec itself."""

from __future__ import annotations

import dataclasses
import sqlite3
from collections.abc import Callable, Iterator, Mapping

from nanoclaw.admin.call import Call
from nanoclaw.admin.resources.lists import Action
from nanoclaw.admin.resources.parts import Parts
from nanoclaw.admin.table import Table
from nanoclaw.errors import Refused
from nanoclaw.flow.aftermath import Aftermath
from nanoclaw.flow.start import Preview
from nanoclaw.store.groups import AgentGroup

COLUMNS = ("what", "name", "value", "mode")
Look = Callable[[sqlite3.Connection, AgentGroup], Preview]
Line = tuple[str, str, str, str]


class GroupSandboxResource:
    """What boxes get. `look`: of a running host; without one nothing knows what a box would get."""

    def __init__(self, parts: Parts, look: Look | None) -> None:
        self._parts = parts
        self._look = look

    def actions(self) -> Mapping[str, Action]:
        """Return what shows it."""
        return {"groups sandbox": self.show}

    def show(self, connection: sqlite3.Connection, call: Call, after: Aftermath) -> Table:
        """Show it; its folders are looked at as at a start. Starts nothing, makes nothing."""
        if self._look is None:
            raise Refused("Only a running host knows what a sandbox would get. Start it: ./nanoclaw.sh up")
        group = self._parts.find.group(connection, call.asker, call.text("id"))
        return Table(COLUMNS, tuple(describe(self._look(connection, group))))


def describe(preview: Preview) -> Iterator[Line]:
    """Yield a line for each thing a box would get."""
    spec = preview.spec
    yield ("runtime", preview.runtime, "", "")
    if spec.image:
        yield ("image", spec.image, "", "")
    yield ("user", "" if spec.host_uid is None else str(spec.host_uid), "", "")
    yield ("command", " ".join(spec.command), spec.workdir, "")
    for mount in spec.mounts:
        yield ("mount", mount.target, str(mount.source), "read-write" if mount.writable else "read-only")
    for left in preview.left_out:
        yield ("left out", left.mount.source, left.why.words, "")
    for path, content in spec.files.items():
        yield ("file", path, f"{len(content)} bytes", "read-only")
    for name, value in spec.env.items():
        yield ("environment", name, value, "")
    for field in dataclasses.fields(spec.limits):
        yield ("limit", field.name, str(getattr(spec.limits, field.name)), "")
    for port in spec.ports:
        yield ("port", f"127.0.0.1:{port}", "the gateway", "")
