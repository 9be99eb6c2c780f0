"""1 receive: a channel's batch, taken in one transaction; what is accepted is never lost again.

In: batches of `Incoming` with the channel's cursor.
Out: one `Accepted` for each message, in order; a hint to wake for each session with work.
Writes: everything of stages 2 to 4 and the cursor, in one commit.
Never: acknowledges before the commit; accepts the same platform id of a chat twice.
Fails: StoreError (StoreFull when the disk is full): nothing was committed, the channel repeats the batch.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from nanoclaw.channels.base import Accepted, Click, ClickAnswer, Incoming
from nanoclaw.clock import Clock
from nanoclaw.domain.session import SessionId
from nanoclaw.domain.verdict import Allow, Deny
from nanoclaw.flow.admit import Sender, judge, record_refusal
from nanoclaw.flow.enqueue import Admitted, enqueue
from nanoclaw.flow.route import Route, decide_routes, find_chat, find_sender
from nanoclaw.log import Log
from nanoclaw.store.db import Store
from nanoclaw.store.tables import Tables


@dataclass(slots=True)
class _Batch:
    accepted: list[Accepted]
    wake: dict[SessionId, None]


class Receiver:
    """The sink of one channel."""

    def __init__(
        self,
        channel: str,
        store: Store,
        tables: Tables,
        clock: Clock,
        log: Log,
        *,
        wake: Callable[[SessionId], None],
        reached: Callable[[str], None],
    ) -> None:
        self._channel = channel
        self._store = store
        self._tables = tables
        self._clock = clock
        self._log = log.bind(channel=channel)
        self._wake = wake
        self._reached = reached

    async def accept(self, batch: Sequence[Incoming], cursor: str | None = None) -> list[Accepted]:
        """Commit the batch and the cursor; return one Accepted for each message. Raises StoreError."""
        now = self._clock.now_ms()
        self._reached("receive.before_commit")
        done = await self._store.write(lambda connection: self._take(connection, batch, cursor, now))
        self._reached("receive.committed")
        for item in done.accepted:
            if item.refused:
                self._log.info("message.refused", reason=item.refused)
            elif item.fresh:
                self._log.info("message.accepted", message=item.message)
        for session in done.wake:
            self._wake(session)
        return done.accepted

    async def click(self, click: Click) -> ClickAnswer:
        """Take the press of a button. Raises StoreError."""
        return ClickAnswer("This question is not open any more.", taken=False)

    def _take(self, connection: sqlite3.Connection, batch: Sequence[Incoming], cursor: str | None, now: int) -> _Batch:
        done = _Batch([], {})
        for incoming in batch:
            done.accepted.append(self._take_one(connection, incoming, now, done))
        if cursor is not None:
            self._tables.inbound.set_cursor(connection, self._channel, cursor, now)
        return done

    def _take_one(self, connection: sqlite3.Connection, incoming: Incoming, now: int, done: _Batch) -> Accepted:
        tables = self._tables
        sender = Sender(self._channel, incoming.sender, find_sender(connection, tables, self._channel, incoming))
        chat = find_chat(connection, tables, self._channel, incoming, now)
        if chat is None:
            refusal = Deny("no_agent_wired", "No agent is connected to this chat.")
            record_refusal(connection, tables, sender, incoming.chat_id, refusal, now)
            return Accepted("", fresh=True, refused=refusal.words)
        known = tables.inbound.find(connection, self._channel, chat.id, incoming.platform_id)
        if known is not None:
            return Accepted(known, fresh=False)
        admitted: list[Route] = []
        words = "No agent listens to this message."
        for route in decide_routes(tables.chats.wirings(connection, chat.id), incoming):
            verdict = judge(connection, tables, chat, route.wiring, sender)
            if isinstance(verdict, Allow):
                admitted.append(route)
            else:
                words = record_refusal(connection, tables, sender, chat.id, verdict, now) or "You may not write here."
        if not admitted:
            return Accepted("", fresh=True, refused=words)
        queued = enqueue(connection, tables, Admitted(incoming, chat, sender, admitted), now)
        done.wake.update(dict.fromkeys(queued.wake))
        return Accepted(queued.message, fresh=True)
