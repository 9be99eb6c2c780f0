"""One connection of a box: parse, judge, write down, inject, stream, redact, count. Every call goes through here.

In: bytes of the box, hostile. Out: the answer of the one host the call was allowed to, or a JSON refusal.
Writes: the ledger: a refusal before the agent hears it, an allowed call before its first byte upstream, its end after.
Never: buffers a stream, follows a redirect, passes a credential of the agent's, or answers a call no rule allowed.
Fails: an upstream that fails becomes an API error the agent understands; a client that misbehaves loses its connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn, assert_never

import h11
import msgspec

from nanoclaw.clock import Clock
from nanoclaw.gateway import control, hello, policy
from nanoclaw.gateway.boxes import Box, Limits, Spawn
from nanoclaw.gateway.inject import Headers, inject, strip_request, strip_response, upstream_headers
from nanoclaw.gateway.ledger import Entry, Event, Ledger, LedgerError
from nanoclaw.gateway.policy import Allow, Deny, Form, Rule, Target
from nanoclaw.gateway.redact import Redactor, redact_value
from nanoclaw.gateway.upstream import Endpoint, UpstreamConnection, UpstreamError, UpstreamPool
from nanoclaw.gateway.usage import Usage, UsageReader
from nanoclaw.gateway.vault import Secret, StoredSecret

READ_BYTES = 64 * 1024
DRAIN_BYTES = 1024 * 1024
DRAIN_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Route:
    """Where an allowed call goes, and what is put on it; no secret for the rehearsal model."""

    endpoint: Endpoint
    secret: tuple[StoredSecret, Secret] | None


@dataclass(frozen=True, slots=True)
class Desk:
    """What every connection shares."""

    rules: tuple[Rule, ...]
    find_route: Callable[[Rule], Route | None]
    secret_values: Callable[[], tuple[bytes, ...]]
    ledger: Ledger
    pool: UpstreamPool
    clock: Clock
    limits: Limits
    spawn: Spawn
    tell: Callable[[control.GatewayEvent], None]


class _Failure(Exception):
    """This call ends with an API error: `status`, its type and a plain sentence."""

    def __init__(self, status: int, kind: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.message = message


@dataclass(slots=True)
class _Call:
    """An allowed call on its way."""

    number: int
    charge: str
    target: Target
    allowed: Allow
    started_at: float
    status: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0
    usage: Usage = Usage()
    fault: _Failure | None = None  # why the request's body was broken off


async def serve_connection(desk: Desk, box: Box, sock: socket.socket) -> None:
    """Serve one accepted connection until it ends; never raises but for cancellation."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=READ_BYTES, loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    transport, _ = await loop.connect_accepted_socket(lambda: protocol, sock)
    writer = asyncio.StreamWriter(transport, protocol, reader, loop)
    connection = _Connection(desk, box, reader, writer)
    try:
        await connection.run()
        writer.close()
    except (OSError, TimeoutError, _Failure):
        pass  # the client went, or sent nothing for too long: nothing is owed to it
    finally:
        if not writer.is_closing():
            transport.abort()


