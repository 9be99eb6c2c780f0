"""8c tell: the host's own words to the chat in which a session works or is waited for.

In: a session and words.
Out: a delivery to the chat of its oldest open message, else to its own chat; hints in the aftermath.
Writes: `outbox`.
Never: tells another agent, whose work these words would disturb; counts as an answer.
Fails: StoreFull; then nothing was said.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from nanoclaw.errors import StoreFull
from nanoclaw.flow.aftermath import Aftermath
from nanoclaw.flow.means import Means
from nanoclaw.store.outbox import Lane, NewDelivery
from nanoclaw.store.tables import Tables


class Teller:
    """Tells chats what the host has to say."""

    def __init__(self, means: Means) -> None:
        self._means = means
        self.carry: Callable[[Aftermath], None] = lambda after: None  # set by host.py

    def tell_soon(self, session: str, words: str) -> None:
        """As `tell`, in a task of its own; what a full disk does not take is not said."""
        self._means.spawn(self._try_to_tell(session, words), f"tell {session}")

    async def _try_to_tell(self, session: str, words: str) -> None:
        try:
            await self.tell(session, words)
        except StoreFull as error:
            self._means.log.warning("store.filled", error=str(error))

    async def tell(self, session: str, words: str) -> None:
        """Tell the chat of a session; one that has none hears nothing. Raises StoreFull."""
        after, now = Aftermath(), self._means.clock.now_ms()
        tables = self._means.tables
        await self._means.store.write(lambda connection: tell_chat(connection, tables, (session, words), now, after))
        self.carry(after)


def tell_chat(
    connection: sqlite3.Connection, tables: Tables, what: tuple[str, str], now: int, after: Aftermath
) -> None:
    """Queue words for the chat of a session, in the caller's transaction; `what`: the session, the words."""
    session, words = what
    place = _find_place(connection, tables, session)
    if place is None:
        return
    chat, thread = place
    delivery = NewDelivery(
        session=session, run=0, seq=None, turn=None, reply_to=None, chat=chat, thread=thread, text=words, notice=True
    )
    tables.outbox.add(connection, delivery, now)
    after.chats[chat] = None
    after.lanes[Lane(session, chat, thread or "")] = None


def _find_place(connection: sqlite3.Connection, tables: Tables, session: str) -> tuple[str, str | None] | None:
    open_rows = tables.inbox.list_open(connection, session)
    if open_rows:
        first = open_rows[0]
        return None if first.chat is None or first.return_session is not None else (first.chat, first.thread)
    found = tables.sessions.find(connection, session)
    return None if found is None or found.chat is None else (found.chat, found.thread)
