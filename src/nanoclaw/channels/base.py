"""What a channel is: it hands in what people said, and sends what agents answer.

A channel states facts about its platform (who, where, group or not, mentioned or not) and decides nothing.
Accept before acknowledge: `Sink.accept` returns when the store has committed; only then tell the platform.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from nanoclaw.domain.card import Card


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
class Click:
    """A button of a card was pressed. `sender` is the platform's handle of who pressed it, as in Incoming."""

    chat_id: str
    sender: str
    sender_name: str
    approval: str  # Card.approval
    value: str  # Option.value
    text: str = ""  # for an option that takes words


@dataclass(frozen=True, slots=True)
class ClickAnswer:
    """What the person who pressed is told; `taken` is False when nothing was decided by it."""

    words: str
    taken: bool


@dataclass(frozen=True, slots=True)
class Accepted:
    """`message` is our id of it (a ULID); `fresh` is False when it had been accepted before.

    Nothing is kept of a message that was not accepted, and `message` is '': a gate refused it by the rule `reason`, and
    `refused` says so to the person ('' = they are told nothing: it was overheard); or it was no message for an agent
    but an answer to a card or a pairing code, and `words` answer it; or its chat has no agent and it called none.
    """

    message: str
    fresh: bool
    refused: str = ""
    words: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One delivery to send. `delivery` is the idempotency key towards the platform."""

    delivery: str
    chat_id: str
    thread_id: str | None
    text: str
    reply_to: str | None  # platform id of the message it answers
    card: Card | None = None  # `text` says the same with numbers; a channel with buttons shows this instead
    edits: str | None = None  # platform id of a message of ours that this one replaces; else it is sent as a new one


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

    async def click(self, click: Click) -> ClickAnswer:
        """Take the press of a button. Change no card before: whether it counts is decided here. Raises StoreError."""
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


@runtime_checkable
class OpensDirectChats(Protocol):
    """A channel that can write to a person who has not written first."""

    async def open_direct_chat(self, handle: str) -> str | None:
        """Return the id of the direct chat with a person, None when the platform does not allow one. PlatformError."""
        ...