class _Connection:
    """One client connection, one call after the other."""

    def __init__(self, desk: Desk, box: Box, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._desk = desk
        self._box = box
        self._reader = reader
        self._writer = writer
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=desk.limits.header_bytes)
        self._begun = False  # a byte of the next head has come

    async def run(self) -> None:
        """Serve calls until the client or a limit ends the connection. Raises OSError, TimeoutError."""
        first = await self._read(self._desk.limits.idle_seconds)
        if first[:1] == bytes((hello.HANDSHAKE,)):
            await self._refuse_tls(first)
            return
        self._receive(first)
        try:
            while (request := await self._next_request()) is not None:
                await self._serve(request)
                if not await self._start_next():
                    return
        except h11.RemoteProtocolError as error:
            await self._refuse_malformed(error)

    async def _read(self, timeout_seconds: float) -> bytes:
        async with asyncio.timeout(timeout_seconds):
            return await self._reader.read(READ_BYTES)

    def _receive(self, data: bytes) -> None:
        self._begun = self._begun or bool(data)
        self._http.receive_data(data)

    async def _next_request(self) -> h11.Request | None:
        """Return the next head, None when the client is done. Raises RemoteProtocolError for what is not HTTP."""
        limits = self._desk.limits
        deadline: float | None = None
        while (event := self._http.next_event()) is h11.NEED_DATA:
            loop = asyncio.get_running_loop()
            if self._begun and deadline is None:
                deadline = loop.time() + limits.header_seconds
            self._receive(await self._read(limits.idle_seconds if deadline is None else deadline - loop.time()))
        return event if isinstance(event, h11.Request) else None

    async def _serve(self, request: h11.Request) -> None:
        """Take one request from verdict to answer."""
        target = _read_target(request)
        verdict = policy.decide(target, self._desk.rules)
        charge = None
        if isinstance(verdict, Allow):
            charge = await self._box.find_charge(self._desk.limits.turn_grace_seconds)
            if charge is None:
                verdict = Deny("turn", "No turn is open, so nothing may be called. Calls are made while the agent answers.")
        try:
            match verdict:
                case Deny():
                    await self._refuse(target, verdict, _Failure(403, "permission_error", verdict.reason))
                case Allow():
                    await self._forward(request, target, verdict, charge or "")
                case _:
                    assert_never(verdict)
        except _Failure as failure:
            await self._answer_failure(failure)

    async def _refuse(self, target: Target, denied: Deny, failure: _Failure, host: str = "") -> NoReturn:
        """Write a refusal down, then tell the host, then the agent. Raises the failure that the agent is told."""
        entry = Entry(
            Event.REFUSED,
            self._box.caller,
            method=target.method,
            host=host or target.host,
            path=target.path,
            rule=denied.rule,
            reason=denied.reason,
            status=failure.status,
        )
        await self._record(entry)
        caller = self._box.caller
        told = (policy.shown(text) for text in (entry.method, entry.host, entry.path))
        self._desk.tell(
            control.CallRefused(caller.session, caller.fence, caller.group, *told, denied.rule, denied.reason)
        )
        raise failure

    async def _record(self, entry: Entry) -> int:
        try:
            return await self._desk.ledger.record(entry)
        except LedgerError as error:
            message = f"{error} Nothing is called while it cannot be written down; see `nanoclaw doctor`."
            raise _Failure(503, "api_error", message) from None

    async def _forward(self, request: h11.Request, target: Target, allowed: Allow, charge: str) -> None:
        """Make an allowed call."""
        started_at = self._desk.clock.monotonic()
        length = _declared_length(request)
        if length is not None and length > self._desk.limits.body_bytes:
            failure = _too_large(self._desk.limits)
            await self._refuse(target, Deny("size", failure.message), failure, allowed.rule.host)
        route = self._desk.find_route(allowed.rule)
        if route is None:
            reason = "No model key is set and the rehearsal model is not running. Run `nanoclaw vault set anthropic`."
            await self._refuse(target, Deny("key", reason), _Failure(503, "api_error", reason), allowed.rule.host)
        headers = upstream_headers(
            strip_request(request.headers), route.endpoint.authority, None if length is None else b"%d" % length
        )
        if route.secret is not None:
            headers = inject(headers, *route.secret, allowed.rule.host)
        rule, host = (allowed.rule.name, allowed.rule.host) if route.secret else ("rehearsal", "rehearsal")
        entry = Entry(Event.ALLOWED, self._box.caller, charge, target.method, host, target.path, rule)
        call = _Call(await self._record(entry), charge, target, allowed, started_at)
        try:
            await self._exchange(call, route, h11.Request(method=request.method, target=allowed.path, headers=headers))
        finally:
            self._finish(call, entry)

    async def _exchange(self, call: _Call, route: Route, head: h11.Request) -> None:
        """Send the request and relay the answer; the connection upstream is kept only when all ended cleanly."""
        desk = self._desk
        upstream: UpstreamConnection | None = None
        pump: asyncio.Task[None] | None = None
        try:
            upstream = await desk.pool.acquire(route.endpoint, desk.limits.connect_seconds)
            await upstream.send(head)
            if self._http.they_are_waiting_for_100_continue:
                self._writer.write(self._http.send(h11.InformationalResponse(status_code=100, headers=[])) or b"")
            pump = desk.spawn(self._pump_request(call, upstream))
            answer = await upstream.read_head(desk.limits.answer_seconds)
            await self._relay(call, upstream, answer)
        except (UpstreamError, TimeoutError, OSError) as error:
            call.fault = call.fault or self._describe(call, route, error)
            raise call.fault from None
        except _Failure as failure:
            call.fault = call.fault or failure
            raise
        finally:
            if pump is not None:
                pump.cancel()
                await asyncio.wait([pump])
            if upstream is not None:
                desk.pool.release(upstream)

    def _describe(self, call: _Call, route: Route, error: Exception) -> _Failure:
        what = route.endpoint.authority if route.secret else "The rehearsal model"
        status, said = (504, "it did not answer in time") if isinstance(error, TimeoutError) else (502, str(error))
        call.status = call.status or status
        return _Failure(status, "api_error", f"{what} could not be asked: {said}. The call may be tried again.")

    async def _pump_request(self, call: _Call, upstream: UpstreamConnection) -> None:
        """Pass the request's body on as it comes; then watch for a client that goes, whose call is broken off."""
        try:
            await self._pump_body(call, upstream)
            if data := await self._reader.read(READ_BYTES):
                self._receive(data)  # the next request, sent early; it is parsed after this one's answer
                return
            call.fault = _client_gone()
        except (OSError, TimeoutError, h11.RemoteProtocolError) as error:
            call.fault = _Failure(400, "invalid_request_error", f"The request broke off: {error}.")
        except _Failure as failure:
            call.fault = failure
        upstream.abort()

    async def _pump_body(self, call: _Call, upstream: UpstreamConnection) -> None:
        limits = self._desk.limits
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                self._receive(await self._read(limits.stall_seconds))
            elif isinstance(event, h11.Data):
                call.sent_bytes += len(event.data)
                if call.sent_bytes > limits.body_bytes:
                    raise _too_large(limits)
                with contextlib.suppress(OSError):  # an upstream that broke off is reported by who reads its answer
                    await upstream.send(h11.Data(data=bytes(event.data)))
            else:
                with contextlib.suppress(OSError):
                    await upstream.send(h11.EndOfMessage())
                self._begun = False
                return

    async def _relay(self, call: _Call, upstream: UpstreamConnection, answer: h11.Response) -> None:
        """Stream the answer to the client, redacted, at the pace of the slower side."""
        limits = self._desk.limits
        secrets = self._desk.secret_values()
        headers = list(answer.headers)
        if (encoding := _header(headers, b"content-encoding")) not in {"", "identity"}:
            raise UpstreamError(f"it answered in an encoding that cannot be checked ({policy.shown(encoding)})")
        call.status = answer.status_code
        usage = UsageReader(_header(headers, b"content-type"))
        redactor = Redactor(secrets)
        shown = [(name, redact_value(value, secrets)) for name, value in strip_response(headers)]
        await self._send(h11.Response(status_code=answer.status_code, headers=shown, reason=b""))
        while chunk := await upstream.read_body(limits.answer_seconds):
            call.received_bytes += len(chunk)
            usage.feed(chunk)
            await self._send(h11.Data(data=redactor.feed(chunk)))
        call.usage = usage.result()
        await self._send(h11.Data(data=redactor.finish()))
        await self._send(h11.EndOfMessage())

    async def _send(self, event: h11.Response | h11.Data | h11.EndOfMessage) -> None:
        """Send to the client and wait while it is slow; a client that reads nothing for too long is dropped."""
        data = self._http.send(event)
        if not data:
            return
        self._writer.write(data)
        try:
            async with asyncio.timeout(self._desk.limits.stall_seconds):
                await self._writer.drain()
        except (OSError, TimeoutError):
            raise _client_gone() from None

    def _finish(self, call: _Call, entry: Entry) -> None:
        """Write down how an allowed call ended and tell the host; nobody waits for it."""
        caller = self._box.caller
        took_ms = round((self._desk.clock.monotonic() - call.started_at) * 1000)
        reason = call.fault.message if call.fault else ""
        ended = Entry(
            Event.FINISHED,
            caller,
            charge=call.charge,
            method=entry.method,
            host=entry.host,
            path=entry.path,
            rule=entry.rule,
            reason=reason,
            call=call.number,
            status=call.status,
            sent_bytes=call.sent_bytes,
            received_bytes=call.received_bytes,
            took_ms=took_ms,
        )
        self._desk.ledger.submit(ended, call.usage)
        used = (call.usage.model, call.usage.input_tokens, call.usage.output_tokens)
        self._desk.tell(
            control.CallFinished(
                caller.session, caller.fence, caller.group, call.charge, call.status, *used, took_ms
            )
        )

    async def _answer_failure(self, failure: _Failure) -> None:
        """Answer with an API error, unless an answer has begun: then only breaking off tells the client."""
        if self._http.our_state not in {h11.IDLE, h11.SEND_RESPONSE}:
            raise ConnectionAbortedError
        body = msgspec.json.encode({"type": "error", "error": {"type": failure.kind, "message": failure.message}})
        headers: Headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        if failure.status != 403:
            headers.append((b"connection", b"close"))
        await self._send(h11.Response(status_code=failure.status, headers=headers, reason=b""))
        await self._send(h11.Data(data=body))
        await self._send(h11.EndOfMessage())

    async def _start_next(self) -> bool:
        """Return whether the connection can carry another call; what is left of a refused body is read away."""
        drained = 0
        with contextlib.suppress(TimeoutError, h11.RemoteProtocolError):
            async with asyncio.timeout(DRAIN_SECONDS):
                while self._http.their_state is h11.SEND_BODY and drained < DRAIN_BYTES:
                    event = self._http.next_event()
                    if event is h11.NEED_DATA:
                        data = await self._reader.read(READ_BYTES)
                        drained += len(data)
                        self._receive(data)
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._begun = bool(self._http.trailing_data[0])
        self._http.start_next_cycle()
        return True

    async def _refuse_malformed(self, error: h11.RemoteProtocolError) -> None:
        reason = f"The request is not valid HTTP: {error}."
        failure = _Failure(error.error_status_hint, "invalid_request_error", reason)
        try:
            await self._refuse(Target(Form.ORIGIN, "", policy.OWN_NAME, ""), Deny("http", reason), failure)
        except _Failure as told:
            await self._answer_failure(told)

    async def _refuse_tls(self, first: bytes) -> None:
        """Write down which host a TLS handshake wanted, then end it with an alert."""
        data = first
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_SECONDS):
                while not hello.is_complete(data) and (more := await self._reader.read(READ_BYTES)):
                    data += more
        target = Target(Form.TLS, "TLS", hello.find_server_name(data) or "", "")
        verdict = policy.decide(target, self._desk.rules)
        assert isinstance(verdict, Deny)
        with contextlib.suppress(_Failure):
            await self._refuse(target, verdict, _Failure(403, "permission_error", verdict.reason))
        self._writer.write(hello.ACCESS_DENIED)


def _read_target(request: h11.Request) -> Target:
    method = request.method.decode("ascii")
    return policy.parse_target(method, request.target.decode("latin-1"), _header(list(request.headers), b"host"))


def _header(headers: Headers, name: bytes) -> str:
    """Return a header's values in small letters, joined, "" when there is none."""
    return ",".join(value.decode("latin-1").strip().lower() for known, value in headers if known == name)


def _declared_length(request: h11.Request) -> int | None:
    """Return the length a request declares, 0 when it has no body, None when it comes in chunks (h11 checked them)."""
    headers = list(request.headers)
    if _header(headers, b"transfer-encoding"):
        return None
    return int(_header(headers, b"content-length") or 0)


def _client_gone() -> _Failure:
    return _Failure(499, "api_error", "The client went away.")


def _too_large(limits: Limits) -> _Failure:
    message = f"The request is larger than {limits.body_bytes // (1024 * 1024)} MiB, the most a call may carry."
    return _Failure(413, "request_too_large", message)
