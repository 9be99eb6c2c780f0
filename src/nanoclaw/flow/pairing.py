"""7j pairing: whoever writes a code in a direct chat is from then on the user it was made for.

In: a user whom the operator gives a code; later a direct message that is six digits.
Out: the code, once; words for whoever wrote it.
Writes: `pairing_codes`, `identities`, `user_dms`, `messaging_groups` (the direct chat), `audit`.
Never: keeps a code, only a hash; takes one from a group; gives a person who has rights to somebody else.
Fails: a wrong code is a try at every open one; after five tries, ten minutes or one use a code is worth nothing.
"""

from __future__ import annotations

import re
import secrets
import sqlite3
from collections.abc import Callable

from nanoclaw.channels.base import Incoming
from nanoclaw.domain.people import UserId
from nanoclaw.flow.aftermath import Aftermath
from nanoclaw.store.audit import Entry
from nanoclaw.store.defaults import CHANNEL as TERMINAL
from nanoclaw.store.tables import Tables

TRIES = 5  # issue 3, item 4: 6 digits, 10 minutes, 5 tries, one use
LIFE_MS = 600_000
CODE = re.compile(r"[0-9]{6}")
WRONG = "That code is not right, or not any more. `ncl users pair` makes a new one."
TAKEN = "This account belongs to {name} already, who has rights here. `ncl users unlink` frees it."


def draw_code() -> str:
    """Return six random digits."""
    return f"{secrets.randbelow(1_000_000):06}"


class Pairing:
    """Makes codes and takes them."""

    def __init__(self, tables: Tables, draw: Callable[[], str] = draw_code) -> None:
        self._tables = tables
        self._draw = draw

    def create(self, connection: sqlite3.Connection, user: str, now: int) -> str:
        """Return a code for a user, for ten minutes; an earlier one of theirs is worth nothing from now on."""
        code = self._draw()
        self._tables.pairing.add(connection, user, code, TRIES, (now, now + LIFE_MS))
        self._audit(connection, "pairing.opened", ("host", f"user:{user}"), ("allow", ""), now)
        return code

    def take(
        self,
        connection: sqlite3.Connection,
        channel: str,
        incoming: Incoming,
        user: UserId | None,
        after: Aftermath,
        now: int,
    ) -> str | None:
        """Return words when a message is a try at a code; None: it is an ordinary message."""
        code = incoming.text.strip()
        if incoming.is_group or channel == TERMINAL or not CODE.fullmatch(code):
            return None
        if not self._tables.pairing.has_open(connection, now):
            return None
        actor = f"{channel}:{incoming.sender}"
        found = self._tables.pairing.find(connection, code, now)
        if found is None:
            self._tables.pairing.count_try(connection, now)
            self._audit(connection, "pairing.refused", (actor, channel), ("deny", "wrong_code"), now)
            return WRONG
        code_id, owner = found
        people = self._tables.people
        if user is not None and user != owner and people.has_role(connection, user):
            self._tables.pairing.count_try(connection, now)
            self._audit(connection, "pairing.refused", (actor, f"user:{owner}"), ("deny", "has_rights"), now)
            return TAKEN.format(name=people.name_of(connection, user))
        self._tables.pairing.use(connection, code_id, now)
        if user is None:
            people.add_identity(connection, (channel, incoming.sender), owner, now)
        elif user != owner:
            people.move_identity(connection, (channel, incoming.sender), owner)
        note_direct_chat(connection, self._tables, (channel, incoming), owner, now)
        self._audit(connection, "identity.linked", (actor, f"user:{owner}"), ("allow", "pairing_code"), now)
        after.reach = True  # questions that wait for this person find them now
        return f"Welcome, {people.name_of(connection, owner)}: this account is yours now."

    def _audit(
        self, connection: sqlite3.Connection, event: str, who: tuple[str, str], why: tuple[str, str], now: int
    ) -> None:
        self._tables.audit.append(connection, Entry(now, event, who[0], who[1], why[0], why[1]))


def note_direct_chat(
    connection: sqlite3.Connection, tables: Tables, where: tuple[str, Incoming], user: str, now: int
) -> None:
    """Remember that a user can be written to in this direct chat."""
    channel, incoming = where
    chat = tables.chats.find(connection, channel, incoming.chat_id)
    if chat is None:
        chat = tables.chats.add(connection, channel, incoming.chat_id, now, is_group=False)
    tables.people.note_dm(connection, user, channel, chat.id, now)
