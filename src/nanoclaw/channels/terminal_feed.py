"""What the terminal channel reads of the store: deliveries by cursor, and how messages ended."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence

from nanoclaw.channels.terminal import NAME, Facts, FeedDelivery
from nanoclaw.store.db import Store
from nanoclaw.store.outbox import Sent
from nanoclaw.store.tables import Tables


class StoreFeed:
    """The TerminalFeed over the central store. `rehearsing` tells whether the stand-in model answers."""

    def __init__(self, store: Store, tables: Tables, rehearsing: Callable[[], bool]) -> None:
        self._store = store
        self._tables = tables
        self._rehearsing = rehearsing

    async def deliveries(self, chat: str, after: int, limit: int) -> list[FeedDelivery]:
        """Return what was sent in a chat with an order above `after`, oldest first."""
        return await self._store.read(
            lambda connection: self._of_chat(
                connection, chat, lambda group: self._tables.outbox.list_sent(connection, group, after, limit)
            )
        )

    async def recent(self, chat: str, limit: int) -> list[FeedDelivery]:
        """Return the last `limit` deliveries of a chat, oldest first."""
        return await self._store.read(
            lambda connection: self._of_chat(
                connection, chat, lambda group: self._tables.outbox.last_sent(connection, group, limit)
            )
        )

    async def deliveries_for(self, message: str) -> list[FeedDelivery]:
        """Return what was sent in answer to an accepted message, oldest first."""
        sent = await self._store.read(lambda connection: self._tables.outbox.sent_for_message(connection, message))
        return [_feed(item) for item in sent]

    async def settled(self, messages: Sequence[str]) -> list[tuple[str, str]]:
        """Return (message, outcome) of those that have ended."""
        return await self._store.read(lambda connection: self._tables.inbox.list_settled(connection, messages))

    async def facts(self, chat: str) -> Facts:
        """Return who answers in a chat: its first wiring's agent, or the default one."""
        name = await self._store.read(lambda connection: self._assistant(connection, chat))
        return Facts(assistant=name, rehearsal=self._rehearsing())

    def _of_chat(
        self, connection: sqlite3.Connection, chat: str, load: Callable[[str], list[Sent]]
    ) -> list[FeedDelivery]:
        found = self._tables.chats.find(connection, NAME, chat)
        return [] if found is None else [_feed(item) for item in load(found.id)]

    def _assistant(self, connection: sqlite3.Connection, chat: str) -> str:
        found = self._tables.chats.find(connection, NAME, chat)
        if found is not None:
            for wiring in self._tables.chats.wirings(connection, found.id):
                return self._tables.groups.get(connection, wiring.agent_group).name
        groups = self._tables.groups.list_all(connection)
        return groups[0].name if groups else ""


def _feed(sent: Sent) -> FeedDelivery:
    return FeedDelivery(sent.id, sent.order, sent.reply_to, sent.answers, sent.text, sent.notice)
