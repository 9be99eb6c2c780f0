"""`ncl roles` and `ncl members`: who may decide, and whom an assistant knows."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping

from nanoclaw.admin.call import Call
from nanoclaw.admin.resources.lists import Action, replace_note
from nanoclaw.admin.resources.parts import Parts, one_row
from nanoclaw.admin.table import Table
from nanoclaw.domain.people import Role, UserId
from nanoclaw.errors import Refused
from nanoclaw.flow.aftermath import Aftermath


class RightsResource:
    """Changes of roles and members."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def actions(self) -> Mapping[str, Action]:
        """Return what carries out each verb."""
        return {
            "roles grant": self.grant,
            "roles revoke": self.revoke,
            "members add": self.add,
            "members remove": self.remove,
        }

    def grant(self, connection: sqlite3.Connection, call: Call, after: Aftermath) -> Table:
        """Give a role; one that is there already stays the only one."""
        user, role, group = self._role(connection, call)
        given = self._parts.tables.people.grant(connection, user, role, call.now, agent_group=group)
        if given:
            self._parts.note(connection, call, "role.granted", user, _role_words(role, group))
        return replace_note(one_row(user=user, role=role.value, group=group), "" if given else "They have it already.")

    def revoke(self, connection: sqlite3.Connection, call: Call, after: Aftermath) -> Table:
        """Take a role; the last owner stays."""
        people = self._parts.tables.people
        user, role, group = self._role(connection, call)
        if not people.revoke(connection, user, role, group):
            raise Refused("They do not have this role. `ncl roles list` shows who has which.")
        if role is Role.OWNER and people.count_owners(connection) == 0:
            raise Refused("They are the last owner. Make somebody else one first: ncl roles grant USER --role owner")
        self._parts.note(connection, call, "role.revoked", user, _role_words(role, group))
        return one_row(user=user, role=role.value, group=group, removed=True)

    def add(self, connection: sqlite3.Connection, call: Call, after: Aftermath) -> Table:
        """Make a user known to an agent group."""
        user, group = self._member(connection, call)
        added = self._parts.tables.people.add_member(connection, user, group, call.now)
        if added:
            self._parts.note(connection, call, "member.added", user, group)
        return replace_note(one_row(user=user, group=group), "" if added else "It knew them already.")

    def remove(self, connection: sqlite3.Connection, call: Call, after: Aftermath) -> Table:
        """Make a user unknown to an agent group."""
        user, group = self._member(connection, call)
        if not self._parts.tables.people.remove_member(connection, user, group):
            raise Refused("They are no member of it. (Owners and admins are known to it without being one.)")
        self._parts.note(connection, call, "member.removed", user, group)
        return one_row(user=user, group=group, removed=True)

    def _role(self, connection: sqlite3.Connection, call: Call) -> tuple[UserId, Role, str | None]:
        role = Role(call.text("role"))
        if role is Role.OWNER and call.has("group"):
            raise Refused(
                "An owner owns everything: --role owner goes without --group. For one assistant: --role admin"
            )
        user = UserId(self._parts.id_of(connection, call, "users", "user"))
        return user, role, self._parts.id_of(connection, call, "groups", "group") if call.has("group") else None

    def _member(self, connection: sqlite3.Connection, call: Call) -> tuple[UserId, str]:
        user = UserId(self._parts.id_of(connection, call, "users", "user"))
        return user, self._parts.id_of(connection, call, "groups", "group")


def _role_words(role: Role, group: str | None) -> str:
    return role.value if group is None else f"{role.value} of {group}"
