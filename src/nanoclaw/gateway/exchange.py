"""One allowed call: the request streams out, the answer streams back, redacted and counted, then its end is noted.

In: a `Call` that is already in the ledger, a connected client. Out: the answer, or a `Failure` that says why not.
Writes: the ledger's `finished` row, with usage. Never: buffers a stream, retries a call, or keeps a connection upstream
on which anything is left over.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import h11

from nanoclaw.clock import Clock
from nanoclaw.gateway import control
from nanoclaw.gateway.boxes import Limits, Spawn
from nanoclaw.gateway.budget import Purse, Reservation
from nanoclaw.gateway.ca import Certificates
from nanoclaw.gateway.custody import Custody
from nanoclaw.gateway.frames import Frames
from nanoclaw.gateway.holds import Holds
from nanoclaw.gateway.inject import Headers, strip_response
from nanoclaw.gateway.leaks import BATCH_BYTES, LeakScanner
from nanoclaw.gateway.ledger import Entry, Event, Ledger
from nanoclaw.gateway.line import Failure, Line, client_gone, header_value, plain_fault
from nanoclaw.gateway.oauth import AccessTokens
from nanoclaw.gateway.policy import Caller, Deny, Rule
from nanoclaw.gateway.rates import Rates
from nanoclaw.gateway.redact import Redactor, redact_value
from nanoclaw.gateway.rules import Rulebook
from nanoclaw.gateway.target import Target, shown
from nanoclaw.gateway.upgrade import Direction, LeakFound, LeakGate, WebSocket, upgrade_headers
from nanoclaw.gateway.upstream import Endpoint, UpstreamConnection, UpstreamError, UpstreamPool
from nanoclaw.gateway.usage import Usage, UsageReader
from nanoclaw.gateway.vault import Secret, StoredSecret
from nanoclaw.gateway.wanted import Wanted


@dataclass(frozen=True, slots=True)
class Route:
    """Where an allowed call goes, and the secret that is put on it. `rehearsed`: to the rehearsal model."""

    endpoint: Endpoint
    secret: tuple[StoredSecret, Secret] | None
    rehearsed: bool = False

    def endpoint_for(self, caller: Caller) -> Endpoint:
        """Return the endpoint with whose its connections are: of one agent group, with one secret or none."""
        return replace(self.endpoint, whose=f"{caller.group} {self.secret[0].name if self.secret else ''}")

    def is_still(self, now: Route | Deny) -> bool:
        """Whether a call would go there now too, with the secret as it was set; OAuth access may have been renewed."""
        return isinstance(now, Route) and now.endpoint == self.endpoint and _as_set(now) == _as_set(self)


def _as_set(route: Route) -> tuple[object, ...]:
    return (route.secret[0].name, route.secret[0].hosts, route.secret[0].set_at) if route.secret else ()


@dataclass(frozen=True, slots=True)
class Desk:
    """What every connection shares."""

    rules: Rulebook
    rates: Rates
    purse: Purse
    holds: Holds
    certificates: Certificates
    find_route: Callable[[Rule, Target], Route | Deny]
    custody: Custody
    access: AccessTokens
    secret_values: Callable[[], Wanted]
    ledger: Ledger
    pool: UpstreamPool
    clock: Clock
    limits: Limits
    spawn: Spawn
    tell: Callable[[control.GatewayEvent], None]


@dataclass(slots=True)
class Call:
    """An allowed call on its way; `entry` is its row in the ledger, `number` that row's.

    `held` is what came of its body before it was allowed, already scanned. `leak` is set when the rest of the body
    held a secret: the call was broken off and is to be refused. `answered` is the status with which the upstream
    did, 0 when it did not; `status` is that, or what was said in its place.
    """

    number: int
    entry: Entry
    rule: Rule
    route: Route
    head: h11.Request
    held: bytes
    scanner: LeakScanner
    reservation: Reservation
    started_at: float
    in_turn: Callable[[], bool]
    leak: Deny | None = None
    status: int = 0
    answered: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0
    usage: Usage = field(default_factory=Usage)
    fault: Failure | None = None


async def exchange(desk: Desk, line: Line, call: Call) -> None:
    """Make the call and note its end. Raises Failure."""
    try:
        await _Exchange(desk, line, call).run()
    except Failure as failure:
        call.fault = call.fault or failure
        raise call.fault from None
    finally:
        _note_end(desk, call)


class _Exchange:
    def __init__(self, desk: Desk, line: Line, call: Call) -> None:
        self._desk = desk
        self._line = line
        self._call = call
        self._outward: asyncio.Task[None] | None = None

    async def run(self) -> None:
        call, desk = self._call, self._desk
        upstream: UpstreamConnection | None = None
        try:
            upstream = await desk.pool.acquire(call.route.endpoint_for(call.entry.caller), desk.limits.connect_seconds)
            upstream.pause = self._line.turns.take
            await upstream.send(call.head)
            self._line.go_on()
            self._outward = desk.spawn(self._pump(upstream))
            answer = await upstream.read_head(desk.limits.answer_seconds)
            if isinstance(answer, h11.Response):
                await self._relay(upstream, answer)
            else:
                await self._switch(upstream, answer)
        except (UpstreamError, TimeoutError, OSError, h11.LocalProtocolError) as error:
            raise call.fault or self._describe(error) from None
        finally:
            await self._stop_outward()
            if upstream is not None:
                desk.pool.release(upstream)

    async def _stop_outward(self) -> None:
        if self._outward is not None:
            self._outward.cancel()
            await asyncio.wait([self._outward])

    async def _switch(self, upstream: UpstreamConnection, answer: h11.InformationalResponse) -> None:
        """Carry a WebSocket until it ends."""
        call, line, secrets = self._call, self._line, self._desk.secret_values()
        await self._stop_outward()  # from here on nothing of the client's is HTTP
        call.status = call.answered = answer.status_code
        came, reader, writer = upstream.take_over()
        passed = redact_headers(strip_response(answer.headers), secrets)
        await line.send(h11.InformationalResponse(status_code=101, headers=upgrade_headers(passed)))
        line.flush()
        web_socket = WebSocket(self._desk.limits, call.in_turn, line.turns)
        mask = bool(call.rule.model)
        outward = Frames(lambda: LeakGate(LeakScanner(secrets, mask=mask)), masked=True)
        inward = Frames(lambda: Redactor(secrets), masked=False)
        going = Direction(line.incoming, writer, outward, self._count_sent, line.take_rest())
        self._outward = self._desk.spawn(self._carry_outward(upstream, web_socket, going))
        await web_socket.carry(Direction(reader, line.outgoing, inward, self._count_received, came))
        if call.fault is not None:
            raise call.fault

    async def _carry_outward(self, upstream: UpstreamConnection, web_socket: WebSocket, going: Direction) -> None:
        """Carry what the client says; its end, or its fault, ends the other direction too."""
        try:
            await web_socket.carry(going)
        except LeakFound as found:
            self._call.leak = leak_in("WebSocket", str(found))
            self._call.fault = Failure(403, "permission_error", self._call.leak.reason)
        except Failure as failure:
            self._call.fault = failure
        except (OSError, TimeoutError):
            self._call.fault = client_gone()
        upstream.abort()

    def _count_sent(self, size: int) -> None:
        self._call.sent_bytes += size

    def _count_received(self, size: int) -> None:
        self._call.received_bytes += size
        self._check_size()

    async def _pump(self, upstream: UpstreamConnection) -> None:
        """Pass the request's body on as it comes; then watch for a client that goes, whose call is broken off."""
        try:
            await self._pump_body(upstream)
            if data := await self._line.watch():
                self._line.receive(data)  # the next request, sent early; it is parsed after this one's answer
                return
            self._call.fault = client_gone()
        except (OSError, TimeoutError, h11.RemoteProtocolError) as error:
            said = plain_fault(error) if isinstance(error, h11.RemoteProtocolError) else str(error)
            self._call.fault = Failure(400, "invalid_request_error", f"The request broke off: {said}.")
        except Failure as failure:
            self._call.fault = failure
        upstream.abort()

    async def _pump_body(self, upstream: UpstreamConnection) -> None:
        """Pass on what was held, then the rest, each piece scanned; what may be the beginning of a secret waits."""
        call, limits = self._call, self._desk.limits
        came = len(call.held)
        await self._send(upstream, call.held)
        while (piece := await self._line.next_body(lambda: self._flush(upstream))) is not None:
            came += len(piece)
            if came > limits.body_bytes:
                raise too_large(limits)
            passed, found = call.scanner.feed(piece)
            self._stop_at(found)
            await self._send(upstream, passed)
        rest, found = call.scanner.finish()
        self._stop_at(found)
        await self._send(upstream, rest)
        with contextlib.suppress(OSError):
            await upstream.send(h11.EndOfMessage())

    async def _send(self, upstream: UpstreamConnection, piece: bytes) -> None:
        if not piece:
            return
        self._call.sent_bytes += len(piece)
        with contextlib.suppress(OSError):  # an upstream that broke off is reported by who reads its answer
            await upstream.send(h11.Data(data=piece))

    async def _flush(self, upstream: UpstreamConnection) -> None:
        with contextlib.suppress(OSError):
            await upstream.flush()

    def _stop_at(self, found: str | None) -> None:
        if found is not None:
            self._call.leak = leak_in("body", found)
            raise Failure(403, "permission_error", self._call.leak.reason)

    async def _relay(self, upstream: UpstreamConnection, answer: h11.Response) -> None:
        """Stream the answer to the client, redacted, at the pace of the slower side.

        Identity was asked for. What comes compressed all the same cannot be redacted: it passes only where no secret
        was put on, so that none can be in it (mirrors serve archives that way).
        """
        call, line = self._call, self._line
        headers = list(answer.headers)
        encoding = header_value(headers, b"content-encoding")
        if encoding not in {"", "identity"} and call.route.secret is not None:
            raise UpstreamError(f"it answered in an encoding that cannot be checked ({shown(encoding)})")
        call.status = call.answered = answer.status_code
        usage = UsageReader(header_value(headers, b"content-type") if call.rule.model else "")
        secrets = self._desk.secret_values()
        redactor = Redactor(secrets)
        passed = redact_headers(strip_response(headers), secrets)
        await line.send(h11.Response(status_code=answer.status_code, headers=passed, reason=b""))
        while chunk := await upstream.read_body(self._desk.limits.answer_seconds):
            call.received_bytes += len(chunk)
            self._check_size()
            usage.feed(chunk)
            call.usage = usage.usage
            await line.send(h11.Data(data=redactor.feed(chunk)))
        call.usage = usage.result()
        await line.send(h11.Data(data=redactor.finish()))
        await line.send(h11.EndOfMessage())

    def _check_size(self) -> None:
        call, most = self._call, self._call.rule.answer_bytes
        if most is not None and call.received_bytes > most:
            words = f"The answer is larger than {most} bytes, the most that the rule {call.rule.name!r} lets through."
            raise Failure(502, "api_error", words)

    def _describe(self, error: Exception) -> Failure:
        status, said = (504, "it did not answer in time") if isinstance(error, TimeoutError) else (502, str(error))
        if isinstance(error, ssl.SSLError):
            said = "the encrypted connection broke"
        self._call.status = self._call.status or status
        what = "The rehearsal model" if self._call.route.rehearsed else self._call.route.endpoint.authority
        return Failure(status, "api_error", f"{what} could not be asked: {said}. The call may be tried again.")


