"""Who was refused where and why, counted; never their words."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from nanoclaw.store.people import NewId
from nanoclaw.store.sql import Sql


@dataclass(frozen=True, slots=True)
class Refusal:
    """One refused message: where and who, never what."""

    channel_type: str
    chat: str
    handle: str
    reason: str


class Refusals:
    """The only writer of `refusals`."""

    def __init__(self, new_id: NewId) -> None:
        self._sql = Sql("refusals.sql")
        self._new_id = new_id

    def count(self, connection: sqlite3.Connection, refusal: Refusal, now: int) -> None:
        """Count one more refusal of this sender in this chat for this reason."""
        self._sql.change(
            connection,
            "count_refusal",
            id=self._new_id(),
            channel_type=refusal.channel_type,
            chat=refusal.chat,
            handle=refusal.handle,
            reason=refusal.reason,
            now=now,
        )

    def was_counted_since(self, connection: sqlite3.Connection, refusal: Refusal, since: int) -> bool:
        """Return whether this sender was refused for this reason after `since`."""
        row = self._sql.row(
            connection,
            "find_since",
            channel_type=refusal.channel_type,
            chat=refusal.chat,
            handle=refusal.handle,
            reason=refusal.reason,
            since=since,
        )
        return row is not None
