"""`ncl groups config add-package|remove-package` and `ncl groups builds`: what is installed for an assistant."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from nanoclaw.admin.call import Call
from nanoclaw.admin.resources.lists import Action, replace_note
from nanoclaw.admin.resources.parts import Parts, one_row
from nanoclaw.admin.table import Table
from nanoclaw.admin.verb import CallerKind
from nanoclaw.domain.group import Packages
from nanoclaw.domain.packages import PackageChange, Source, describe, describe_change, parse_packages
from nanoclaw.flow.aftermath import Aftermath
from nanoclaw.flow.builds import BuildOrder, request_build

COLUMNS = ("build", "state", "change", "asked_at", "ended_at", "detail")


class GroupPackagesResource:
    """The packages of agent groups."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def reads(self) -> Mapping[str, Action]:
        """Return what shows builds."""
        return {"groups builds": self.builds}

    def writes(self) -> Mapping[str, Action]:
        """Return what orders them."""
        return {"groups config add-package": self.add, "groups config remove-package": self.remove}

    def builds(self, connection: sqlite3.Connection, call: Call, after: Aftermath) -> Table:
        """List the builds of an assistant's packages, newest first."""
        group = self._parts.find.group(connection, call.asker, call.text("id"), archived=True)
        found = self._parts.tables.builds.list_of(connection, group.id)
        rows = tuple(
            (build.id, build.state.value, describe_change(build.change), build.asked_at, build.ended_at, build.detail)
            for build in found
        )
        return Table(COLUMNS, rows)

    def add(self, connection: sqlite3.Connection, call: Call, after: Aftermath) -> Table:
        """Order packages, beside those it has."""
        return self._order(connection, call, PackageChange(add=_named(call)), after)

    def remove(self, connection: sqlite3.Connection, call: Call, after: Aftermath) -> Table:
        """Order the set without some."""
        return self._order(connection, call, PackageChange(remove=_named(call)), after)

    def _order(self, connection: sqlite3.Connection, call: Call, change: PackageChange, after: Aftermath) -> Table:
        group = self._parts.find.group(connection, call.asker, call.text("id"))
        session = call.asker.session if call.asker.kind is CallerKind.AGENT else None
        order = BuildOrder(group.id, session or None, change, None, call.asker.actor)
        words = request_build(connection, self._parts.tables, order, after, call.now)
        has = describe(self._parts.tables.groups.config(connection, group.id).packages)
        return replace_note(one_row(group=group.name, packages=has), f"{words} ncl groups builds {group.folder}")


def _named(call: Call) -> Packages:
    return parse_packages(*(call.many(source.value) for source in Source))
