"""5b0 seats: how many boxes run at once, and whose turn it is while all seats are taken.

In: sessions that want a box, with their agent group and how many seats it takes; seats given back; the clock.
Out: a seat, or a place in the queue: agent groups take turns, each group's sessions in the order they came.
Writes: nothing: who waits has claimed no row; it stays `queued` in the store, where a new host's sweep finds it.
Never: gives out more seats than there are, but to one box alone; calls a group again before all others that wait.
Fails: it cannot; a session that is called and does not come loses its seat at the next sweep.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from nanoclaw.domain.limits import GIB, Limits
from nanoclaw.domain.session import SessionId

SEAT_MB = 512  # what a box at work takes by experience: an agent CLI and its tools
LIMIT_OF_A_SEAT = 2 * GIB  # a box that may use more than this takes more seats
FEWEST, MOST = 2, 64
TELL_SECONDS = 3.0
PATIENCE_SECONDS = 60.0  # after so long a wait, boxes at work get no more rows: each ends when it has answered


@dataclass(frozen=True, slots=True)
class Wanted:
    """A session that wants a box."""

    session: SessionId
    group: str
    seats: int = 1


@dataclass(slots=True)
class Waiting:
    """One in the queue. `since` in monotonic seconds."""

    wanted: Wanted
    since: float
    told: bool = False


def decide_seat_count(asked: int, total_mb: int | None, floor_mb: int) -> int:
    """Return how many seats there are: as asked, else by the machine's memory without what is to stay free."""
    if asked > 0:
        return asked
    return FEWEST if total_mb is None else max(FEWEST, min(MOST, (total_mb - floor_mb) // SEAT_MB))


def decide_seats_of(limits: Limits) -> int:
    """Return how many seats a box with these limits takes."""
    return max(1, -(-limits.memory_bytes // LIMIT_OF_A_SEAT))


def describe_place(place: int, at_work: int) -> str:
    """Say to a chat that it waits."""
    others = "1 assistant is" if at_work == 1 else f"{at_work} assistants are"
    return f"{others} at work, as many as may be at once. You are number {place} in the queue; I begin in your turn."


class Seats:
    """The seats and the queue for them. `has_memory`: whether this machine has room for another box now."""

    def __init__(self, count: int, monotonic: Callable[[], float], has_memory: Callable[[], bool]) -> None:
        self.count = count
        self._monotonic = monotonic
        self._has_memory = has_memory
        self._held: dict[SessionId, int] = {}  # seats of boxes that run, are being started, or were called
        self._called: set[SessionId] = set()  # may start, and have not begun to
        self._queues: dict[str, deque[Waiting]] = {}  # by agent group, the next to be served first
        self.call: Callable[[SessionId], None] = lambda session: None  # set by host.py

    def take(self, wanted: Wanted) -> bool:
        """Take a seat; False: the session waits now. One that was called has its seat already."""
        if wanted.session in self._held:
            self._called.discard(wanted.session)
            return True
        if not self._queues and self._fits(wanted):
            self._held[wanted.session] = wanted.seats
            return True
        if not any(waiting.wanted.session == wanted.session for waiting in self.in_order()):
            self._queues.setdefault(wanted.group, deque()).append(Waiting(wanted, self._monotonic()))
        return False

    def leave(self, session: SessionId) -> None:
        """Give back a seat or a place in the queue; the next ones are called."""
        self._drop(session)
        self._advance()

    def _drop(self, session: SessionId) -> None:
        self._held.pop(session, None)
        self._called.discard(session)
        for group, queue in list(self._queues.items()):
            left = deque(waiting for waiting in queue if waiting.wanted.session != session)
            if left:
                self._queues[group] = left
            else:
                del self._queues[group]

    def keep(self, due: set[SessionId], known: set[SessionId]) -> None:
        """Drop those of `known` (unseated before `due` was read) for whom nothing is due any more."""
        for session in known - due:
            if session not in self._held or session in self._called:
                self._drop(session)
        self._advance()

    def unseated(self) -> set[SessionId]:
        """Return who waits, or was called and has not begun."""
        return self._called | {waiting.wanted.session for waiting in self.in_order()}

    def in_order(self) -> Iterator[Waiting]:
        """Yield who waits in the order in which they are served, as far as is known now."""
        queues = [deque(queue) for queue in self._queues.values()]
        while queues:
            for queue in queues:
                yield queue.popleft()
            queues = [queue for queue in queues if queue]

    def places(self) -> dict[str, int]:
        """Return the place of each session that waits, from 1."""
        return {waiting.wanted.session: place for place, waiting in enumerate(self.in_order(), 1)}

    @property
    def at_work(self) -> int:
        """How many boxes have a seat."""
        return len(self._held)

    @property
    def short(self) -> int:
        """How many seats are missing for those who wait."""
        wanted = sum(waiting.wanted.seats for waiting in self.in_order())
        return wanted - max(0, self.count - sum(self._held.values())) if wanted else 0

    @property
    def is_pressed(self) -> bool:
        """Whether somebody has waited so long that boxes at work take nothing more."""
        now = self._monotonic()
        return any(now - waiting.since > PATIENCE_SECONDS for waiting in self.in_order())

    def seats_of(self, session: SessionId) -> int:
        """Return how many seats a session has."""
        return self._held.get(session, 0)

    def take_untold(self) -> list[tuple[SessionId, str]]:
        """Return (session, words) for who has waited a while and was not told; each once."""
        now = self._monotonic()
        told: list[tuple[SessionId, str]] = []
        for place, waiting in enumerate(self.in_order(), 1):
            if not waiting.told and now - waiting.since >= TELL_SECONDS:
                waiting.told = True
                told.append((waiting.wanted.session, describe_place(place, self.at_work)))
        return told

    def _fits(self, wanted: Wanted) -> bool:
        if not self._held:
            return True  # however large it is, and however short memory: a box alone can always run
        return sum(self._held.values()) + wanted.seats <= self.count and self._has_memory()

    def _advance(self) -> None:
        """Call those whose turn it is. Who takes several seats is waited for: nobody smaller goes before it."""
        while self._queues:
            group, queue = next(iter(self._queues.items()))
            wanted = queue[0].wanted
            if not self._fits(wanted):
                return
            queue.popleft()
            del self._queues[group]
            if queue:
                self._queues[group] = queue  # behind the other groups
            self._held[wanted.session] = wanted.seats
            self._called.add(wanted.session)
            self.call(wanted.session)
