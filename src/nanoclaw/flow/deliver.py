"""8 deliver: what agents said goes to their chats, in order per lane, lanes side by side.

In: hints that a lane (session, chat, thread) has something; the outbox is the truth.
Out: `Channel.send`, receipts in the outbox, a hint to whoever watches the chat.
Writes: `outbox` (pending -> sending -> sent | failed).
Never: sends the next of a lane before this one has ended; lets a slow platform stall another lane.
Fails: PlatformError, or whatever else a channel raises, is retried with back-off, or ends the delivery as failed;
StoreFull waits for space.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Mapping

from nanoclaw.channels.base import Channel, Outgoing
from nanoclaw.clock import Clock
from nanoclaw.domain.card import card_from_json
from nanoclaw.domain.turn import decide_delivery_retry
from nanoclaw.errors import PlatformError, StoreFull
from nanoclaw.flow.spawn import Spawn
from nanoclaw.log import Log
from nanoclaw.store.chats import Chat
from nanoclaw.store.db import Store
from nanoclaw.store.outbox import Delivery, Lane
from nanoclaw.store.tables import Tables

FULL_SECONDS = 1.0  # between two tries to write on a full disk
MAYBE_TWICE = "(This may be a repeat: I was stopped while sending it.)\n\n"


class Deliver:
    """Sends what waits in the outbox."""

    def __init__(
        self,
        store: Store,
        tables: Tables,
        channels: Mapping[str, Channel],
        clock: Clock,
        log: Log,
        *,
        spawn: Spawn,
        changed: Callable[[str], None],
        reached: Callable[[str], None],
    ) -> None:
        self._store = store
        self._tables = tables
        self._channels = channels
        self._clock = clock
        self._log = log
        self._spawn = spawn
        self._changed = changed
        self._reached = reached
        self._active: dict[Lane, bool] = {}  # lane -> look again when done

    def hint(self, lane: Lane) -> None:
        """Say that a lane has something to send."""
        if lane in self._active:
            self._active[lane] = True
            return
        self._active[lane] = False
        self._spawn(self._serve(lane), f"deliver {lane.session}")

    async def look(self) -> None:
        """Hint every lane that has something waiting; the sweep's truth behind the hints."""
        for lane in await self._store.read(self._tables.outbox.lanes):
            self.hint(lane)

    async def recover(self) -> None:
        """After a start: what was being sent when the host died is sent again, marked where it may be a repeat.

        The terminal's deliveries are read back from the store, so repeating one there cannot show it twice.
        """
        await self._store.write(self._tables.outbox.set_unknown)
        for name, channel in self._channels.items():
            mark = not getattr(channel, "repeats_are_harmless", False)
            count = await self._store.write(
                lambda connection, name=name, mark=mark: self._tables.outbox.resend_unknown(connection, name, mark=mark)
            )
            if count:
                self._log.warning("delivery.requeued", channel=name, count=count, marked=mark)

    async def _serve(self, lane: Lane) -> None:
        try:
            while True:
                self._active[lane] = False
                while (delivery := await self._take(lane)) is not None:
                    await self._send(delivery)
                if not self._active[lane]:
                    return
        except StoreFull as error:
            self._log.warning("store.filled", error=str(error))  # the sweep looks again
        finally:
            del self._active[lane]

    async def _take(self, lane: Lane) -> Delivery | None:
        now = self._clock.now_ms()
        return await self._store.write(lambda connection: self._tables.outbox.take_next(connection, lane, now))

    async def _send(self, delivery: Delivery) -> None:
        self._reached("deliver.sending")
        chat = await self._store.read(lambda connection: self._tables.chats.get(connection, delivery.chat))
        try:
            platform_id = await self._hand_over(delivery, chat)
        except PlatformError as error:
            await self._retry(delivery, error)
        except Exception as error:  # boundary: a fault of one channel's code must not stop the others
            self._log.error("channel.failed", channel=chat.channel_type, error=repr(error))
            await self._retry(delivery, PlatformError(f"the channel {chat.channel_type} failed: {error!r}"))
        else:
            self._reached("deliver.handed_over")
            now = self._clock.now_ms()
            await self._record(lambda connection: self._tables.outbox.set_sent(connection, delivery, platform_id, now))
            self._reached("deliver.sent")
            self._log.info("delivery.sent", delivery=delivery.id, attempt=delivery.attempt)
        self._changed(delivery.chat)

    async def _hand_over(self, delivery: Delivery, chat: Chat) -> str:
        channel = self._channels.get(chat.channel_type)
        if channel is None:
            raise PlatformError(f"the channel {chat.channel_type} is not switched on")
        text = MAYBE_TWICE + delivery.text if delivery.maybe_duplicate else delivery.text
        receipt = await channel.send(
            Outgoing(
                delivery=delivery.id,
                chat_id=chat.platform_id,
                thread_id=delivery.thread,
                text=text,
                reply_to=delivery.answers,
                card=card_from_json(delivery.card) if delivery.card else None,
                edits=delivery.replaces,
            )
        )
        return receipt.platform_id

    async def _retry(self, delivery: Delivery, error: PlatformError) -> None:
        now = self._clock.now_ms()
        retry_at = decide_delivery_retry(delivery.attempt, now, error.retry_after_seconds, permanent=error.permanent)
        if retry_at is None:
            self._log.error("delivery.failed", delivery=delivery.id, attempt=delivery.attempt, error=str(error))
            await self._record(lambda connection: self._tables.outbox.set_failed(connection, delivery, str(error), now))
            return
        self._log.warning("delivery.postponed", delivery=delivery.id, attempt=delivery.attempt, error=str(error))
        await self._record(
            lambda connection: self._tables.outbox.set_pending(connection, delivery, retry_at, str(error))
        )

    async def _record(self, work: Callable[[sqlite3.Connection], bool]) -> None:
        """Write what the platform said; on a full disk as soon as there is room, and this lane waits until then."""
        while True:
            try:
                await self._store.write(work)
                return
            except StoreFull as error:
                self._log.warning("store.filled", error=str(error))
                await asyncio.sleep(FULL_SECONDS)
