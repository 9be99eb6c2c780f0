"""`ncl users`: people and their identities on the channels."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from nanoclaw.admin.call import Call
from nanoclaw.admin.resources.lists import Action, replace_note
from nanoclaw.admin.resources.parts import Parts, one_row
from nanoclaw.admin.table import Table
from nanoclaw.domain.people import UserId
from nanoclaw.errors import Refused
from nanoclaw.flow.aftermath import Aftermath

NO_ZONE = "none"
Pairing = Callable[[sqlite3.Connection, UserId, int], str]  # makes a code for a user, at a time


class UsersResource:
    """Changes of users. `operator`: the terminal handle of who runs the host; `pairing` makes a code."""

    def __init__(self, parts: Parts, operator: tuple[str, str], pairing: Pairing) -> None:
        self._parts = parts
        self._operator = operator
        self._pairing = pairing

    def actions(self) -> Mapping[str, Action]:
        """Return what carries out each verb."""
        return {
            "users create": self.create,
            "users update": self.update,
            "users link": self.link,
            "users unlink": self.unlink,
            "users pair": self.pair,
        }

    def create(self, connection: sqlite3.Connection, call: Call, after: Aftermath) -> Table:
        """Make one, with one identity or none."""
        people, name = self._parts.tables.people, call.text("name")
        if call.has("channel") != call.has("handle"):
            raise Refused("--channel and --handle go together.")
        user = people.add_user(connection, name, call.now)
        if call.has("channel"):
            self._link(connection, call, user)
        self._parts.note(connection, call, "user.created", user)
        return self._parts.lists.show(connection, "users", user)

    def update(self, connection: sqlite3.Connection, call: Call, after: Aftermath) -> Table:
        """Change what was named."""
        people, user = self._parts.tables.people, self._user(connection, call)
        changed = [name for name in ("name", "timezone") if call.has(name)]
        if not changed:
            raise Refused("What is to change? --name, --timezone")
        if call.has("name"):
            people.rename(connection, user, call.text("name"))
        if call.has("timezone"):
            zone = call.text("timezone")
            people.set_timezone(connection, user, None if zone == NO_ZONE else _check_timezone(zone))
        self._parts.note(connection, call, "user.changed", user, ", ".join(changed))
        return self._parts.lists.show(connection, "users", user)

    def link(self, connection: sqlite3.Connection, call: Call, after: Aftermath) -> Table:
        """Give a user one more identity."""
        user = self._user(connection, call)
        self._link(connection, call, user)
        self._parts.note(connection, call, "user.linked", user, f"{call.text('channel')}:{call.text('handle')}")
        return self._parts.lists.show(connection, "users", user)

    def unlink(self, connection: sqlite3.Connection, call: Call, after: Aftermath) -> Table:
        """Take an identity: who writes with it is a stranger from then on."""
        user, identity = self._user(connection, call), (call.text("channel"), call.text("handle"))
        if identity == self._operator:
            raise Refused("This identity is who runs the host, on this machine's terminal. It cannot be taken away.")
        if not self._parts.tables.people.unlink(connection, user, *identity):
            raise Refused(
                f"This user has no identity {identity[0]}:{identity[1]}. `ncl users get` shows those they have."
            )
        self._parts.note(connection, call, "user.unlinked", user, ":".join(identity))
        return self._parts.lists.show(connection, "users", user)

    def pair(self, connection: sqlite3.Connection, call: Call, after: Aftermath) -> Table:
        """Make a code by which the user links a chat platform themselves."""
        user = self._user(connection, call)
        code = self._pairing(connection, user, call.now)
        self._parts.note(connection, call, "user.pairing_begun", user)
        note = "Send it to the assistant in a direct chat within 10 minutes. Whoever does is this user there."
        return replace_note(one_row(user=user, code=code), note)

    def _user(self, connection: sqlite3.Connection, call: Call) -> UserId:
        return UserId(self._parts.id_of(connection, call, "users", "id"))

    def _link(self, connection: sqlite3.Connection, call: Call, user: UserId) -> None:
        people, channel, handle = self._parts.tables.people, call.text("channel"), call.text("handle")
        owner = people.find_by_identity(connection, channel, handle)
        if owner is not None:
            whose = "this user's" if owner == user else f"that of user {owner}; take it from them first (users unlink)"
            raise Refused(f"{channel}:{handle} is {whose}.")
        people.add_identity(connection, (channel, handle), user, call.now)


def _check_timezone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise Refused(f"There is no time zone {name!r}. They are called like Europe/Berlin.") from None
    return name
