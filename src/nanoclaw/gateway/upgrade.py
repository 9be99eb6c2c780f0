"""A WebSocket that a rule allows: messages both ways, scanned on the way out and redacted on the way back.

In: a call that asked for a WebSocket and was answered with 101. Out: both directions until one side ends, nobody says
anything for too long, or the turn is over. Never: compresses (what is compressed cannot be looked at), or goes on after
the turn that pays for it. Fails: `Failure` that says why it was broken off; UpstreamError, TimeoutError, OSError.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import h11

from nanoclaw.gateway.boxes import Limits
from nanoclaw.gateway.frames import Frames, Violation
from nanoclaw.gateway.inject import Headers
from nanoclaw.gateway.leaks import LeakScanner
from nanoclaw.gateway.line import READ_BYTES, Failure, header_value
from nanoclaw.gateway.tls import Incoming, Outgoing
from nanoclaw.gateway.turns import Turns

SLICE_BYTES = 2048  # of a thousand frames at most, each of which takes 25 us: what one side does in one go
TURN_OVER = "The turn is over, and the WebSocket with it."
SILENT = "Nothing was said on the WebSocket for too long."


class LeakFound(Exception):
    """A message would carry a secret out; the message of this says what kind."""


@dataclass(slots=True)
class Direction:
    """One direction of a WebSocket: what is read, filtered and written, and how many bytes that were."""

    incoming: Incoming
    outgoing: Outgoing
    frames: Frames
    count: Callable[[int], None]
    first: bytes = b""  # what came before the direction was opened


class LeakGate:
    """A `Gate` that lets no secret out."""

    def __init__(self, scanner: LeakScanner) -> None:
        self._scanner = scanner

    def feed(self, piece: bytes) -> bytes:
        """Return what may go out. Raises LeakFound."""
        return self._checked(*self._scanner.feed(piece))

    def finish(self) -> bytes:
        """Return the rest. Raises LeakFound."""
        return self._checked(*self._scanner.finish())

    def _checked(self, passed: bytes, found: str | None) -> bytes:
        if found is not None:
            raise LeakFound(found)
        return passed


class WebSocket:
    """Both directions of one; `in_turn` says whether the turn that pays is still open."""

    def __init__(self, limits: Limits, in_turn: Callable[[], bool], turns: Turns) -> None:
        self._turns = turns
        self._limits = limits
        self._in_turn = in_turn
        self._moved_at = 0.0

    async def carry(self, direction: Direction) -> None:
        """Carry one direction until its end. Raises Failure, LeakFound."""
        data = direction.first or await self._read(direction.incoming)
        while data:
            if not self._in_turn():
                raise Failure(403, "permission_error", TURN_OVER)
            for begin in range(0, len(data), SLICE_BYTES):
                await self._pass(direction, data[begin : begin + SLICE_BYTES])
                await self._turns.take()
            data = await self._read(direction.incoming)

    async def _pass(self, direction: Direction, data: bytes) -> None:
        try:
            passed = direction.frames.feed(data)
        except Violation as violation:
            raise Failure(400, "invalid_request_error", f"This is no WebSocket: {violation}.") from None
        direction.count(len(passed))
        if passed:
            direction.outgoing.write(passed)
            async with asyncio.timeout(self._limits.stall_seconds):
                await direction.outgoing.drain()

    async def _read(self, incoming: Incoming) -> bytes:
        """Return what comes next; silence counts only when it is on both sides."""
        loop = asyncio.get_running_loop()
        self._moved_at = loop.time()
        while True:
            until = self._moved_at + self._limits.idle_seconds
            try:
                async with asyncio.timeout_at(until):
                    return await incoming.read(READ_BYTES)
            except TimeoutError:
                if self._moved_at + self._limits.idle_seconds <= loop.time():
                    raise Failure(408, "timeout_error", SILENT) from None


def wants_websocket(request: h11.Request) -> bool:
    """Whether a request asks for a WebSocket (RFC 6455 section 4.2.1); any other upgrade is simply not made."""
    headers = list(request.headers)
    options = [option.strip() for option in header_value(headers, b"connection").split(",")]
    upgrades = [upgrade.strip() for upgrade in header_value(headers, b"upgrade").split(",")]
    return "upgrade" in options and "websocket" in upgrades


def upgrade_headers(headers: Headers) -> Headers:
    """Return the headers of a request or an answer that speaks of a WebSocket: no extension, so no compression."""
    kept = [(name, value) for name, value in headers if name not in {b"sec-websocket-extensions", b"content-length"}]
    return [*kept, (b"connection", b"Upgrade"), (b"upgrade", b"websocket")]
