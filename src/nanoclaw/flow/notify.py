"""8b notify: tells channels that something of a chat changed, and whether its agent is at work.

In: ids of chats, from collect, deliver and run.
Out: `changed` and `typing` of the chat's channel.
Writes: nothing.
Never: is on the path: a lost word is made good by the channel's own look at the store.
Fails: silently; a chat that is gone has nobody to tell.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from nanoclaw.channels.base import Channel
from nanoclaw.errors import StoreError
from nanoclaw.flow.spawn import Spawn
from nanoclaw.store.chats import Chat
from nanoclaw.store.db import Store
from nanoclaw.store.tables import Tables


class Notify:
    """Finds a chat's channel and tells it; remembers which chat is whose."""

    def __init__(
        self,
        store: Store,
        tables: Tables,
        channels: Mapping[str, Channel],
        watchers: Mapping[str, Callable[[str], None]],
        spawn: Spawn,
    ) -> None:
        self._store = store
        self._tables = tables
        self._channels = channels
        self._watchers = watchers  # channel -> told the platform's chat id
        self._spawn = spawn
        self._known: dict[str, Chat] = {}

    def changed(self, chat: str) -> None:
        """Say that deliveries or outcomes of a chat were committed."""
        known = self._known.get(chat)
        if known is None:
            self._spawn(self._find(chat), f"notify {chat}")
        elif (watcher := self._watchers.get(known.channel_type)) is not None:
            watcher(known.platform_id)

    def typing(self, chat: str, active: bool) -> None:
        """Show or hide the sign that the agent is at work."""
        self._spawn(self._type(chat, active=active), f"typing {chat}")

    async def _find(self, chat: str) -> None:
        if await self._load(chat) is not None:
            self.changed(chat)

    async def _type(self, chat: str, *, active: bool) -> None:
        known = await self._load(chat)
        channel = self._channels.get(known.channel_type) if known else None
        if known is None or channel is None:
            return
        try:
            await channel.typing(known.platform_id, None, active)
        except Exception:  # boundary: a sign that is not shown is no reason to stop the host
            return

    async def _load(self, chat: str) -> Chat | None:
        if chat not in self._known:
            try:
                self._known[chat] = await self._store.read(lambda connection: self._tables.chats.get(connection, chat))
            except StoreError:
                return None
        return self._known[chat]
