"""What a channel is: it hands in what people said, and sends what agents answer.

A channel states facts about its platform (who, where, group or not, mentioned or not) and decides nothing.
Accept before acknowledge: `Sink.accept` returns when the store has committed; only then tell the platform.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Incoming:
    """One message as a platform gave it. `sent_at` in epoch milliseconds; `platform_id` is unique per channel."""

    platform_id: str
    chat_id: str
    sender: str  # the platform's handle of who wrote it; authenticated by the platform, never by the text
    sender_name: str
    text: str
    sent_at: int
    is_group: bool = False
    is_mention: bool = False
    thread_id: str | None = None
    reply_to: str | None = None  # platform id of the message it answers
    chat_name: str | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """`message` is our id of it (a ULID); `fresh` is False when it had been accepted before.

    `refused` says why a gate refused it ('' = accepted); then nothing of it is kept and `message` is ''.
    """

    message: str
    fresh: bool
    refused: str = ""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One delivery to send. `delivery` is the idempotency key towards the platform."""

    delivery: str
    chat_id: str
    thread_id: str | None
    text: str
    reply_to: str | None  # platform id of the message it answers


@dataclass(frozen=True, slots=True)
class Receipt:
    """The platform's id of what was sent."""

    platform_id: str


class Sink(Protocol):
    """Where a channel hands in messages."""

    async def accept(self, batch: Sequence[Incoming], cursor: str | None = None) -> list[Accepted]:
        """Commit the batch and the channel's cursor in one transaction; return one Accepted for each.

        Raises StoreError when nothing was committed: do not acknowledge, the platform will repeat it.
        """
        ...


class Channel(Protocol):
    """A connector to one platform account."""

    @property
    def name(self) -> str:
        """The channel's name, as in `messaging_groups.channel_type`."""
        ...

    async def run(self, sink: Sink, stop: asyncio.Event) -> None:
        """Listen until `stop` is set. Raises PlatformError when the platform is lost; the supervisor restarts it."""
        ...

    async def send(self, outgoing: Outgoing) -> Receipt:
        """Send one message; raises PlatformError (permanent or to be retried)."""
        ...

    async def typing(self, chat_id: str, thread_id: str | None, active: bool) -> None:
        """Show or hide the typing indicator; best effort, never raises."""
        ...
