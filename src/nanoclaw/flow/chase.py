"""9b chase: what becomes of questions by time, and of cards that have found nobody.

In: looks of the sweep; a hint that a card has no chat yet.
Out: questions that expire, tools that are told to go on, direct chats opened, cards sent.
Writes: what approvals, questions and cards write; `user_dms`, `messaging_groups` of opened direct chats.
Never: holds up the sweep or a transaction for a platform; keeps in memory whom it has not reached.
Fails: a platform that opens no chat is asked again at the next round; StoreFull waits for the next look.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from nanoclaw.channels.base import Channel, OpensDirectChats
from nanoclaw.errors import PlatformError, StoreFull
from nanoclaw.flow.aftermath import Aftermath
from nanoclaw.flow.asking import Asked
from nanoclaw.flow.cards import is_put_to_approvers
from nanoclaw.flow.means import Means

ROUND_SECONDS = 60.0  # between two tries at people who cannot be reached


@dataclass(frozen=True, slots=True)
class Unreached:
    """An approver without a direct chat, and an account of theirs where one might be opened."""

    user: str
    channel: str
    handle: str


class Chase:
    """Follows open questions up."""

    def __init__(self, means: Means, asked: Asked, channels: Mapping[str, Channel]) -> None:
        self._means = means
        self._asked = asked
        self._channels = channels
        self.carry: Callable[[Aftermath], None] = lambda _: None  # set by host.py
        self._reaching = False
        self._next_round = 0.0

    async def look(self) -> None:
        """End what is due; now and then try again to reach people."""
        now = self._means.clock.now_ms()
        if await self._means.store.read(lambda connection: self._asked.tables.approvals.is_due(connection, now)):
            await self._write(self._end_due)
        if self._means.clock.monotonic() >= self._next_round:
            self.hint()

    def hint(self) -> None:
        """Say that a card has found nobody, or that somebody can be reached now. Never blocks."""
        self._next_round = self._means.clock.monotonic() + ROUND_SECONDS
        if not self._reaching:
            self._reaching = True
            self._means.spawn(self._reach(), "reach approvers")

    async def _reach(self) -> None:
        try:
            if not await self._means.store.read(self._asked.tables.approvals.has_open):
                return
            unreached = await self._means.store.read(self._find_unreached)
            for person in unreached:
                await self._open_chat(person)
            if await self._means.store.read(self._has_card_to_send):
                await self._write(self._send_missing)
        except StoreFull as error:
            self._means.log.warning("store.filled", error=str(error))
        finally:
            self._reaching = False

    async def _open_chat(self, person: Unreached) -> None:
        channel = self._channels.get(person.channel)
        if not isinstance(channel, OpensDirectChats):
            return
        try:
            chat_id = await channel.open_direct_chat(person.handle)
        except PlatformError as error:
            self._means.log.warning("approver.not_reached", channel=person.channel, error=str(error))
            return
        except Exception as error:  # boundary: a fault of one channel's code must not stop the others
            self._means.log.error("channel.failed", channel=person.channel, error=repr(error))
            return
        if chat_id is not None:
            await self._write(lambda connection, after, now: self._note(connection, (person, chat_id), now))

    def _note(self, connection: sqlite3.Connection, opened: tuple[Unreached, str], now: int) -> None:
        person, chat_id = opened
        tables = self._asked.tables
        chat = tables.chats.find(connection, person.channel, chat_id)
        if chat is None:
            chat = tables.chats.add(connection, person.channel, chat_id, now, is_group=False)
        tables.people.note_dm(connection, person.user, person.channel, chat.id, now)

    def _find_unreached(self, connection: sqlite3.Connection) -> list[Unreached]:
        found: dict[str, list[Unreached]] = {}
        tables = self._asked.tables
        openers = {name for name, channel in self._channels.items() if isinstance(channel, OpensDirectChats)}
        for approval in tables.approvals.list_open(connection) if openers else ():
            for user in tables.people.approvers(connection, approval.agent_group):
                if user not in found and self._asked.cards.find_direct_chat(connection, user, "") is None:
                    identities = tables.people.identities(connection, user)
                    found[user] = [Unreached(user, *identity) for identity in identities if identity[0] in openers]
        return [person for people in found.values() for person in people[:1]]

    def _has_card_to_send(self, connection: sqlite3.Connection) -> bool:
        tables, cards = self._asked.tables, self._asked.cards
        for approval in tables.approvals.list_open(connection):
            if is_put_to_approvers(approval) and cards.list_unserved(connection, approval):
                return True
        return False

    def _send_missing(self, connection: sqlite3.Connection, after: Aftermath, now: int) -> None:
        for approval in self._asked.tables.approvals.list_open(connection):
            if is_put_to_approvers(approval):
                self._asked.cards.send_to_approvers(connection, approval, after, now)
        after.reach = False  # who is still without a card is tried at the next round

    def _end_due(self, connection: sqlite3.Connection, after: Aftermath, now: int) -> None:
        self._asked.questions.give_up_waits(connection, after, now)
        self._asked.approvals.expire(connection, after, now)

    async def _write(self, work: Callable[[sqlite3.Connection, Aftermath, int], None]) -> None:
        now, after = self._means.clock.now_ms(), Aftermath()
        await self._means.store.write(lambda connection: work(connection, after, now))
        self.carry(after)
