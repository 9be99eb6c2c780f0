"""A box's side of one connection: heads in, answers out, each step bounded in time and size. Decides nothing.

In: bytes of the box, hostile. Out: h11 events. Fails: OSError or TimeoutError, a client that went or stalls;
h11.RemoteProtocolError, what came is not HTTP; `Failure`, a call that ends with an API error.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable

import h11
import msgspec

from nanoclaw.gateway.boxes import Limits
from nanoclaw.gateway.inject import Headers
from nanoclaw.gateway.tls import Incoming, Outgoing
from nanoclaw.gateway.turns import Turns

READ_BYTES = 64 * 1024
SPOKEN = (b"1.0", b"1.1")
DRAIN_BYTES = 1024 * 1024
GATHER_BYTES = 32 * 1024
DRAIN_SECONDS = 2.0
FREE_BYTES = 4096  # of a call: what is longer waits for its turn, read by read
TURN_BYTES = 16 * 1024
MOST_FIELDS = 256  # of a head
PIECES_AT_ONCE = 256  # of a body, each of which takes 15 us
_QUOTED = re.compile(r":? ?(?:bytearray\()?b[\"']")  # how h11 shows bytes


class Failure(Exception):
    """A call ends with an API error: `status`, its `kind` as the Messages API names them, and a plain sentence.

    `id` is that of the question that a person is asked about the call.
    """

    def __init__(self, status: int, kind: str, message: str, id: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.message = message
        self.id = id


def client_gone() -> Failure:
    """Return the failure of a client that closed its connection or reads nothing (nobody will hear it)."""
    return Failure(499, "api_error", "The client went away.")


class Line:
    """One client connection."""

    def __init__(self, incoming: Incoming, outgoing: Outgoing, limits: Limits, turns: Turns | None = None) -> None:
        self.turns = turns or Turns()
        self.incoming = incoming
        self.outgoing = outgoing
        self._limits = limits
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.header_bytes)
        self._begun = False  # a byte of the next head has come
        self._bodyless = False  # the request is a HEAD, whose answer has no body
        self._body_ended = False
        self._undrained = 0  # bytes since the client was last waited for
        self._pieces = 0
        self._come_bytes = 0  # of this call
        self._unsent = b""  # goes out with what else is said in this turn of the loop: one packet, one TLS record

    async def read(self, timeout_seconds: float) -> bytes:
        """Return what comes next, b"" at the end; not parsed yet (`receive`)."""
        async with asyncio.timeout(timeout_seconds):
            data = await self.incoming.read(READ_BYTES if self._come_bytes <= FREE_BYTES else TURN_BYTES)
        self._come_bytes += len(data)
        if self._come_bytes > FREE_BYTES:
            await self.turns.take()
        return data

    async def watch(self) -> bytes:
        """Return what comes next, whenever that is."""
        return await self.incoming.read(READ_BYTES)

    def receive(self, data: bytes) -> None:
        """Give bytes to the parser."""
        self._begun = self._begun or bool(data)
        self._http.receive_data(data)

    def write(self, raw: bytes) -> None:
        """Send bytes that are not HTTP."""
        self.flush()
        self.outgoing.write(raw)

    async def next_request(self) -> h11.Request | None:
        """Return the next head, None when the client is done."""
        loop = asyncio.get_running_loop()
        deadline: float | None = None
        self._bodyless = False  # what is no request is answered with a body, also behind a HEAD
        while (event := self._http.next_event()) is h11.NEED_DATA:
            if self._begun and deadline is None:
                deadline = loop.time() + self._limits.header_seconds
            self.receive(await self.read(self._limits.idle_seconds if deadline is None else deadline - loop.time()))
        if not isinstance(event, h11.Request):
            return None
        self._bodyless = event.method == b"HEAD"
        if event.http_version not in SPOKEN:
            raise h11.RemoteProtocolError("only HTTP/1.1 and HTTP/1.0 are spoken", error_status_hint=505)
        if len(event.headers) > MOST_FIELDS:
            raise h11.RemoteProtocolError(f"it has more than {MOST_FIELDS} header fields", error_status_hint=431)
        self._body_ended = False
        self._come_bytes = 0
        return event

    async def next_body(self, before_waiting: Callable[[], Awaitable[None]] | None = None) -> bytes | None:
        """Return the next piece of the request's body, None at its end and after it; one may do something first when
        it has not come yet."""
        if self._body_ended:
            return None
        while (event := self._http.next_event()) is h11.NEED_DATA:
            if before_waiting is not None:
                await before_waiting()
            self.receive(await self.read(self._limits.stall_seconds))
        if isinstance(event, h11.Data):
            self._pieces += 1
            if self._pieces % PIECES_AT_ONCE == 0:
                await self.turns.take()  # 64 KiB may come in chunks of a byte
            return bytes(event.data)
        self._begun = False
        self._body_ended = True
        return None

    async def hold(self, most_bytes: int) -> tuple[bytes, bool]:
        """Return the first `most_bytes` of the body (a little more, as it came) and whether that is all of it."""
        self.go_on()
        pieces: list[bytes] = []
        size = 0
        while size <= most_bytes and (piece := await self.next_body()) is not None:
            pieces.append(piece)
            size += len(piece)
        return b"".join(pieces), self._body_ended

    async def ends_here(self) -> bool:
        """Whether a request without a body is all that has come so far."""
        return await self.next_body() is None and not self._http.trailing_data[0]

    async def accept_tunnel(self) -> None:
        """Answer a CONNECT with 200; from then on only `incoming` and `outgoing` are used."""
        await self._write(self._http.send(h11.Response(status_code=200, headers=[], reason=b"Connection established")))
        self.flush()

    def go_on(self) -> None:
        """Tell a client that asked whether to send its body (`Expect: 100-continue`) to do so."""
        if self._http.they_are_waiting_for_100_continue:
            self.write(self._http.send(h11.InformationalResponse(status_code=100, headers=[])) or b"")

    def take_rest(self) -> bytes:
        """Return what has come behind a request that was answered with 101."""
        return self._http.trailing_data[0]

    async def send(self, event: h11.Response | h11.InformationalResponse | h11.Data | h11.EndOfMessage) -> None:
        """Send and wait while the client is slow. Raises Failure when it went or reads nothing for too long."""
        await self._write(self._http.send(event))

    async def _write(self, data: bytes | None) -> None:
        if not data:
            return
        if not self._unsent:
            asyncio.get_running_loop().call_soon(self.flush)
        self._unsent += data
        if len(self._unsent) >= GATHER_BYTES:
            self.flush()
        self._undrained += len(data)
        if self._undrained < GATHER_BYTES:
            return  # so little fits into any buffer; a timer for each piece would cost more than sending it
        self._undrained = 0
        try:
            async with asyncio.timeout(self._limits.stall_seconds):
                await self.outgoing.drain()
        except (OSError, TimeoutError):
            raise client_gone() from None

    def flush(self) -> None:
        """Send what is unsent now: bytes that are written past `send` follow."""
        data, self._unsent = self._unsent, b""
        if data:
            with contextlib.suppress(OSError):  # it broke meanwhile: whoever reads or drains is told
                self.outgoing.write(data)

    def end(self) -> None:
        """Say that nothing more comes."""
        self.flush()
        self.outgoing.write_eof()

    async def answer(self, failure: Failure) -> None:
        """Answer with an API error. Raises ConnectionAbortedError when an answer has begun: breaking off tells it."""
        if self._http.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:
            raise ConnectionAbortedError
        error = {"type": failure.kind, "message": failure.message} | ({"id": failure.id} if failure.id else {})
        body = msgspec.json.encode({"type": "error", "error": error})
        headers: Headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        if failure.status != 403:
            headers.append((b"connection", b"close"))
        await self.send(h11.Response(status_code=failure.status, headers=headers, reason=b""))
        if not self._bodyless:
            await self.send(h11.Data(data=body))
        await self.send(h11.EndOfMessage())

    async def start_next(self) -> bool:
        """Return whether the connection can carry another call; what is left of a refused body is read away first."""
        if self._http.our_state is not h11.DONE:
            return False
        if self._http.their_state is not h11.DONE:
            with contextlib.suppress(TimeoutError, h11.RemoteProtocolError):
                async with asyncio.timeout(DRAIN_SECONDS):
                    await self._drain_body()
        if self._http.their_state is not h11.DONE:
            return False
        self._begun = bool(self._http.trailing_data[0])
        self._http.start_next_cycle()
        return True

    async def linger(self) -> None:
        """End our side, then read away what still comes for a moment: closing at once would destroy the answer."""
        drained = 0
        self.flush()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                await self.outgoing.drain()
                self.end()
                while drained < DRAIN_BYTES and (data := await self.incoming.read(READ_BYTES)):
                    drained += len(data)

    async def _drain_body(self) -> None:
        drained = 0
        while drained < DRAIN_BYTES and (piece := await self.next_body()) is not None:
            drained += len(piece)


def plain_fault(error: h11.ProtocolError) -> str:
    """Return what is wrong with HTTP, without the bytes that are: a query, a body or a secret may be in them."""
    return _QUOTED.split(str(error), maxsplit=1)[0]


def declared_length(request: h11.Request) -> int | None:
    """Return the length a request declares, 0 when it has no body, None when it comes in chunks (h11 checked them)."""
    length = 0
    for name, value in request.headers:
        if name == b"transfer-encoding":
            return None
        if name == b"content-length":
            length = int(value)
    return length


def header_value(headers: Headers, name: bytes) -> str:
    """Return a header's values in small letters, joined by commas, "" when there is none."""
    found = [value for known, value in headers if known == name]
    return b",".join(found).decode("latin-1").strip().lower() if found else ""
