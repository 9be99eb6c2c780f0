"""The live runs of this host: a cache of what the store and the kernel know, never the truth.

In: runs as they start and end.
Out: the run of a session, who is idle, who shows no sign of life.
Writes: nothing.
Never: decides; loses a run that is not over.
Fails: a host that died has none of these; `run.recover` rebuilds the world from the store.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field

from nanoclaw.domain.limits import Limits
from nanoclaw.domain.session import RunEnd, SessionId
from nanoclaw.sandbox.mailbox import Mailbox
from nanoclaw.sandbox.runtimes.base import Box
from nanoclaw.store.groups import AgentGroup


@dataclass(slots=True)
class LiveRun:
    """One run: its box, its mailbox and how far it was collected. Times are monotonic seconds."""

    session: SessionId
    fence: int
    group: AgentGroup
    chat: str | None
    box: Box
    mailbox: Mailbox
    collected_message: int
    collected_ack: int
    alive_at: float
    used_at: float
    claimed: int  # rows the box has to answer; 0: idle
    finished_at: float  # when it last finished one, or got the first it holds
    limits: Limits = Limits()  # noqa: RUF009  it is frozen
    proof: str | None = None  # of the wall it runs behind
    destinations: frozenset[str] = frozenset()  # the names it was told
    packages_set: str = ""  # what it has of its group's packages
    busy_since: float | None = None  # since when the box holds a lock on outbound.db
    seen_version: tuple[int, int] = (0, 0)  # mtime and size of outbound.db at the last look
    outdated: bool = False  # its group is set up anew: it gets no more rows, and ends when it has answered those it has
    memory_kills: int = 0  # of its programs by the kernel, that its chat knows of
    ending: RunEnd | None = None
    detail: str = ""
    collecting: asyncio.Lock = field(default_factory=asyncio.Lock)
    over: asyncio.Event = field(default_factory=asyncio.Event)


class LiveRuns:
    """The live runs by session."""

    def __init__(self) -> None:
        self._runs: dict[SessionId, LiveRun] = {}

    def __iter__(self) -> Iterator[LiveRun]:
        return iter(list(self._runs.values()))

    def __len__(self) -> int:
        return len(self._runs)

    def find(self, session: SessionId) -> LiveRun | None:
        """Return a session's live run."""
        return self._runs.get(session)

    def add(self, run: LiveRun) -> None:
        """Register a run that was started."""
        self._runs[run.session] = run

    def remove(self, run: LiveRun) -> None:
        """Forget a run that is over."""
        if self._runs.get(run.session) is run:
            del self._runs[run.session]
        run.over.set()