def _note_end(desk: Desk, call: Call) -> None:
    """Write down how a call ended and tell the host; nobody waits for it."""
    caller = call.entry.caller
    took_ms = round((desk.clock.monotonic() - call.started_at) * 1000)
    allowed = call.entry
    ended = Entry(
        Event.FINISHED,
        caller,
        charge=allowed.charge,
        method=allowed.method,
        host=allowed.host,
        path=allowed.path,
        rule=allowed.rule,
        reason=call.fault.message if call.fault else "",
        call=call.number,
        status=call.status,
        sent_bytes=call.sent_bytes,
        received_bytes=call.received_bytes,
        took_ms=took_ms,
    )
    spent = desk.purse.settle(call.reservation, call.usage, call.answered, call.sent_bytes)
    usage = spent.usage if spent else Usage()
    desk.ledger.submit(ended, spent)
    desk.tell(
        control.CallFinished(
            session=caller.session,
            fence=caller.fence,
            group=caller.group,
            charge=call.entry.charge,
            status=call.status,
            model=usage.model,
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            took_ms=took_ms,
        )
    )


async def scan(line: Line, scanner: LeakScanner, body: bytes) -> tuple[bytes, str | None]:
    """Return what `LeakScanner.feed` does, looked at in parts: a hostile mebibyte takes half a second."""
    held: list[bytes] = []
    for begin in range(0, len(body), BATCH_BYTES):
        passed, found = scanner.feed(body[begin : begin + BATCH_BYTES])
        if found is not None:
            return b"", found
        held.append(passed)
        if len(body) > BATCH_BYTES:
            await line.turns.take()
    return b"".join(held), None


def redact_headers(headers: Headers, wanted: Wanted) -> Headers:
    """Return headers with every secret blotted out; one whose very name holds a secret is dropped."""
    if not wanted.secrets.find_spans(b"\n".join([part for header in headers for part in header])):
        return headers  # most answers: all of it is looked at in one piece
    if wanted.secrets.find_spans(b"\n".join([name for name, _ in headers])):
        headers = [(name, value) for name, value in headers if not wanted.secrets.find_spans(name)]
    return [(name, redact_value(value, wanted)) for name, value in headers]


def leak_in(where: str, found: str) -> Deny:
    """Return the refusal of a call that would carry a secret out."""
    return Deny("leak", f"The {where} of the request holds {found}, and nothing secret leaves. Take it out.")


def too_large(limits: Limits) -> Failure:
    """Return the failure of a request beyond the limit."""
    message = f"The request is larger than {limits.body_bytes // (1024 * 1024)} MiB, the most a call may carry."
    return Failure(413, "request_too_large", message)
