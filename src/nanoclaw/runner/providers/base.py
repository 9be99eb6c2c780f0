"""What the loop needs of an agent: pushes in, events out.

A provider with `covers` names in each result the pushes it answers, and may be pushed to while a turn runs.
One without gets no push during a turn; its results cover the one push that is open.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Init:
    """The provider's own session id, to resume it by."""

    continuation: str


@dataclass(frozen=True, slots=True)
class Activity:
    """A sign of life."""


@dataclass(frozen=True, slots=True)
class Began:
    """The provider began to work on these pushes."""

    uuids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Missing:
    """MCP servers that did not start, by name; the agent works without their tools."""

    servers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ToolOpened:
    """A tool call began."""

    id: str
    name: str


@dataclass(frozen=True, slots=True)
class ToolClosed:
    """A tool call has its result."""

    id: str


@dataclass(frozen=True, slots=True)
class Result:
    """A turn's end and its final text; `covers` are the uuids of the pushes it answers."""

    text: str
    covers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Aborted:
    """A turn ended because it was interrupted."""

    covers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Failure:
    """A turn ended in an error; `words` say in plain language what happened and what mends it.

    Retryable: another run may succeed. `forget`: the conversation cannot go on, the next run starts a new one.
    """

    words: str
    retryable: bool
    covers: tuple[str, ...]
    forget: bool = False


@dataclass(frozen=True, slots=True)
class Exited:
    """The agent's process is gone; always the last event."""

    reason: str


Event = Init | Activity | Began | Missing | ToolOpened | ToolClosed | Result | Aborted | Failure | Exited


class Provider(Protocol):
    """One agent, driven for the time of a run."""

    covers: bool
    commands: frozenset[str]  # what it does itself when a push is exactly such a word, alone or before other words

    async def start(self) -> None:
        """Make the agent ready. Raises OSError when it cannot be."""
        ...

    def push(self, prompt: str, uuid: str) -> None:
        """Give the agent one message; never blocks."""
        ...

    def events(self) -> AsyncIterator[Event]:
        """Everything the agent does, ending with Exited."""
        ...

    def interrupt(self) -> None:
        """Ask the agent to end its turn; never blocks."""
        ...

    async def close(self, grace_seconds: float) -> None:
        """End the agent: politely, after the grace by force. Bounded."""
        ...
