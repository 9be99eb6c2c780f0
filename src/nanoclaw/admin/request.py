"""What is asked over the admin socket, and what comes back: JSON lines, one request, one reply."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from sqlite3 import Connection
from typing import Protocol, TypeVar

import msgspec

from nanoclaw.admin.table import Table

T = TypeVar("T")

LINE_BYTES = 64 * 1024
REPLY_BYTES = 8 * 1024 * 1024


class Request(msgspec.Struct, frozen=True):
    """`ncl RESOURCE VERB [ID] [--flag value]`."""

    resource: str
    verb: str
    id: str | None = None
    flags: dict[str, str] = {}


class Reply(msgspec.Struct, frozen=True):
    """The answer: a table when `ok`, else a plain sentence."""

    ok: bool
    error: str = ""
    table: Table | None = None


class Reader(Protocol):
    """Runs work on a read-only connection to the store: the host's own, or one of a command while no host runs."""

    def __call__(self, work: Callable[[Connection], T], /) -> Awaitable[T]:
        """Return `work(connection)`. Raises StoreError."""
        ...


class Resource(Protocol):
    """One noun of `ncl`."""

    @property
    def name(self) -> str:
        """The noun."""
        ...

    @property
    def verbs(self) -> tuple[str, ...]:
        """What can be asked of it."""
        ...

    async def answer(self, request: Request) -> Table:
        """Answer one of its verbs. Raises NanoClawError with a plain sentence."""
        ...
