"""Who may call at all: the listeners of each live box, how many connections they have, and whether a turn is open.

In: listeners and turns from the host. Out: accepted connections with the box they belong to.
Never: takes a caller's word for who it is; the listener a connection arrives on says it.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any

from nanoclaw.gateway.policy import Caller
from nanoclaw.gateway.turns import Turns

ACCEPT_AT_ONCE = 16
ACCEPT_PAUSE_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Limits:
    """What one box may take of the gateway; sizes in bytes, times in seconds."""

    connections: int = 64
    header_bytes: int = 64 * 1024
    body_bytes: int = 40 * 1024 * 1024  # the Messages API takes 32 MB
    idle_seconds: float = 300.0  # between calls on one connection
    header_seconds: float = 15.0  # from the first byte of a head to its last
    stall_seconds: float = 60.0  # without a byte of a request's body, or with nobody reading an answer
    connect_seconds: float = 10.0
    answer_seconds: float = 600.0  # without a byte of the answer; models think long
    turn_grace_seconds: float = 0.05  # for the host's word of a turn that is on its way
    refusals_at_once: int = 100  # then they are answered at the rate below: each is a row that is kept for ever
    refusals_per_second: float = 2.0
    calls_at_once: int = 1000  # the same for calls that are allowed; `npm install` makes hundreds in a row
    calls_per_second: float = 10.0
    hold_seconds: float = 100.0  # for a person's word; an agent's shell gives a command two minutes
    holds_of_box: int = 4
    holds_of_all: int = 50
    handshakes_at_once: int = 100  # the same for TLS that ends here, which costs 2 ms of everybody's time
    handshakes_per_second: float = 10.0


Spawn = Callable[[Coroutine[Any, Any, None]], "asyncio.Task[None]"]


@dataclass(slots=True)
class Pace:
    """Lets `burst` through at once, after that `per_second`, each in its turn."""

    per_second: float
    burst: int
    free_at: float = float("-inf")  # when all that was let through is made up for

    async def wait(self) -> None:
        """Wait until it is one's turn."""
        now = asyncio.get_running_loop().time()
        self.free_at = max(self.free_at, now) + 1 / self.per_second
        delay = self.free_at - now - self.burst / self.per_second
        if delay > 0:
            await asyncio.sleep(delay)


@dataclass(eq=False, slots=True)
class Box:
    """One live box. `charge` is who pays for the open turn, None outside a turn; `attempt` is that turn's."""

    caller: Caller
    listeners: list[socket.socket]
    refusals: Pace
    calls: Pace
    handshakes: Pace
    telemetry: Pace  # of refusals that are only the agent's own program reporting home, so that others do not wait
    turns: Turns = field(default_factory=Turns)  # of its connections in the loop; no turn of the agent's
    charge: str | None = None
    attempt: int = 1
    turn_opened: asyncio.Event = field(default_factory=asyncio.Event)
    connections: set[asyncio.Task[None]] = field(default_factory=set)
    paused: bool = False

    async def find_charge(self, grace_seconds: float) -> str | None:
        """Return who pays for a call made now; waits the grace for a turn whose announcement is under way."""
        if self.charge is None:
            try:
                async with asyncio.timeout(grace_seconds):
                    await self.turn_opened.wait()
            except TimeoutError:
                return None
        return self.charge


class Boxes:
    """Every live box; `serve` is what handles one accepted connection."""

    def __init__(
        self, spawn: Spawn, serve: Callable[[Box, socket.socket], Coroutine[Any, Any, None]], limits: Limits
    ) -> None:
        self._spawn = spawn
        self._serve = serve
        self._limits = limits
        self._boxes: dict[tuple[str, int], Box] = {}

    def __iter__(self) -> Iterator[Box]:
        """Go through the live boxes."""
        return iter(self._boxes.values())

    def __len__(self) -> int:
        """Count the live boxes."""
        return len(self._boxes)

    def add(self, caller: Caller, listeners: list[socket.socket]) -> None:
        """Accept on these listeners for this caller, in place of what it had."""
        self.remove(caller.session, caller.fence)
        limits = self._limits
        refusals = Pace(limits.refusals_per_second, limits.refusals_at_once)
        calls = Pace(limits.calls_per_second, limits.calls_at_once)
        handshakes = Pace(limits.handshakes_per_second, limits.handshakes_at_once)
        telemetry = Pace(limits.refusals_per_second, limits.refusals_at_once)
        box = Box(caller, listeners, refusals, calls, handshakes, telemetry)
        self._boxes[caller.session, caller.fence] = box
        for listener in listeners:
            listener.setblocking(False)
        self._resume(box)

    def remove(self, session: str, fence: int) -> None:
        """Close a box's listeners and break its connections."""
        box = self._boxes.pop((session, fence), None)
        if box is None:
            return
        self._pause(box)
        for listener in box.listeners:
            listener.close()
        box.listeners.clear()
        for task in box.connections:
            task.cancel()

    def open_turn(self, session: str, fence: int, charge: str, attempt: int = 1) -> None:
        """Allow calls, charged to `charge`; without effect for a box that is gone."""
        if (box := self._boxes.get((session, fence))) is not None:
            box.charge, box.attempt = charge, attempt
            box.turn_opened.set()

    def close_turn(self, session: str, fence: int) -> None:
        """Allow no new calls."""
        if (box := self._boxes.get((session, fence))) is not None:
            box.charge = None
            box.turn_opened.clear()

    def close(self) -> None:
        """Close everything."""
        for session, fence in list(self._boxes):
            self.remove(session, fence)

    def _accept(self, box: Box, listener: socket.socket) -> None:
        for _ in range(ACCEPT_AT_ONCE):
            if len(box.connections) >= self._limits.connections:
                self._pause(box)
                return
            try:
                sock, _ = listener.accept()
            except BlockingIOError:
                return
            except OSError:  # out of descriptors, or a connection that went before it was taken
                self._pause(box)
                asyncio.get_running_loop().call_later(ACCEPT_PAUSE_SECONDS, self._resume, box)
                return
            sock.setblocking(False)
            task = self._spawn(self._serve(box, sock))
            box.connections.add(task)
            task.add_done_callback(lambda ended: self._forget(box, ended))

    def _forget(self, box: Box, task: asyncio.Task[None]) -> None:
        box.connections.discard(task)
        if box.paused:
            self._resume(box)

    def _pause(self, box: Box) -> None:
        box.paused = True
        for listener in box.listeners:
            asyncio.get_running_loop().remove_reader(listener.fileno())

    def _resume(self, box: Box) -> None:
        box.paused = False
        for listener in box.listeners:
            asyncio.get_running_loop().add_reader(listener.fileno(), self._accept, box, listener)
